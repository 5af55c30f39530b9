"""What can run as written, but is likely not what was meant: sentences that are shown with the plan."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sft_runner.config import gate_conflicts, method_doubts
from sft_runner.config.conflicts import shape
from sft_runner.config.schema import Config, EarlyStopping, Lora, flatten
from sft_runner.method import SMALLEST, method_of, number


def of(asked: Config, settled: Config, recipe: str | None, overrides: Sequence[str]) -> Iterator[str]:
    """The doubts about a run, from its configuration as it was composed and as it was settled."""
    yield from _adapter_without_use(asked)
    yield from _without_use(asked)
    if settled.merge.base != "auto" and settled.quantization.bits == "none":
        yield f"merge.base={settled.merge.base} without effect: the base is not quantized"
    yield from gate_conflicts.doubts(settled, overrides)
    yield from method_doubts.without_effect(asked, settled, recipe, overrides)
    known = shape(settled)
    if known is not None and 0 < known.max_position_embeddings < settled.data.max_length:
        yield (
            f"data.max_length={settled.data.max_length} is more than the {known.max_position_embeddings} positions "
            f"that {settled.model.name} was made for (max_position_embeddings): "
            "longer rows teach it what it may never use"
        )
    if _tiny(settled):
        return  # the evidence for the rates does not cover it
    method = method_of(settled)
    yield from method_doubts.pinned(asked, settled, recipe, overrides)
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


def _without_use(asked: Config) -> Iterator[str]:
    """Settings that nothing looks at."""
    train, stopping, usual = asked.train, asked.train.early_stopping, EarlyStopping()
    looks = train.load_best_model_at_end or bool(train.eval_steps)
    if stopping.patience is None:
        unused = [] if stopping.min_delta == usual.min_delta else [f"min_delta={stopping.min_delta:g}"]
        unused += [] if looks or stopping.metric == usual.metric else [f"metric={stopping.metric}"]
        if unused:
            keys = ", ".join(f"train.early_stopping.{key}" for key in unused)
            yield f"{keys} without effect: nothing stops early, as train.early_stopping.patience is not set"
    if asked.evaluate.pattern is not None and "pattern" not in (*asked.evaluate.metrics, stopping.metric):
        yield "evaluate.pattern without effect: evaluate.metrics does not name pattern"
    model = asked.model
    given = [f"model.{key}" for key in ("revision", "trust_remote_code") if getattr(model, key) is not None]
    if given and (model.name.startswith("embedded:") or Path(model.name).expanduser().is_dir()):
        yield f"{', '.join(given)} without effect: model.name={model.name} is a folder, which has no commits"


def _tiny(config: Config) -> bool:
    """Whether the model is known to be smaller than those that the learning rates were found on."""
    known = shape(config)
    return known is not None and known.num_parameters is not None and known.num_parameters < SMALLEST
