"""What cannot run as written, although each key exists and has the right type. Every message comes with a remedy."""

import ipaddress
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sft_runner.config import installed, metric_conflicts
from sft_runner.config.schema import ALL_LINEAR, Config, Lora, flatten
from sft_runner.config.schema_data import TEMPLATE_FILES, TEMPLATES, Data
from sft_runner.config.sft_fields import check_extra
from sft_runner.cost.parameters import EXACT, adapter_shapes, matrices_of, parameters
from sft_runner.data import splitting
from sft_runner.data.formats.columns import ColumnMap
from sft_runner.data.selection import KINDS
from sft_runner.errors import UnknownName, UserError
from sft_runner.evaluation import engines, tasks
from sft_runner.exporting import requirements
from sft_runner.model import remote_code
from sft_runner.model.architecture import Architecture, architecture
from sft_runner.model.starts import moves
from sft_runner.stages import STAGES

ONE_RATE = ("lomo", "adalomo", "galore_", "apollo_")
"""How the names of optimizers begin that cannot have a learning rate for each group of weights."""


def of_values(config: Config) -> Iterator[UserError]:
    """Values outside what their field allows."""
    for key, (value, marks) in flatten(config).items():
        if value is None:
            continue
        if "choices" in marks and value not in marks["choices"]:
            yield UnknownName(key, str(value), marks["choices"])
        if isinstance(value, float) and not math.isfinite(value):
            yield UserError(f"{key}={value} is not a finite number", "give a number such as 2e-4")
        elif "above" in marks and value <= marks["above"]:
            yield UserError(f"{key}={value:g} is too small", f"give a number above {marks['above']}")
        elif "at_least" in marks and value < marks["at_least"]:
            yield UserError(f"{key}={value} is too small", f"the smallest value is {marks['at_least']}")
        elif "below" in marks and value >= marks["below"]:
            yield UserError(f"{key}={value} is too large", f"give a number below {marks['below']}")
    for key, steps in (
        ("train.logging_steps", config.train.logging_steps),
        ("train.save_steps", config.train.save_steps),
        ("train.eval_steps", config.train.eval_steps),
    ):
        if steps is not None and steps > 1 and steps % 1:
            yield UserError(f"{key}={steps:g} is no number of steps", "give a whole number, or a share of all below 1")
    for key, share in _shares(config.data):
        if error := splitting.mistake(share, key):
            yield error
    if config.train.logging_steps == 0:
        yield UserError("train.logging_steps=0: nothing would be reported", "give 1, or a larger number of steps")


def _shares(data: Data) -> Iterator[tuple[str, float]]:
    """How many rows are held out, and the key that says it; what is no number is refused when sources are read."""
    yield "data.held_out", data.held_out
    for name, entry in data.sources.items():
        share = entry.get("held_out") if isinstance(entry, Mapping) else None
        if isinstance(share, int | float):
            yield f"data.sources.{name}.held_out", share


def between_values(config: Config) -> Iterator[UserError]:
    """Values of a settled configuration that are wrong only beside others."""
    yield from _data(config)
    yield from _names(config)
    yield from _method(config)
    yield from _adapter(config)
    yield from _precision(config)
    yield from _training(config)
    yield from check_extra(config.train.extra)
    yield from installed.unknown(config)
    yield from remote_code.limits(config)
    yield from requirements.mistakes(config, shape(config))
    yield from engines.misfits(config)
    yield from tasks.mistakes(config)
    if not _loopback(config.serve.host):
        yield UserError(
            f"serve.host={config.serve.host} is open to the network", "use 127.0.0.1 and a proxy with a key"
        )
    if "@" in (config.tracking.mlflow.uri or ""):
        hint = "put them into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        yield UserError("tracking.mlflow.uri holds a name or a password, which would be written into files", hint)
    elif {"?", "#"} & set(config.tracking.mlflow.uri or ""):
        hint = "put a token into MLFLOW_TRACKING_TOKEN, or the whole address into MLFLOW_TRACKING_URI"
        yield UserError("tracking.mlflow.uri has a part after '?' or '#', which would be written into files", hint)


def nothing_to_learn(config: Config) -> Iterator[UserError]:
    """That no data is named; planning tells it, beside a model that does not fit."""
    if not config.data.path and not config.data.sources:
        hint = "give a file with data.path=FILE; to try it: data.path=embedded:qa model=tiny, or recipe=quickstart"
        yield UserError("data.path is not set: there is nothing to learn from", hint)


def nothing_to_score(config: Config) -> Iterator[UserError]:
    """That a model is to be scored, and every row is learned; planning tells it, which knows the stages."""
    if not holds_out(config):
        key = "data.held_out" if not config.data.held_out or not config.data.sources else "data.sources.*.held_out"
        hint = "set data.held_out to a share such as 0.1 or a number of rows, or end with stage=train or stage=merge"
        if config.evaluate.sets:
            hint += "; evaluate.sets are scored beside held-out rows, not instead of them"
        yield UserError(f"{key} is 0: no row is kept away from training, so there is nothing to score on", hint)


def holds_out(config: Config, *names: str) -> bool:
    """Whether rows may be held out, of the sources that are named or of any. A source's own share goes before
    `data.held_out`; documents have wordings besides that are only asked, which it does not change."""
    data = config.data
    entries = [data.sources[name] for name in names or data.sources]
    return any(
        share or (entry.get("format", data.format) == "docs" and data.held_out)
        for entry in [one for one in entries if isinstance(one, Mapping)] or [{}]
        for share in [data.held_out if entry.get("held_out") is None else entry["held_out"]]
    )


def columns(config: Config) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every map of columns: the key that says it, the format that it is of, and itself. What is no mapping is refused
    when sources are read."""
    data = config.data
    yield "data.columns", data.format, data.columns
    for above, usual, entries in (
        ("data.sources", data.format, data.sources),
        ("evaluate.sets", "auto", config.evaluate.sets),
    ):
        for name, entry in entries.items():
            if isinstance(entry, Mapping) and isinstance(entry.get("columns"), Mapping):
                yield f"{above}.{name}.columns", str(entry.get("format") or usual), entry["columns"]


def shape(config: Config) -> Architecture | None:
    """What is known of the model; what is wrong with its name is told by planning."""
    try:
        return architecture(config.model)
    except UserError:
        return None


def _data(config: Config) -> Iterator[UserError]:
    data = config.data
    for key, _, map in columns(config):
        for column, value in map.items():
            try:
                ColumnMap.of({column: value}, key)
            except UserError as error:
                yield error
    if data.reasoning == "keep" and data.train_on == "all":
        hint = "leave data.train_on=assistant, or data.reasoning=last"
        yield UserError("data.train_on=all does not go with data.reasoning=keep, which learns one answer a row", hint)
    if data.template not in TEMPLATES and not data.template.endswith(TEMPLATE_FILES):
        yield UnknownName("data.template: template", data.template, TEMPLATES)
    for name in set(KINDS[1:]) & set(data.sources):
        yield UserError(f"data.sources.{name}: kinds of held-out rows have this name", "call the source otherwise")
    if data.mixed and data.format != "auto":
        hint = "leave data.format=auto, so that each row is read by its own columns"
        yield UserError(f"data.mixed=true does not go with data.format={data.format}", hint)


def _names(config: Config) -> Iterator[UserError]:
    """Names of runs, stages and metrics."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", config.name):
        yield UserError(
            f"name={config.name} cannot name a folder and a served model", "use letters, digits, '-' and '_'"
        )
    for key, name in [("stage.until", config.stage.until), *(("force", name) for name in config.force)]:
        if name not in STAGES:
            yield UnknownName(f"{key}: stage", name, STAGES)
    yield from metric_conflicts.of_metrics(config)


def _method(config: Config) -> Iterator[UserError]:
    """What the whole model, a quantised base or LoRA+ does not go with."""
    bits, ratio = config.quantization.bits, config.train.loraplus_lr_ratio
    if config.adapter == "none":
        if bits != "none":
            hint = "use quantization.bits=none, or train an adapter on the quantised base: method=lora"
            yield UserError(
                f"quantization.bits={bits} does not go with method=full: {bits}-bit weights do not train", hint
            )
        if ratio is not None:
            hint = "use train.loraplus_lr_ratio=null, or method=lora_plus"
            yield UserError("train.loraplus_lr_ratio does not go with method=full, which has no A and B", hint)
    elif ratio is not None and config.hardware.optim.startswith(ONE_RATE):
        hint = "use hardware.optim=adamw_torch, or train.loraplus_lr_ratio=null"
        yield UserError(
            f"train.loraplus_lr_ratio does not go with hardware.optim={config.hardware.optim}, which has one rate", hint
        )
    if config.adapter == "lora" and moves(config.lora) and bits != "none":
        start = f"lora.init_lora_weights={config.lora.init_lora_weights}"
        hint = "use quantization.bits=none, or lora.init_lora_weights=default"
        yield UserError(f"{start} changes the base's weights, which {bits} bits cannot hold exactly", hint)
    if config.adapter == "lora" and moves(config.lora) and config.hardware.trained_dtype == "bfloat16":
        start = f"lora.init_lora_weights={config.lora.init_lora_weights}"
        hint = "use hardware.trained_dtype=float32, or lora.init_lora_weights=default"
        yield UserError(f"{start} does not go with hardware.trained_dtype=bfloat16, which rounds what it moves", hint)


def _adapter(config: Config) -> Iterator[UserError]:
    """What PEFT's adapters cannot be together."""
    lora = config.lora
    if config.adapter == "none":
        return
    if not lora.target_modules and not lora.target_parameters:
        yield UserError("lora.target_modules is empty: nothing would be trained", f"use [{ALL_LINEAR}]")
    if lora.init_lora_weights == "orthogonal" and (lora.r or 0) % 2:
        hint = f"use lora.r={(lora.r or 0) + 1}, or lora.init_lora_weights=default"
        yield UserError(f"lora.init_lora_weights=orthogonal needs an even rank, lora.r is {lora.r}", hint)
    known = shape(config)
    yield from _targets(lora.target_modules, known)
    everything = lora.target_modules == [ALL_LINEAR] and known is not None and known.is_moe
    if lora.target_parameters or everything:
        for key, unusual, usual in (
            ("lora.use_dora", lora.use_dora, "false"),
            ("lora.lora_dropout", lora.lora_dropout > 0, "0"),
            ("lora.init_lora_weights", lora.init_lora_weights not in ("default", "gaussian"), "default"),
        ):
            if unusual:
                other = (
                    "lora.target_modules=[q_proj,k_proj,v_proj,o_proj]" if everything else "lora.target_parameters=[]"
                )
                hint = f"use {key}={usual}, or leave the experts frozen: {other}"
                what = f"experts, which {ALL_LINEAR} reaches" if everything else "lora.target_parameters"
                yield UserError(f"{key} does not go with {what}: PEFT has it for linear layers only", hint)


def _targets(targets: Sequence[str], known: Architecture | None) -> Iterator[UserError]:
    """Modules that no adapter can stand beside; of a family that is not known exactly, training tells."""
    if ALL_LINEAR in targets and len(targets) > 1:
        hint = f"use lora.target_modules=[{ALL_LINEAR}], or name all modules"
        yield UserError(f"lora.target_modules: {ALL_LINEAR} does not go with other names", hint)
        return
    exact = known is not None and known.model_type in EXACT and not parameters(known).other
    for target in targets if targets != [ALL_LINEAR] else ():
        if target.rpartition(".")[2] == "lm_head":
            what = "is the output head, whose adapter TRL's fused loss would not train"
            yield UserError(f"lora.target_modules: '{target}' {what}", f"leave it out; {ALL_LINEAR} does")
        elif known and exact and not adapter_shapes(Lora(r=1, target_modules=[target]), known):
            names = {matrix.path.rpartition(".")[2] for matrix in matrices_of(known) if not matrix.experts}
            yield UnknownName("module", target, {*names, ALL_LINEAR}, "lora.target_modules: ")


def _precision(config: Config) -> Iterator[UserError]:
    hardware = config.hardware
    if hardware.dtype != "float16":
        return
    if hardware.memory_gb <= 0:
        yield UserError("hardware.dtype=float16 needs a card", "use float32 or bfloat16 on the CPU")
    if hardware.trained_dtype == "bfloat16":
        hint = "use hardware.trained_dtype=float32, or hardware.dtype=bfloat16 where the card has it"
        yield UserError("hardware.trained_dtype=bfloat16 does not go with hardware.dtype=float16", hint)


def _training(config: Config) -> Iterator[UserError]:
    train = config.train
    if train.max_steps == 0:
        hint = "set it, or leave train.max_steps=-1 and set train.num_train_epochs"
        yield UserError("train.max_steps=0: nothing would be trained", hint)
    if train.num_train_epochs == 0 and train.max_steps < 0:
        yield UserError("train.num_train_epochs=0: nothing would be trained", "set it, or train.max_steps")
    if holds_out(config):
        return
    for key, wanted in (
        ("train.early_stopping.patience", train.early_stopping.patience is not None),
        ("train.load_best_model_at_end", train.load_best_model_at_end),
        ("train.eval_steps", bool(train.eval_steps)),
    ):
        if wanted:
            yield UserError(f"{key} needs held-out rows, and data.held_out is 0", "set data.held_out, such as 0.1")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
