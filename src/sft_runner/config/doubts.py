"""What can run as written, but is likely not what was meant: sentences that are shown with the plan."""

from collections.abc import Iterator, Sequence
from typing import Any

from sft_runner.config.conflicts import shape
from sft_runner.config.schema import Config, Lora, flatten
from sft_runner.config.sources import recipes
from sft_runner.method import SMALLEST, Method, method_of, number

DEFAULT_METHOD = "lora"
"""The choice of `method` in conf/sft.yaml."""


def of(asked: Config, settled: Config, recipe: str | None, overrides: Sequence[str]) -> Iterator[str]:
    """The doubts about a run, from its configuration as it was composed and as it was settled."""
    yield from _adapter_without_use(asked)
    if _tiny(settled):
        return  # the evidence for the rates does not cover it
    method = method_of(settled)
    yield from _pinned_for_another(asked, method, recipe, overrides)
    rate = settled.train.learning_rate or method.learning_rate
    if not method.lowest <= rate <= method.highest:
        side = "above" if rate > method.highest else "below"
        usual = f"{number(method.lowest)} to {number(method.highest)}"
        yield (
            f"train.learning_rate={number(rate)} is {side} the usual range of {method.name}, {usual}; "
            f"its default is {number(method.learning_rate)}: {method.evidence}"
        )


def _adapter_without_use(asked: Config) -> Iterator[str]:
    """Settings of an adapter that is not made."""
    if asked.adapter != "none":
        return
    usual = flatten(Lora())
    given = [f"lora.{key}={value}" for key, (value, _) in flatten(asked.lora).items() if value != usual[key][0]]
    if given:
        yield f"{', '.join(given)} without effect: adapter=none (method=full) makes no adapter"


def _pinned_for_another(asked: Config, method: Method, recipe: str | None, overrides: Sequence[str]) -> Iterator[str]:
    """A recipe's learning rate, where the command line takes another method than the recipe was written for."""
    chosen = next((text.partition("=")[2] for text in overrides if text.startswith("method=")), None)
    given = any(text.lstrip("+").startswith("train.learning_rate=") for text in overrides)
    if recipe is None or chosen is None or given:
        return
    own, rate = _of_recipe(recipe)
    if rate is not None and chosen != own and rate == asked.train.learning_rate != method.learning_rate:
        yield (
            f"recipe '{recipe}' pins train.learning_rate={number(rate)} for method={own}; method={chosen} learns at "
            f"{number(method.learning_rate)} by default: add train.learning_rate=null to take it"
        )


def _of_recipe(name: str) -> tuple[str, float | None]:
    """The method that a recipe chooses and the learning rate that it pins, its parents' where it has none."""
    method: str | None = None
    rate: Any = None
    queue, seen = [name], set[str]()
    while queue:
        known = recipes().get(queue.pop(0))
        values = (known.values if known else None) or {}
        rate = rate if rate is not None else (values.get("train") or {}).get("learning_rate")
        for entry in values.get("defaults") or []:
            if isinstance(entry, str) and entry not in seen:
                seen.add(entry)
                queue.append(entry)
            elif isinstance(entry, dict):
                chosen = {str(key).split()[-1].lstrip("/"): value for key, value in entry.items()}
                method = method or chosen.get("method")
    return method or DEFAULT_METHOD, None if rate is None else float(rate)


def _tiny(config: Config) -> bool:
    """Whether the model is known to be smaller than those that the learning rates were found on."""
    known = shape(config)
    return known is not None and known.num_parameters is not None and known.num_parameters < SMALLEST
