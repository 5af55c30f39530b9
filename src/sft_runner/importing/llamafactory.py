"""LLaMA-Factory's YAML or JSON: `stage`, `finetuning_type`, `dataset` with its dataset_info.json, and `template`."""

from pathlib import Path

from sft_runner.importing import fields, llamafactory_rows
from sft_runner.importing import llamafactory_keys as keys
from sft_runner.importing.draft import CHANGED, NO_EFFECT, NOT_CARRIED, Draft
from sft_runner.importing.machine import dtype, machine
from sft_runner.importing.method import Words, adapter, whole
from sft_runner.importing.model import model
from sft_runner.importing.packing import packing
from sft_runner.importing.rows import held_out
from sft_runner.importing.stage import elsewhere
from sft_runner.importing.targets import targets
from sft_runner.importing.training import Words as Course
from sft_runner.importing.training import length, training

NAME = "LLaMA-Factory"
WORDS = Words(r="lora_rank", default_alpha=None)


def known() -> frozenset[str]:
    """All of its keys."""
    return keys.KNOWN | fields.known()


def marks(values: dict[str, object]) -> int:
    """How much the keys look like LLaMA-Factory's."""
    own = ("stage", "finetuning_type", "template", "cutoff_len", "lora_rank", "lora_target", "dataset", "dataset_dir")
    return 3 * ("model_name_or_path" in values) + 2 * sum(name in values for name in own)


def translate(draft: Draft, path: Path, devices: int, folders: list[Path]) -> None:
    """Every key into one list. `folders`: where dataset_info.json may be, before the usual places."""
    draft.empty(known())
    model(draft, "model_name_or_path", "model_revision")
    _stage(draft)
    _method(draft)
    llamafactory_rows.datasets(draft, path.parent, folders)
    _template(draft)
    _data(draft)
    training(draft, Course(), devices)
    _machine(draft)
    draft.table(NO_EFFECT, keys.NO_EFFECT)
    draft.table(NOT_CARRIED, keys.NOT_CARRIED)
    fields.rest(draft)


def _stage(draft: Draft) -> None:
    stage = draft.value("stage", "sft")
    if draft.has("stage"):
        if stage == "sft":
            draft.told(NO_EFFECT, "stage", "supervised fine-tuning is what is done here")
        elif stage == "pt":
            draft.changed("stage", "data.train_on", "all", "pretraining: every token of a row is learned, as text")
            if draft.value("packing") is None:
                draft.assume("train.packing", True, "rows are packed for pretraining there")
        else:
            note = "only supervised fine-tuning is done here; of preference rows the chosen answer is learned"
            draft.told(NOT_CARRIED, "stage", f"{note}, with data.format=preference")
            elsewhere(draft, str(stage))


def _method(draft: Draft) -> None:
    """LoRA, or the whole model; the base in 8 or 4 bits."""
    kind = draft.value("finetuning_type", "lora")
    bits = str(draft.value("quantization_bit", "none"))
    if kind == "full":
        draft.told("carried", "finetuning_type", "", "method=full")
        whole(draft, WORDS)
        for key in ("quantization_bit", "loraplus_lr_ratio", "pissa_init", "pissa_iter", "adapter_name_or_path"):
            if draft.has(key):
                draft.told(NO_EFFECT, key, "the whole model trains")
        return
    said = draft.has("quantization_bit")
    if said:
        if bits in ("4", "8"):
            draft.told("carried", "quantization_bit", "", f"quantization.bits={bits}")
        else:
            draft.told(NOT_CARRIED, "quantization_bit", "bases have 8 or 4 bits here, or 16")
            bits, said = "none", False
    if draft.has("lora_target"):
        targets(draft, "lora_target")
    _pissa(draft)
    if draft.has("adapter_name_or_path"):
        folder = str(draft.value("adapter_name_or_path"))
        if "," in folder:
            draft.told(NOT_CARRIED, "adapter_name_or_path", "one adapter can be trained further: train.continue_from")
        else:
            draft.carried("adapter_name_or_path", "train.continue_from", folder)
    adapter(draft, WORDS, bits, said)
    if draft.has("finetuning_type"):
        if kind == "lora":
            draft.told("carried", "finetuning_type", "", f"method={draft.choices['method']}")
        else:
            draft.told(
                NOT_CARRIED, "finetuning_type", f"{kind} is not here; LoRA is taken, method=full is the other way"
            )


def _pissa(draft: Draft) -> None:
    """PiSSA, by one decomposition or by so many steps of a faster one."""
    steps = draft.number("pissa_iter", 16)
    if draft.has("pissa_init"):
        if draft.flag("pissa_init"):
            draft.carried("pissa_init", "lora.init_lora_weights", "pissa" if steps == -1 else "pissa_niter_16")
        else:
            draft.told(NO_EFFECT, "pissa_init", "off, as here")
    if draft.has("pissa_iter"):
        same = steps in (-1, 16) or not draft.flag("pissa_init")
        note = "with lora.init_lora_weights=pissa" if same else "16 steps are taken"
        draft.told(
            NO_EFFECT if same else CHANGED, "pissa_iter", note, "" if same else "lora.init_lora_weights=pissa_niter_16"
        )


def _template(draft: Draft) -> None:
    """The name of a template, of which here the model's own is taken."""
    if draft.has("template"):
        said = draft.value("template")
        note = f"the model's own chat template is used, not {draft.program}'s {said}; preview shows what rows become"
        draft.told(CHANGED, "template", note, "data.template=model")
    if draft.has("enable_thinking"):
        if draft.flag("enable_thinking"):
            draft.told(NO_EFFECT, "enable_thinking", "the template decides; data.chat_template_kwargs says otherwise")
        else:
            note = "for templates that read it"
            draft.changed("enable_thinking", "data.chat_template_kwargs", {"enable_thinking": False}, note)
    if draft.has("preserve_thinking"):
        if draft.flag("preserve_thinking"):
            draft.carried("preserve_thinking", "data.reasoning", "keep", "a row for each answer")
        else:
            draft.told(NO_EFFECT, "preserve_thinking", "off, as here: data.reasoning=last")


def _data(draft: Draft) -> None:
    """Length, packing, held-out rows and what carries loss."""
    length(draft, 2048, "cutoff_len")
    draft.assume("data.overlong", "truncate", "longer rows are cut there")
    packing(draft, "packing", "neat_packing")
    held_out(draft, "val_size")
    if draft.has("max_samples"):
        rows = draft.number("max_samples")
        if rows and rows >= 1:
            draft.carried("max_samples", "data.limit", int(rows), "of each data set")
        else:
            draft.told(NOT_CARRIED, "max_samples", "is no number of rows; set data.limit")
    for key, ours in (("train_on_prompt", "all"), ("mask_history", "last")):
        if draft.has(key):
            if draft.flag(key):
                draft.carried(key, "data.train_on", ours)
            else:
                draft.told(NO_EFFECT, key, "off, as here: answers carry loss")


def _machine(draft: Draft) -> None:
    machine(draft, "optim", ("bf16", "pure_bf16"), trained=("pure_bf16",))
    if draft.has("compute_dtype"):
        dtype(draft, "compute_dtype")
    if draft.has("infer_dtype"):
        draft.told(NO_EFFECT, "infer_dtype", "read only when a model answers: see serve and evaluate")
    _quantization(draft)
    if draft.has("disable_gradient_checkpointing"):
        if draft.flag("disable_gradient_checkpointing"):
            draft.of_machine("disable_gradient_checkpointing", "hardware.activation_checkpointing", "none")
        else:
            note = "hardware.activation_checkpointing takes the least that fits"
            draft.told(NO_EFFECT, "disable_gradient_checkpointing", note)


def _quantization(draft: Draft) -> None:
    """How a base of 4 bits is stored."""
    for key, same in (
        ("quantization_method", ("bnb", "bitsandbytes")),
        ("quantization_type", ("nf4",)),
        ("double_quantization", (True,)),
    ):
        if draft.has(key):
            four = draft.settings.get("quantization.bits") == "4" or draft.choices.get("method") == "qlora"
            note = "NF4 with double quantisation by bitsandbytes is what quantization.bits=4 means"
            other = four and draft.value(key) not in same
            draft.told(CHANGED if other else NO_EFFECT, key, note, "quantization.bits=4" if other else "")
