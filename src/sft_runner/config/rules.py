"""From what Hydra composed to a settled `Run`: plain dataclasses, open values filled in, all mistakes at once.

After this module nothing knows of Hydra or OmegaConf. What cannot run is in `conflicts.py`, what is doubtful in
`doubts.py`.
"""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from functools import reduce
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sft_runner.config import conflicts, doubts, gate_conflicts, metric_conflicts, values
from sft_runner.config.mistakes import in_config
from sft_runner.config.run import Decision, Run
from sft_runner.config.schema import Config, Hardware, Lora, Model
from sft_runner.config.schema_train import EarlyStopping
from sft_runner.config.sources import architecture_of
from sft_runner.config.words import key_of
from sft_runner.errors import UserError, raise_all
from sft_runner.evaluation import engines, names
from sft_runner.method import method_of
from sft_runner.model import continuing
from sft_runner.model.architecture import OWNER
from sft_runner.runs import adapter_of

LORA_R = 8
"""Rank where nobody sets one: the LoRA paper finds little gain above it (Hu et al. 2021, table 6)."""


def settle(composed: DictConfig, choices: Mapping[str, Any], overrides: tuple[str, ...] = ()) -> Run:
    """Check a composed configuration and fill in what is open. Raises `UserError`."""
    return complete(plain(composed), choices, overrides)


def plain(composed: DictConfig) -> Config:
    """A composed configuration in plain dataclasses. Raises `UserError`."""
    raise_all(list(in_config(composed)))
    try:
        found = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0], "see python -m sft_runner --help") from None
    if not isinstance(found, Config):
        raise UserError("conf/sft.yaml: nothing has a type", "its `defaults:` begins with `- schema`")
    for key in filter(values.free, values.defaults()):
        *parts, last = key.split(".")
        part = reduce(getattr, parts, found)
        setattr(part, last, _without_parts(getattr(part, last)))
    return found


def _without_parts(value: Any) -> Any:
    """A value of free names in which an interpolation, such as `${lora}`, may have put a whole part."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {name: _without_parts(entry) for name, entry in value.items()}
    return [_without_parts(entry) for entry in value] if isinstance(value, list) else value


def complete(asked: Config, choices: Mapping[str, Any], overrides: tuple[str, ...] = ()) -> Run:
    """Check a configuration in plain dataclasses and fill in what is open; `asked` becomes part of the run. Raises
    `UserError`."""
    raise_all(list(conflicts.of_values(asked)))
    if not asked.hardware.name:
        asked.hardware.name = str(choices.get("hardware") or "")
    named = {key: _name(value) for key, value in choices.items() if "/" not in key and "@" not in key}
    recipe = named.get("recipe") if choices.get("recipe") else None
    errors: list[UserError] = []
    try:
        folder = adapter_of(asked)
        earlier = continuing.shape_of(folder) if folder else None
    except UserError as error:
        errors, earlier = [error], None
    config, decisions = fill(asked, recipe or "run", earlier, overrides)
    errors += conflicts.between_values(config)
    errors += gate_conflicts.of_gates_and_sets(config, recipe)
    if errors:  # without others, planning tells of missing data beside what does not fit
        raise_all([*errors, *conflicts.nothing_to_learn(config)])
    return Run(config, named, overrides, decisions, tuple(doubts.of(asked, config, recipe, overrides)), asked)


class _Decisions(list[Decision]):
    """What was filled in so far."""

    def take(self, key: str, value: Any, reason: str, approximates: bool = False) -> Any:
        """Note a value and its reason; returns the value."""
        self.append(Decision(key, value, reason, approximates))
        return value


def fill(
    config: Config, name: str, earlier: Lora | None, overrides: tuple[str, ...] = ()
) -> tuple[Config, tuple[Decision, ...]]:
    """Settle every value that was left open; `earlier` is the adapter that is trained further."""
    found = _Decisions()
    said = {key_of(text) for text in overrides}
    hardware = config.hardware
    preset = f"hardware={hardware.name}"
    if hardware.chosen:
        found.take("hardware", hardware.name, hardware.chosen)
    bits = config.quantization.bits
    if bits == "auto":
        bits = hardware.quantization_bits if config.adapter == "lora" else "none"
        source = "hardware.quantization_bits" if "hardware.quantization_bits" in said else preset
        found.take(
            "quantization.bits", bits, source if config.adapter == "lora" else "all weights train", bits != "none"
        )
    lora = _lora(config.lora, hardware, earlier, said, found) if config.adapter == "lora" else Lora()
    config = replace(config, lora=lora, quantization=replace(config.quantization, bits=bits))
    rate = config.train.learning_rate
    if rate is None:
        method = method_of(config)
        rate = found.take("train.learning_rate", method.learning_rate, f"{method.name}: {method.evidence}")
    length = config.data.max_length
    if hardware.max_length is not None and hardware.max_length < length:
        cap = "hardware.max_length" if "hardware.max_length" in said else preset
        length = found.take("data.max_length", hardware.max_length, f"{cap} caps {length}", True)
    for key, exact in (("dtype", "float32"), ("trained_dtype", "float32"), ("optim", "adamw_torch")):
        if (value := getattr(hardware, key)) != exact:
            found.take(f"hardware.{key}", value, "command line" if f"hardware.{key}" in said else preset, True)
    if config.evaluate.engine == "auto" and (chosen := engines.settle(config)):
        config = replace(config, evaluate=replace(config.evaluate, engine=chosen.value))
        found += [chosen] if chosen.reason else []
    headline = config.evaluate.headline or next(iter(config.evaluate.metrics), "loss")
    settled = replace(
        config,
        name=config.name or name,
        model=_model(config.model),
        train=replace(config.train, learning_rate=rate, early_stopping=_watched(config)),
        data=replace(config.data, max_length=length),
        evaluate=replace(config.evaluate, headline=headline),
    )
    return settled, tuple(found)


def _model(model: Model) -> Model:
    """The model with the shape that a file of `conf/model` has for its name, where `model.name` alone was said."""
    if model.architecture and model.architecture.get(OWNER, model.name) == model.name:
        return model
    known = architecture_of(model.name)
    return replace(model, architecture=known) if known else model


def _watched(config: Config) -> EarlyStopping:
    """What is watched at looks: answers with their longest length, and a pattern, on which their score depends."""
    watched = config.train.early_stopping
    if not names.generated(watched.metric):
        return watched
    longest = config.evaluate.max_new_tokens if watched.max_new_tokens is None else watched.max_new_tokens
    pattern = watched.pattern or config.evaluate.pattern if watched.metric == metric_conflicts.PATTERN else None
    return replace(watched, max_new_tokens=longest, pattern=pattern)


def _lora(lora: Lora, hardware: Hardware, earlier: Lora | None, said: set[str], found: _Decisions) -> Lora:
    """The adapter with its rank and scale, and with the shape of the one that is trained further; `said` are the keys
    of the command line."""
    if earlier is not None:
        lora = replace(lora)
        for key in ("r", "lora_alpha", "target_modules", "target_parameters", "use_dora", "use_rslora"):
            value = getattr(earlier, key)
            if f"lora.{key}" not in said and getattr(lora, key) == getattr(Lora(), key) and value != getattr(lora, key):
                setattr(lora, key, found.take(f"lora.{key}", value, "the adapter of train.continue_from"))
        return lora
    r, alpha = lora.r, lora.lora_alpha
    if r is None:
        capped = hardware.lora_r is not None
        source = "hardware.lora_r" if "hardware.lora_r" in said else f"hardware={hardware.name}"
        r = found.take("lora.r", hardware.lora_r or LORA_R, source if capped else "default", capped)
    if alpha is None:
        alpha = found.take("lora.lora_alpha", 2.0 * r, "2 * lora.r")
    return replace(lora, r=r, lora_alpha=alpha)


def _name(choice: Any) -> str:
    """The name of a choice; of several, joined."""
    return "+".join(map(str, choice)) if isinstance(choice, list | tuple) else str(choice)
