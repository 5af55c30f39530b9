"""What a file says of the machine: words of the command, because no recipe says how to fit a card."""

from dataclasses import replace

from sft_runner.config.installed import USUAL, names
from sft_runner.importing.draft import NO_EFFECT, NOT_CARRIED, Draft

ONE_PROCESS = "one process on one device trains here; the plan fits it with micro-batch and checkpointing"
ATTENTION = {
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
    "flex_attention": "flex_attention",
}
"""Switches for one kernel, and the word of transformers."""
KERNELS = {"fa2": "flash_attention_2", "fa3": "flash_attention_3", "sdpa": "sdpa", "disabled": "eager"}
"""Other words for a kernel."""


def machine(
    draft: Draft,
    optimizer: str,
    half: tuple[str, ...] = ("bf16",),
    float16: tuple[str, ...] = ("fp16",),
    trained: tuple[str, ...] = (),
) -> None:
    """Optimizer, precision, checkpointing, attention and sizes of a pass. `trained`: keys of `half` that keep the
    weights that train in 16 bits too."""
    _optimizer(draft, optimizer)
    _precision(draft, half, float16, trained)
    _checkpointing(draft)
    _attention(draft)
    for key in ("per_device_eval_batch_size", "eval_batch_size"):
        if draft.has(key):
            draft.told(NO_EFFECT, key, "the hardware preset's; hardware.per_device_eval_batch_size says otherwise")
    if draft.has("dataloader_num_workers"):
        draft.told(NO_EFFECT, "dataloader_num_workers", "the hardware preset's; rows are prepared before training")
    for key in ("deepspeed", "fsdp", "fsdp_config"):
        if draft.has(key):
            draft.told(NO_EFFECT, key, f"{ONE_PROCESS}. Look at the plan with dry_run=true, or take a larger card")


def dtype(draft: Draft, key: str) -> None:
    """A precision by its name."""
    value = str(draft.value(key)).removeprefix("torch.")
    value = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}.get(value, value)
    if value in ("bfloat16", "float16", "float32"):
        draft.of_machine(key, "hardware.dtype", value)
    else:
        draft.told(NO_EFFECT, key, "the hardware preset's")


def _optimizer(draft: Draft, key: str) -> None:
    if not draft.has(key):
        return
    name = str(draft.value(key))
    name = {"adamw_hf": "adamw_torch", "adamw_8bit": "adamw_bnb_8bit"}.get(name, name)
    if name in {*USUAL["hardware.optim"], *names("hardware.optim")}:
        draft.of_machine(key, "hardware.optim", name)
    else:
        draft.told(NOT_CARRIED, key, "transformers has no such optimizer; the hardware preset's is taken, AdamW")


def trained_in_half(draft: Draft, key: str) -> None:
    """Also the weights that train have 16 bits: the finding about `key` says it, where its first word was taken."""
    index = next(index for index, one in enumerate(draft.findings) if one.key == key)
    found = draft.findings[index]
    if draft.words.get("hardware.dtype") == "bfloat16" and found.kind != NOT_CARRIED:
        draft.words["hardware.trained_dtype"] = "bfloat16"
        note = f"also the weights that train are kept in 16 bits; {found.note}"
        ours = f"{found.ours}; hardware.trained_dtype=bfloat16"
        draft.findings[index] = replace(found, ours=ours, note=note)


def _precision(draft: Draft, half: tuple[str, ...], float16: tuple[str, ...], trained: tuple[str, ...]) -> None:
    for keys, ours in ((half, "bfloat16"), (float16, "float16")):
        for key in keys:
            if not draft.has(key):
                continue
            if draft.value(key) == "auto" and key in trained:
                note = "on a card that has it the whole model is in 16 bits there: hardware.trained_dtype=bfloat16"
                draft.told(NO_EFFECT, key, f"the hardware preset's; {note}")
            elif not draft.flag(key) and draft.value(key) != "full":
                draft.told(NO_EFFECT, key, "the hardware preset's")
            else:
                draft.of_machine(key, "hardware.dtype", ours)
                if key in trained:
                    trained_in_half(draft, key)


def _checkpointing(draft: Draft) -> None:
    for key in ("gradient_checkpointing", "activation_checkpointing"):
        if not draft.has(key):
            continue
        said = draft.value(key)
        if draft.flag(key) or said in ("offload", "offload_disk", "unsloth"):
            note = "" if said is True else "without moving anything to the machine's memory"
            draft.of_machine(key, "hardware.activation_checkpointing", "full", note)
        else:
            draft.told(NO_EFFECT, key, "hardware.activation_checkpointing takes the least that fits")
    for key in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):
        if draft.has(key):
            draft.told(NO_EFFECT, key, "how it is done makes no difference to what is learned")


def _attention(draft: Draft) -> None:
    for key, name in ATTENTION.items():
        if not draft.has(key):
            continue
        if draft.flag(key):
            draft.of_machine(key, "hardware.attn_implementation", name)
        else:
            draft.told(NO_EFFECT, key, "off")
    for key in ("attn_implementation", "flash_attn"):
        if not draft.has(key):
            continue
        name = str(draft.value(key))
        name = KERNELS.get(name, name)
        if name in {*USUAL["hardware.attn_implementation"], *names("hardware.attn_implementation")}:
            draft.of_machine(key, "hardware.attn_implementation", name)
        else:
            draft.told(NO_EFFECT, key, "the model's usual kernel is taken")
