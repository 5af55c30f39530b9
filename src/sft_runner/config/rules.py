"""From what Hydra composed to a settled `Run`: plain dataclasses, open values filled in, all mistakes at once.

After this module nothing knows of Hydra or OmegaConf.
"""

import ipaddress
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sft_runner.config.mistakes import in_config
from sft_runner.config.run import Decision, Run
from sft_runner.config.schema import Config, flatten
from sft_runner.config.sft_fields import check_extra
from sft_runner.data.selection import KINDS
from sft_runner.errors import UnknownName, UserError, raise_all
from sft_runner.stages import STAGES
from sft_runner.stages.metrics import METRICS

ADAPTER_LEARNING_RATE = 2e-4
"""Peak rate for an adapter: the QLoRA paper's for models up to 13 B (Dettmers et al. 2023, table 9)."""
LORA_R = 8
"""Rank where nobody sets one: the LoRA paper finds little gain above it (Hu et al. 2021, table 6)."""


def settle(composed: DictConfig, choices: Mapping[str, Any], overrides: tuple[str, ...] = ()) -> Run:
    """Check a composed configuration and fill in what is open. Raises `UserError`."""
    raise_all(list(in_config(composed)))
    try:
        config = cast(Config, OmegaConf.to_object(composed))
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0], "see python -m sft_runner --help") from None
    errors = list(_values(config))
    raise_all(errors)
    config, decisions = _fill(config, choices)
    raise_all(list(_together(config)))
    named = {key: _name(value) for key, value in choices.items() if "/" not in key and "@" not in key}
    return Run(config, named, overrides, decisions)


def _values(config: Config) -> Iterator[UserError]:
    """Values outside what their field allows."""
    for key, (value, marks) in flatten(config).items():
        if value is None:
            continue
        if "choices" in marks and value not in marks["choices"]:
            yield UnknownName(key, str(value), marks["choices"])
        if isinstance(value, float) and not math.isfinite(value):
            yield UserError(f"{key}={value} is not a finite number", "give a number such as 2e-4")
        elif "at_least" in marks and value < marks["at_least"]:
            yield UserError(f"{key}={value} is too small", f"the smallest value is {marks['at_least']}")


def _fill(config: Config, choices: Mapping[str, Any]) -> tuple[Config, tuple[Decision, ...]]:
    """Settle every value that was left open."""
    decisions: list[Decision] = []

    def decide(key: str, value: Any, reason: str, approximates: bool = False) -> Any:
        decisions.append(Decision(key, value, reason, approximates))
        return value

    hardware = config.hardware
    preset = f"hardware={hardware.name}"
    if hardware.chosen:
        decide("hardware", hardware.name, hardware.chosen)
    bits = config.quantization.bits
    if bits == "auto":
        bits = decide("quantization.bits", hardware.quantization_bits, preset, hardware.quantization_bits != "none")
    r = config.lora.r
    if r is None:
        capped = hardware.lora_r is not None
        r = decide("lora.r", hardware.lora_r or LORA_R, preset if capped else "default", capped)
    alpha = config.lora.lora_alpha
    if alpha is None:
        alpha = decide("lora.lora_alpha", 2.0 * r, "2 * lora.r")
    rate = config.train.learning_rate
    if rate is None:
        rate = decide("train.learning_rate", ADAPTER_LEARNING_RATE, "the method's default")
    length = config.data.max_length
    if hardware.max_length is not None and hardware.max_length < length:
        length = decide("data.max_length", hardware.max_length, f"{preset} caps {length}", True)
    if hardware.dtype != "float32":
        decide("hardware.dtype", hardware.dtype, preset, True)
    if hardware.optim != "adamw_torch":
        decide("hardware.optim", hardware.optim, preset, True)
    recipe = choices.get("recipe")
    settled = replace(
        config,
        name=config.name or (_name(recipe) if recipe else "run"),
        lora=replace(config.lora, r=r, lora_alpha=alpha),
        quantization=replace(config.quantization, bits=bits),
        train=replace(config.train, learning_rate=rate),
        data=replace(config.data, max_length=length),
        evaluate=replace(
            config.evaluate, headline=config.evaluate.headline or next(iter(config.evaluate.metrics), "loss")
        ),
    )
    return settled, tuple(decisions)


def _together(config: Config) -> Iterator[UserError]:
    """Values that are wrong only beside others."""
    if config.data.reasoning == "keep" and config.data.train_on == "all":
        hint = "leave data.train_on=assistant, or data.reasoning=last"
        yield UserError("data.train_on=all does not go with data.reasoning=keep, which learns one answer a row", hint)
    for name in set(KINDS[1:]) & set(config.data.sources):
        yield UserError(f"data.sources.{name}: kinds of held-out rows have this name", "call the source otherwise")
    if config.data.mixed and config.data.format != "auto":
        hint = "leave data.format=auto, so that each row is read by its own columns"
        yield UserError(f"data.mixed=true does not go with data.format={config.data.format}", hint)
    if not config.data.path and not config.data.sources:
        hint = "give a file with data.path=FILE, or begin with recipe=quickstart, which needs none"
        yield UserError("data.path is not set: there is nothing to learn from", hint)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", config.name):
        yield UserError(
            f"name={config.name} cannot name a folder and a served model", "use letters, digits, '-' and '_'"
        )
    for key, name in [("stage.until", config.stage.until), *(("force", name) for name in config.force)]:
        if name not in STAGES:
            yield UnknownName(f"{key}: stage", name, STAGES)
    for name in config.evaluate.metrics:
        if name not in METRICS:
            yield UnknownName("evaluate.metrics: metric", name, METRICS)
    if config.evaluate.headline not in (*config.evaluate.metrics, "loss", "perplexity"):
        known = [*config.evaluate.metrics, "loss", "perplexity"]
        yield UnknownName("evaluate.headline: metric", config.evaluate.headline, known)
    if not config.lora.target_modules:
        yield UserError("lora.target_modules is empty: nothing would be trained", "use [all-linear]")
    if config.train.num_train_epochs == 0 and config.train.max_steps <= 0:
        yield UserError("train.num_train_epochs=0: nothing would be trained", "set it, or train.max_steps")
    if not _loopback(config.serve.host):
        yield UserError(
            f"serve.host={config.serve.host} is open to the network", "use 127.0.0.1 and a proxy with a key"
        )
    if config.quantization.bits != "none" and config.hardware.dtype == "float16":
        yield UserError("hardware.dtype=float16 does not go with a quantised base", "use hardware.dtype=bfloat16")
    if "@" in (config.tracking.mlflow.uri or ""):
        hint = "put them into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        yield UserError("tracking.mlflow.uri holds a name or a password, which would be written into files", hint)
    yield from check_extra(config.train.extra)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(choice: Any) -> str:
    """The name of a choice; of several, joined."""
    return "+".join(map(str, choice)) if isinstance(choice, list | tuple) else str(choice)
