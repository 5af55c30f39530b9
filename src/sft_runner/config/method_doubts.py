"""Where a recipe and the method that the command line asks for do not go together: one sentence each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sft_runner.config.schema import Config, flatten
from sft_runner.config.sources import choice, group_of
from sft_runner.method import method_of, number

DEFAULT_METHOD = "lora"
"""The choice of `method` in conf/sft.yaml."""
RATE = "train.learning_rate"
KEYS = ("adapter", "quantization.bits", "lora.use_dora", "train.loraplus_lr_ratio")
"""The settings that a method is told by."""
SHIPPED = ("lora", "qlora", "dora", "lora_plus", "full")
"""The files of `conf/method` whose names are those of `method_of`."""


@dataclass(frozen=True)
class _Said:
    """What a recipe says, its parents where it says nothing."""

    method: str
    """Its choice of `method`."""
    settings: Mapping[str, Any]
    """Its own values of `KEYS` and of the learning rate."""


def without_effect(asked: Config, settled: Config, recipe: str | None, overrides: Sequence[str]) -> Iterator[str]:
    """Settings of a recipe that beat the method file that the command line chose."""
    given, method = _given(overrides), method_of(settled)
    chosen = given.get("method")
    if recipe is None or chosen is None or method.name == chosen:
        return
    file, usual, now, said = _file(chosen), flatten(Config()), flatten(asked), _said(recipe).settings
    if chosen in SHIPPED:  # its name promises the settings that it leaves at their defaults too
        file = {**{key: usual[key][0] for key in KEYS}, **file}
    beaten = [key for key in KEYS if key in file and key in said and key not in given]
    beaten = [key for key in beaten if str(file[key]) != str(now[key][0])]
    if beaten:
        words = ", ".join(f"{key}={_typed(said[key])}" for key in beaten)
        instead = " ".join(f"{key}={_typed(file[key])}" for key in beaten)
        yield (
            f"recipe '{recipe}' sets {words}, which beats method={chosen}: this run is {method.name}; "
            f"add {instead} to take the method's"
        )


def pinned(asked: Config, settled: Config, recipe: str | None, overrides: Sequence[str]) -> Iterator[str]:
    """A recipe's learning rate, where the command line takes another method than the recipe was written for."""
    given = _given(overrides)
    if recipe is None or RATE in given or not {"method", *KEYS} & set(given):
        return
    said = _said(recipe)
    rate = said.settings.get(RATE)
    if rate is None or rate != asked.train.learning_rate:
        return
    method, own = method_of(settled), method_of(_as_written(said, settled))
    offered = _file(given["method"]).get(RATE) if "method" in given else None
    usual = method.learning_rate if offered is None else float(offered)
    if rate != usual and (offered is not None or method.name != own.name):
        name, take = (method.name, "null") if offered is None else (given["method"], number(usual))
        yield (
            f"recipe '{recipe}' pins {RATE}={number(rate)} for method={own.name}; method={name} learns at "
            f"{number(usual)} by default: add {RATE}={take} to take it"
        )


def _given(overrides: Sequence[str]) -> dict[str, str]:
    """What the command line says, by its keys."""
    pairs = (text.lstrip("+~").partition("=") for text in overrides)
    return {key: value for key, _, value in pairs}


def _said(name: str) -> _Said:
    """What a recipe and those that it extends say."""
    method: str | None = None
    found: dict[str, Any] = {}
    queue, seen = [name], set[str]()
    while queue:
        known = choice("recipe", queue.pop(0))
        values = (known.values if known else None) or {}
        found = {**_flat(values), **found}
        for entry in values.get("defaults") or []:
            if isinstance(entry, str) and entry not in seen:
                seen.add(entry)
                queue.append(entry)
            elif isinstance(entry, dict):
                method = method or {group_of(str(key)): value for key, value in entry.items()}.get("method")
    try:
        found[RATE] = None if found.get(RATE) is None else float(found[RATE])  # YAML takes 2e-4 for a text
    except (TypeError, ValueError):
        found[RATE] = None  # an interpolation: not the recipe's own number
    return _Said(method or DEFAULT_METHOD, found)


def _as_written(said: _Said, settled: Config) -> Config:
    """The settings of the recipe's own method on the machine of the run."""
    values = {**_file(said.method), **said.settings}
    usual = Config()
    adapter = str(values.get("adapter", usual.adapter))
    bits = str(values.get("quantization.bits", usual.quantization.bits))
    if bits == "auto":
        bits = settled.hardware.quantization_bits if adapter == "lora" else "none"
    return replace(
        usual,
        adapter=adapter,
        quantization=replace(usual.quantization, bits=bits),
        lora=replace(usual.lora, use_dora=bool(values.get("lora.use_dora", False))),
        train=replace(usual.train, loraplus_lr_ratio=values.get("train.loraplus_lr_ratio")),
    )


def _file(method: str) -> dict[str, Any]:
    """What a file of `conf/method` sets."""
    found = choice("method", method)
    return _flat(found.values) if found and found.values else {}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `KEYS` and the learning rate that a file sets itself; an interpolation is another key's value."""
    found: dict[str, Any] = {}
    for key in (*KEYS, RATE):
        *parts, last = key.split(".")
        node: Any = values
        for part in parts:
            node = node.get(part) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping) and last in node and "${" not in str(node[last]):
            found[key] = node[last]
    return found


def _typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
