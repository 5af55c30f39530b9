"""TRL's YAML for `trl sft`: the fields of `SFTConfig`, `ModelConfig`, `ScriptArguments` and `DatasetMixtureConfig`."""

from pathlib import Path
from typing import Any

from sft_runner.importing import fields
from sft_runner.importing.draft import CHANGED, NO_EFFECT, NOT_CARRIED, Draft, notes, unsafe
from sft_runner.importing.machine import dtype, machine, trained_in_half
from sft_runner.importing.method import Words, adapter, quantized, whole
from sft_runner.importing.model import model
from sft_runner.importing.packing import packing
from sft_runner.importing.rows import HELD_OUT, Rows, address, columns_of, files, named, place
from sft_runner.importing.stage import elsewhere
from sft_runner.importing.targets import parameters, targets, usual_targets
from sft_runner.importing.training import Words as Course
from sft_runner.importing.training import length, training

NAME = "TRL"
WORDS = Words(default_r=16, default_alpha=32, default_dropout=0.05)
COURSE = Course(default_rate=2e-5)
MODEL = """
    model_name_or_path model_revision dtype torch_dtype attn_implementation use_peft lora_r lora_alpha lora_dropout
    lora_target_modules lora_target_parameters lora_modules_to_save lora_task_type use_rslora use_dora load_in_8bit
    load_in_4bit bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_quant_storage trust_remote_code
"""
SCRIPT = """
    dataset_name dataset_config dataset_train_split dataset_test_split dataset_streaming ignore_bias_buffers
    gradient_checkpointing_use_reentrant datasets streaming test_split_size
"""
ROWS = "path name data_dir data_files split columns fraction"
OTHERS = "beta label_smoothing desirable_weight undesirable_weight reward_model_path num_generations ref_model_path"
"""Fields of TRL's other trainers."""
KEYS_NO_EFFECT = notes(
    {
        "speed only": "dataset_streaming streaming dataset_batch_size gradient_checkpointing_use_reentrant",
        "a causal model is what is trained": "lora_task_type",
        "one process on one device trains here": "ignore_bias_buffers",
        "NF4 with double quantisation is what quantization.bits=4 means": "bnb_4bit_quant_storage",
    }
)
KEYS_NOT_CARRIED = notes(
    {
        "modules beside the adapter do not train here": "lora_modules_to_save",
        "only supervised fine-tuning is done here": OTHERS,
        "a subset is a folder of the data set: hf://datasets/OWNER/NAME@COMMIT/SUBSET/*": "dataset_config",
    }
)


def known() -> frozenset[str]:
    """All of its keys."""
    return fields.known() | set(f"{MODEL} {SCRIPT} {ROWS} {OTHERS}".split())


def marks(values: dict[str, Any]) -> int:
    """How much the keys look like TRL's."""
    own = ("dataset_name", "use_peft", "lora_target_modules", "dataset_train_split", "max_length", "max_seq_length",
           "assistant_only_loss", "dataset_text_field", "dtype", "torch_dtype", "load_in_4bit", "lora_r")  # fmt: skip
    mixed = isinstance(values.get("datasets"), list)
    return 3 * ("model_name_or_path" in values) + 2 * sum(name in values for name in own) + 2 * mixed


def translate(draft: Draft, path: Path, devices: int, folders: list[Path]) -> None:
    """Every key into one list. `devices`: on how many it was trained."""
    if _endless(draft):
        draft.told(NOT_CARRIED, "max_length", "no row is too long there; here data.max_length is the longest")
        draft.to_do("set data.max_length to the longest row that there is: nothing is cut there")
        draft.assume("data.overlong", "error", "nothing is cut there")
    draft.empty(known())
    model(draft, "model_name_or_path", "model_revision")
    _method(draft)
    _datasets(draft, path.parent)
    _data(draft)
    training(draft, COURSE, devices)
    machine(draft, "optim")
    for key in ("dtype", "torch_dtype"):
        _stored(draft, key)
    if any(draft.value(key) for key in OTHERS.split()):
        elsewhere(draft, "another trainer of TRL")
    draft.table(NO_EFFECT, KEYS_NO_EFFECT)
    draft.table(NOT_CARRIED, KEYS_NOT_CARRIED)
    fields.rest(draft)


def _method(draft: Draft) -> None:
    """An adapter only where `use_peft` says so."""
    if not draft.flag("use_peft"):
        if draft.has("use_peft"):
            draft.told("carried", "use_peft", "", "method=full")
        whole(draft, WORDS, "load_in_4bit", "load_in_8bit")
        return
    bits, said = quantized(draft, "load_in_4bit", "load_in_8bit")
    for key, usual in (("bnb_4bit_quant_type", "nf4"), ("use_bnb_nested_quant", True)):
        if draft.has(key):
            same = bits != "4" or draft.value(key) == usual
            note = "NF4 with double quantisation is what quantization.bits=4 means"
            draft.told(NO_EFFECT if same else CHANGED, key, note, "" if same else "quantization.bits=4")
    if draft.has("lora_target_modules"):
        targets(draft, "lora_target_modules")
    usual_targets(draft, "lora_target_modules")
    parameters(draft)
    adapter(draft, WORDS, bits, said)
    draft.told("carried", "use_peft", "", f"method={draft.choices['method']}")


def _datasets(draft: Draft, beside: Path) -> None:
    """One data set by its name, or a mixture."""
    columns, format = _columns(draft)
    found: list[Rows] = []
    count = len({key.partition("]")[0] for key in draft.given if key.startswith("datasets[")})
    for index in range(count):
        found += _one(draft, f"datasets[{index}].", beside, format, columns)
    if draft.has("datasets"):
        draft.told(NOT_CARRIED, "datasets", "is no list of data sets; set data.path")
    if draft.has("dataset_name"):
        name = str(draft.value("dataset_name"))
        if found:
            draft.told(NO_EFFECT, "dataset_name", "datasets goes before it")
        else:
            split = str(draft.value("dataset_train_split", "train"))
            path = address(draft, name, beside, glob="" if split == "train" else f"*{split}*")
            found = [Rows(named(name), path, format, columns, {}, ("dataset_name", "dataset_text_field"))]
            draft.told("carried", "dataset_name", "", "path")
    place(draft, found)
    for key in ("dataset_train_split", "dataset_test_split"):
        if draft.has(key):
            note = "rows are held out by data.held_out; another split can be scored too: evaluate.sets"
            if key == "dataset_train_split":
                note = "where a data set has several splits, data.path names one"
            draft.told(NO_EFFECT, key, note)


def _one(draft: Draft, at: str, beside: Path, format: str, columns: dict[str, str]) -> list[Rows]:
    """An entry of a mixture; several files make several."""
    listed = files(draft.value(at + "data_files"), str(draft.value(at + "split", "train")).partition("[")[0])
    keys = (at, "dataset_text_field")
    found = [
        Rows(named(part), address(draft, part, beside), format, columns, {}, keys)
        for part in listed or [str(draft.value(at + "path", ""))]
    ]
    if draft.has(at + "fraction"):
        note = "a share of the whole mixture there: set cap for each of data.sources"
        draft.told(NOT_CARRIED, at + "fraction", note)
        draft.to_do(f"{at}fraction is {note}")
    for key in ("path", "data_files"):
        if draft.has(at + key):
            draft.told("carried", at + key, "", "path")
    for key, note in (
        ("name", "a subset is a folder of the data set: name its files in the path"),
        ("data_dir", "name the folder in the path"),
        ("columns", "columns are chosen by data.format and data.columns"),
        ("split", "name the files of the split in the path"),
    ):
        if draft.has(at + key):
            same = key == "split" and draft.value(at + key) == "train" or key == "columns"
            draft.told(NO_EFFECT if same else NOT_CARRIED, at + key, note)
    return found


def _columns(draft: Draft) -> tuple[dict[str, str], str]:
    """The column of plain text, where it is called otherwise."""
    field = draft.value("dataset_text_field")
    if not draft.has("dataset_text_field"):
        return {}, "auto"
    if unsafe(field):
        draft.told(NOT_CARRIED, "dataset_text_field", "holds ${...}, which would be read as a reference here")
        return {}, "auto"
    if field == "":
        draft.told(NO_EFFECT, "dataset_text_field", "empty")
        return {}, "auto"
    if field == "text":
        draft.told(NO_EFFECT, "dataset_text_field", "called so here too")
        return {}, "auto"
    draft.told("carried", "dataset_text_field", "", "columns.text")
    return {"text": str(field)}, "text"


def _data(draft: Draft) -> None:
    """Length, packing, held-out rows and what carries loss."""
    if draft.given.get("packing_strategy") in ("bfd_split", "bfd-requeue") and draft.flag("packing"):
        draft.carried("packing_strategy", "data.overlong", "split")
    if draft.has("packing_strategy"):
        note = "passes are cut by the lengths of rows, and no row is cut: see train.packing"
        same = draft.value("packing_strategy") == "bfd" or not draft.flag("packing")
        draft.told(NO_EFFECT if same else NOT_CARRIED, "packing_strategy", note)
    if draft.has("truncation_mode"):
        if draft.settings.get("data.overlong"):
            draft.told(NO_EFFECT, "truncation_mode", "no row is cut")
        else:
            draft.changed("truncation_mode", "data.overlong", "truncate", "a row is cut at its end, behind an answer")
    if not _endless(draft):
        length(draft, 1024, "max_length", "max_seq_length")
    draft.assume("data.overlong", "truncate", "longer rows are cut there")
    packing(draft, "packing")
    _loss(draft)
    if draft.has("test_split_size") and (size := draft.number("test_split_size")):
        draft.carried("test_split_size", "data.held_out", size)
    draft.assume("data.held_out", HELD_OUT, "TRL looks at another split; without held-out rows nothing can be scored")
    if draft.has("chat_template_path"):
        path = str(draft.value("chat_template_path"))
        if path.endswith((".jinja", ".j2")):
            draft.carried("chat_template_path", "data.template", path)
    if draft.has("shuffle_dataset"):
        draft.told(NO_EFFECT, "shuffle_dataset", "rows are drawn by data.seed and train.seed")


def _endless(draft: Draft) -> bool:
    """Whether no row is too long: a null says so, which is not the same as nothing."""
    return "max_length" in draft.given and draft.given["max_length"] is None


def _stored(draft: Draft, key: str) -> None:
    """The precision of the model's weights; `bf16` and `fp16` say that of the arithmetic, and go before it."""
    if not draft.has(key):
        return
    said, full = str(draft.value(key)).removeprefix("torch."), draft.choices["method"] == "full"
    if said == "float32" and (draft.value("bf16") is None or draft.flag("bf16") or draft.flag("fp16")):
        note = "weights that train have 32 bits here too; hardware.dtype is that of the arithmetic"
        draft.told(NO_EFFECT, key, note)
    elif said == "auto" and full:
        draft.told(NOT_CARRIED, key, "weights that train have 32 bits; hardware.trained_dtype=bfloat16 says otherwise")
    else:
        dtype(draft, key)
        if said == "bfloat16" and full:
            trained_in_half(draft, key)


def _loss(draft: Draft) -> None:
    """Which tokens carry loss: of messages all of them, where nothing is said."""
    if draft.flag("assistant_only_loss"):
        draft.carried("assistant_only_loss", "data.train_on", "assistant")
        if draft.has("completion_only_loss"):
            draft.told(NO_EFFECT, "completion_only_loss", "assistant_only_loss says it")
    elif draft.has("completion_only_loss"):
        if draft.flag("completion_only_loss"):
            draft.carried("completion_only_loss", "data.train_on", "completion")
        else:
            draft.carried("completion_only_loss", "data.train_on", "all")
    if draft.has("assistant_only_loss"):
        draft.told(NO_EFFECT, "assistant_only_loss", "off: see data.train_on")
    if "data.train_on" in draft.settings:
        return
    found = draft.settings.get("data.sources") or {"": {"path": draft.settings.get("data.path")}}
    seen = [columns_of(str(entry["path"])) for entry in found.values()]
    if any("messages" in columns for columns in seen):
        draft.assume("data.train_on", "all", "TRL learns all tokens of messages where assistant_only_loss is off")
    elif any({"prompt", "completion"} <= columns for columns in seen):
        draft.assume("data.train_on", "completion", "TRL learns the completion")
    elif not all(seen):
        draft.to_do("TRL learns all tokens of messages, here answers are learned; data.train_on=all is as there")
