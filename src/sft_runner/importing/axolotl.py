"""axolotl's YAML: `base_model`, `datasets` and a flat list of everything else."""

from pathlib import Path
from typing import Any

from sft_runner.importing import axolotl_keys as keys
from sft_runner.importing import axolotl_rows
from sft_runner.importing.draft import CHANGED, NO_EFFECT, NOT_CARRIED, Draft
from sft_runner.importing.machine import machine
from sft_runner.importing.method import Words, adapter, quantized, start, whole
from sft_runner.importing.model import model
from sft_runner.importing.packing import packing
from sft_runner.importing.rows import held_out, local
from sft_runner.importing.stage import elsewhere
from sft_runner.importing.targets import parameters, targets, usual_targets
from sft_runner.importing.training import Words as Course
from sft_runner.importing.training import length, training

NAME = "axolotl"
KNOWN = keys.KNOWN
COURSE = Course(
    "num_epochs", "lr_scheduler", "micro_batch_size", "batch_size", 1.0, "cosine", 0.03, None, 1, looks=True
)


def marks(values: dict[str, Any]) -> int:
    """How much the keys look like axolotl's."""
    return 10 * ("base_model" in values or "base_model_config" in values) + sum(
        name in values for name in ("sequence_len", "micro_batch_size", "val_set_size", "sample_packing", "lora_r")
    )


def translate(draft: Draft, path: Path, devices: int, folders: list[Path]) -> None:
    """Every key into one list. `devices`: on how many it was trained."""
    draft.empty(KNOWN)
    _old_names(draft)
    _model(draft)
    _method(draft)
    axolotl_rows.datasets(draft, path.parent)
    _template(draft, path.parent)
    _data(draft)
    count = draft.number("world_size")
    _rate(draft)
    training(draft, COURSE, int(count) if count and count >= 1 else devices)
    if "train.learning_rate" not in draft.settings:
        draft.to_do("set train.learning_rate: the file says none, so the method's usual one is taken")
    half = ("bf16", "bfloat16")
    machine(draft, "optimizer", half, ("fp16", "float16"), trained=half if draft.choices["method"] == "full" else ())
    if draft.has("float32"):
        if draft.flag("float32"):
            draft.of_machine("float32", "hardware.dtype", "float32")
        else:
            draft.told(NO_EFFECT, "float32", "off")
    if (stage := str(draft.value("rl", "")).lower()) not in ("", "none", "false"):
        elsewhere(draft, stage)
    draft.table(NO_EFFECT, keys.NO_EFFECT)
    draft.table(NOT_CARRIED, keys.NOT_CARRIED)


def _old_names(draft: Draft) -> None:
    """Keys of earlier versions, which mean what others mean."""
    if draft.has("base_model_config"):
        own = draft.value("base_model")
        if own is None:
            model(draft, "base_model_config", "model_revision")
        elif own == draft.value("base_model_config"):
            draft.told(NO_EFFECT, "base_model_config", "the same as base_model")
        else:
            draft.told(NOT_CARRIED, "base_model_config", "a model's shape is read from its own files")


def _model(draft: Draft) -> None:
    if draft.has("base_model") or "base_model_config" not in draft.given:
        revision = "model_revision" if draft.has("model_revision") else "revision_of_model"
        model(draft, "base_model", revision)
    for key in ("trust_remote_code", "model_revision", "revision_of_model"):
        if draft.has(key):
            draft.told(NOT_CARRIED, key, "set model.revision to the commit that is meant")


def _method(draft: Draft) -> None:
    kind = draft.value("adapter")
    words = Words(dora="peft_use_dora", rslora="peft_use_rslora")
    if kind is None:
        whole(draft, words, "load_in_8bit", "load_in_4bit")
        for key in ("peft_init_lora_weights", "loraplus_lr_ratio", "loraplus_lr_embedding"):
            if draft.has(key):
                draft.told(NO_EFFECT, key, "the whole model trains")
        return
    bits, said = quantized(draft, "load_in_4bit", "load_in_8bit")
    if kind == "qlora" and bits == "none":
        bits, said = "4", True
    _targets(draft)
    if draft.has("peft_init_lora_weights"):
        start(draft, "peft_init_lora_weights")
    parameters(draft)
    if draft.has("lora_model_dir"):
        draft.carried("lora_model_dir", "train.continue_from", str(draft.value("lora_model_dir")))
    adapter(draft, words, bits, said)
    if draft.has("adapter"):
        if kind in ("lora", "qlora"):
            draft.told("carried", "adapter", "", f"method={draft.choices['method']}")
        else:
            draft.told(NOT_CARRIED, "adapter", "such adapters are not here; LoRA is taken")


def _targets(draft: Draft) -> None:
    """Named modules and all linear ones; both together are all of them here."""
    every = draft.flag("lora_target_linear")
    if draft.has("lora_target_linear"):
        if every:
            note = "every linear layer but the output head"
            draft.carried("lora_target_linear", "lora.target_modules", ["all-linear"], note)
        else:
            draft.told(NO_EFFECT, "lora_target_linear", "off: the modules are named")
    if draft.has("lora_target_modules"):
        if every:
            draft.told(NO_EFFECT, "lora_target_modules", "lora_target_linear takes them too")
        else:
            targets(draft, "lora_target_modules")
    usual_targets(draft, "lora_target_modules")


def _template(draft: Draft, beside: Path) -> None:
    """The chat template: the model's own, or a .jinja file."""
    jinja, name = draft.value("chat_template_jinja"), str(draft.value("chat_template", ""))
    if draft.has("chat_template_jinja"):
        place = local(str(jinja), beside) if len(str(jinja)) < 300 and "\n" not in str(jinja) else None
        if place and place.endswith((".jinja", ".j2")):
            draft.carried("chat_template_jinja", "data.template", place)
        else:
            draft.told(NOT_CARRIED, "chat_template_jinja", "put it into a .jinja file, and name that in data.template")
    if draft.has("chat_template"):
        if name in ("tokenizer_default", "jinja") or name.startswith("tokenizer_default_fallback_"):
            draft.told(NO_EFFECT, "chat_template", "the model's own is taken, or the file in data.template")
        else:
            note = f"the model's own chat template is used, not {name}; a .jinja file can be named in data.template"
            draft.told(CHANGED, "chat_template", note, "data.template=model")
    if draft.has("chat_template_kwargs"):
        value = draft.value("chat_template_kwargs")
        if isinstance(value, dict):
            draft.carried("chat_template_kwargs", "data.chat_template_kwargs", value)
        else:
            draft.told(NOT_CARRIED, "chat_template_kwargs", "is no mapping; see data.chat_template_kwargs")


def _data(draft: Draft) -> None:
    """Length, packing, held-out rows and what carries loss."""
    length(draft, 512, "sequence_len")
    if draft.has("excess_length_strategy"):
        said = draft.value("excess_length_strategy")
        ours = {"drop": "drop", "truncate": "truncate", "raise": "error"}.get(str(said), "drop")
        draft.carried("excess_length_strategy", "data.overlong", ours)
    packing(draft, "sample_packing")
    held_out(draft, "val_set_size")
    if draft.has("train_on_inputs"):
        if draft.flag("train_on_inputs"):
            draft.carried("train_on_inputs", "data.train_on", "all")
        elif "data.train_on" in draft.settings:
            draft.told(NO_EFFECT, "train_on_inputs", "roles_to_train says it")
        else:
            draft.carried("train_on_inputs", "data.train_on", "assistant")
    if draft.has("eval_max_new_tokens"):
        longest = draft.number("eval_max_new_tokens")
        if longest and longest >= 1:
            draft.carried("eval_max_new_tokens", "evaluate.max_new_tokens", int(longest))
        else:
            draft.told(NOT_CARRIED, "eval_max_new_tokens", "is no number; set evaluate.max_new_tokens")


def _rate(draft: Draft) -> None:
    """A cosine that does not fall to nothing; other shapes have no such end."""
    key, shape = "cosine_min_lr_ratio", draft.value("lr_scheduler", "cosine")
    least = draft.number(key)
    if not draft.has(key):
        return
    if not least or not 0 < least < 1:
        draft.told(NO_EFFECT, key, "off")
    elif shape != "cosine":
        draft.told(NO_EFFECT, key, f"without effect there: lr_scheduler is {shape}")
    else:
        falls = "cosine_with_min_lr"
        if draft.has("lr_scheduler"):
            draft.changed("lr_scheduler", "train.lr_scheduler_type", falls, "cosine_min_lr_ratio is where it ends")
        draft.settings["train.lr_scheduler_type"] = falls
        draft.carried(key, "train.extra.lr_scheduler_kwargs", {"min_lr_rate": least}, f"with {falls}")
