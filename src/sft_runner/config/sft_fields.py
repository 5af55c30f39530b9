"""The fields of TRL's `SFTConfig`, for `train.extra`: read from the installed source, because importing it takes 6 s.

A field that a key of ours decides is refused with the name of that key, so that no value has two owners.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sft_runner.errors import MachineError, UnknownName, UserError

SOURCES = (
    ("trl", "trainer/sft_config.py", "SFTConfig"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("transformers", "training_args.py", "TrainingArguments"),
)
"""The class and those that it inherits from."""

_ADAPTER_ONLY = "not supported yet: one process on one device trains"
_PREPARED = "rows are made by the prepare stage; see data.*"
_REPORTED = "progress and tracking are set with tracking.*"
_LOOKS = "train.eval_steps, which looks at held-out rows with the code of the evaluate stage"
_LOCAL = "not supported: nothing is uploaded"
_FIXED = "fixed, so that a run that is killed resumes exactly"

OWNED: dict[str, str] = {
    # the training run
    "learning_rate": "train.learning_rate",
    "num_train_epochs": "train.num_train_epochs",
    "max_steps": "train.max_steps",
    "lr_scheduler_type": "train.lr_scheduler_type",
    "warmup_steps": "train.warmup_steps",
    "weight_decay": "train.weight_decay",
    "max_grad_norm": "train.max_grad_norm",
    "gradient_accumulation_steps": "train.batch_size",
    "auto_find_batch_size": "train.batch_size",
    "seed": "train.seed",
    "data_seed": "train.seed",
    "logging_steps": "train.logging_steps",
    "save_steps": "train.save_steps",
    "save_total_limit": "train.save_total_limit",
    # the machine
    "per_device_train_batch_size": "hardware.per_device_train_batch_size",
    "per_device_eval_batch_size": "hardware.per_device_eval_batch_size",
    "activation_checkpointing": "hardware.activation_checkpointing",
    "activation_checkpointing_kwargs": "hardware.activation_checkpointing",
    "gradient_checkpointing": "hardware.activation_checkpointing",
    "gradient_checkpointing_kwargs": "hardware.activation_checkpointing",
    "dataloader_num_workers": "hardware.dataloader_num_workers",
    "optim": "hardware.optim",
    "bf16": "hardware.dtype",
    "fp16": "hardware.dtype",
    "use_cpu": "hardware=cpu",
    # the model
    "model_init_kwargs": "model.*, hardware.dtype and hardware.attn_implementation",
    "trust_remote_code": "not supported: code of a model's own is never run",
    "chat_template_path": "data.template",
    "eos_token": "not supported yet: the model's own end token is used",
    "pad_token": "not supported yet: the model's own padding token is used",
    # the rows
    "max_length": "data.max_length",
    "truncation_mode": "data.overlong",
    "packing": "train.packing",
    "packing_strategy": "train.packing, which cuts each step into passes by the lengths of its rows",
    "pad_to_multiple_of": "train.packing, which makes passes as long as their longest row",
    "padding_free": "train.packing, whose passes have no padding with flash attention",
    "dataset_text_field": _PREPARED,
    "dataset_kwargs": _PREPARED,
    "dataset_num_proc": _PREPARED,
    "completion_only_loss": _PREPARED,
    "assistant_only_loss": _PREPARED,
    "remove_unused_columns": _PREPARED,
    "label_names": _PREPARED,
    "length_column_name": _PREPARED,
    # where it goes and how it goes on
    "output_dir": "output_dir",
    "resume_from_checkpoint": "not needed: the same command resumes",
    "ignore_data_skip": _FIXED,
    "restore_callback_states_from_checkpoint": _FIXED,
    "enable_jit_checkpoint": _FIXED,
    "save_only_model": _FIXED,
    "save_strategy": _FIXED,
    "save_on_each_node": _FIXED,
    "load_best_model_at_end": "train.load_best_model_at_end",
    "metric_for_best_model": "train.early_stopping.metric",
    "greater_is_better": "train.early_stopping.metric, of which it is known",
    # what is told
    "report_to": _REPORTED,
    "run_name": "name",
    "project": _REPORTED,
    "trackio_space_id": _REPORTED,
    "trackio_bucket_id": _REPORTED,
    "trackio_static_space_id": _REPORTED,
    "disable_tqdm": _REPORTED,
    "logging_strategy": "train.logging_steps",
    "include_num_input_tokens_seen": "fixed: tokens are always counted",
    "logging_nan_inf_filter": "fixed: a loss that is not a number stops the run",
    # evaluation
    "eval_strategy": _LOOKS,
    "eval_packing": _LOOKS,
    "eval_steps": "train.eval_steps",
    "eval_delay": _LOOKS,
    "eval_on_start": _LOOKS,
    "eval_accumulation_steps": _LOOKS,
    "eval_do_concat_batches": _LOOKS,
    "batch_eval_metrics": _LOOKS,
    "prediction_loss_only": _LOOKS,
    "bf16_full_eval": "hardware.dtype",
    "fp16_full_eval": "hardware.dtype",
    "do_train": "stage",
    "do_eval": "stage",
    "do_predict": "stage",
    # the hub
    "push_to_hub": _LOCAL,
    "hub_token": _LOCAL,
    "hub_private_repo": _LOCAL,
    "hub_model_id": _LOCAL,
    "hub_strategy": _LOCAL,
    "hub_always_push": _LOCAL,
    "hub_revision": _LOCAL,
    # several processes
    "deepspeed": _ADAPTER_ONLY,
    "fsdp": _ADAPTER_ONLY,
    "fsdp_config": _ADAPTER_ONLY,
    "parallelism_config": _ADAPTER_ONLY,
    "local_rank": _ADAPTER_ONLY,
    "ddp_backend": _ADAPTER_ONLY,
}
"""Field -> the key that owns it, or why it cannot be set."""


@cache
def sft_fields() -> frozenset[str]:
    """The names of all fields of the installed `SFTConfig`, its parents' included."""
    return frozenset(name for package, file, kind in SOURCES for name in _fields(_source(package, file), kind))


def check_extra(extra: Mapping[str, Any]) -> list[UserError]:
    """What is wrong with `train.extra`: fields that do not exist, and fields that another key owns."""
    if not extra:
        return []
    known = sft_fields()
    errors: list[UserError] = []
    for name in map(str, extra):
        if name in OWNED:
            errors.append(_refusal(name, OWNED[name]))
        elif name not in known:
            errors.append(UnknownName("train.extra: SFTConfig field", name, known))
    return errors


def _refusal(name: str, owner: str) -> UserError:
    """Why a field that exists cannot be set here."""
    is_key = owner.split(".")[0] in ("data", "hardware", "model", "name", "output_dir", "stage", "train")
    hint = f"use {owner}" if is_key or owner.startswith("hardware=") else owner
    return UserError(f"train.extra.{name} cannot be set here", hint)


def _source(package: str, file: str) -> Path:
    """A file of an installed package, found without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MachineError(f"the package '{package}' is not installed", "install sft-runner with its dependencies")
    return Path(spec.submodule_search_locations[0], file)


def _fields(source: Path, kind: str) -> Iterator[str]:
    """The annotated names in a class body: what a dataclass makes its fields from."""
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == kind:
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line.target.id
