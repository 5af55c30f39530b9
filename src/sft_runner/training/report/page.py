"""The page of a training: its picture, what was measured, what happened, and what was set."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_runner.config.schema import MODES, Config
from sft_runner.cost.memory import training_memory
from sft_runner.cost.table import passes
from sft_runner.data.report.numbers import duration, percent
from sft_runner.evaluation.names import METRICS
from sft_runner.hardware import GB
from sft_runner.method import method_of
from sft_runner.model.architecture import architecture
from sft_runner.page import environment
from sft_runner.training.report.curve import Entries


def page(
    config: Config, facts: Mapping[str, Any], logged: Entries, evaluated: Entries, story: Sequence[str], picture: str
) -> str:
    """The whole page; `picture` is the SVG that stands in it, all other text is escaped."""
    from markupsafe import Markup

    watched = config.train.early_stopping.metric
    values = {
        "config": config,
        "headline": list(_headline(facts, evaluated, watched)),
        "picture": Markup(picture),
        "measured": list(_measured(config, facts)),
        "settings": list(_settings(config)),
        "story": story,
        "looks": _looks(logged, evaluated, watched),
        "watched": [] if watched == "loss" else [_name(watched)],
        "best": (facts.get("best") or {}).get("step"),
    }
    return environment(Path(__file__).parent).get_template("page.html.jinja").render(values)


def _headline(facts: Mapping[str, Any], evaluated: Entries, watched: str) -> Iterator[tuple[str, str, str]]:
    """Number, what it is, and its colour: of the weights that are the result."""
    kept = facts.get("kept_step", facts["steps"])
    yield f"{facts['loss']:.4f}", f"training loss before step {kept:,}", "train"
    look = next((entry for entry in reversed(evaluated) if entry["step"] <= kept), None)
    if look:
        for metric in dict.fromkeys(("loss", watched)):
            yield (
                _score(metric, look[f"eval_{metric}"]),
                f"held-out {_name(metric)} at step {look['step']:,}",
                "held_out",
            )
    yield f"{facts['steps']:,}", "optimizer steps", "source"
    if "tokens_per_second" in facts:
        yield f"{facts['tokens_per_second']:,.0f}", "tokens a second", "source"


def _measured(config: Config, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was measured, each with its unit. What a training does not know is left out."""
    planned = _planned_memory(config, facts)
    if "trainable_parameters" in facts:
        trained, total = facts["trainable_parameters"], facts["total_parameters"]
        yield "parameters that train", f"{trained:,} of {total:,} ({percent(trained / total)})"
    if "dtypes" in facts:
        yield "precision", ", ".join(f"{part} {dtype}" for part, dtype in facts["dtypes"].items())
    if "micro_batch" in facts:
        yield "a step", f"{facts['rows_per_step']:g} rows {passes(config, facts['micro_batch'])}"
    if checkpointing := facts.get("activation_checkpointing"):
        yield "activation checkpointing", str(checkpointing)
    if "tokens" in facts:
        yield "tokens", f"{facts['tokens']:,} in {facts['epochs']:.3g} epochs"
    if "real_tokens" in facts:
        yield "tokens that are not padding", percent(facts["real_tokens"])
    if "mfu" in facts:
        yield "model FLOPs utilisation", f"{facts['mfu']:.1f} %, counted as if all weights trained"
    if "seconds" in facts:
        looks = f", of which looks {duration(facts['looks_seconds'])}" if "looks_seconds" in facts else ""
        yield "time in the trainer", duration(facts["seconds"]) + looks
    if "peak_memory_gb" in facts:
        told = f"; the plan said up to {planned:.2f} GB, for rows of full length" if planned else ""
        yield "peak memory", f"{facts['peak_memory_gb']:.2f} GB{told}"
    if facts.get("kept_step", facts["steps"]) != facts["steps"]:
        yield "the result", f"the weights of step {facts['kept_step']:,}"


def _planned_memory(config: Config, facts: Mapping[str, Any]) -> float | None:
    """What the plan says of the way the rows were fed in the end, in GB; None where the model's shape is not known."""
    checkpointing, arch = facts.get("activation_checkpointing"), architecture(config.model)
    if arch is None or checkpointing not in MODES:
        return None
    return training_memory(config, arch, facts["micro_batch"], checkpointing, config.data.max_length).total / GB


def _settings(config: Config) -> Iterator[tuple[str, str]]:
    """What was asked for, in the words of its keys."""
    train, lora = config.train, config.lora
    yield "method", method_of(config).name
    yield "model.name", config.model.name
    if train.continue_from:
        yield "train.continue_from", train.continue_from
    if config.adapter != "none":
        yield "lora", f"r={lora.r}, lora_alpha={lora.lora_alpha:g}, dropout {lora.lora_dropout:g}"
        yield "quantization.bits", config.quantization.bits
    yield "hardware", f"{config.hardware.name or 'not named'}, {config.hardware.dtype}"
    ratio = f", B at {train.loraplus_lr_ratio:g} times that" if train.loraplus_lr_ratio else ""
    warmup = f"{train.warmup_steps:.0%} warm-up" if train.warmup_steps < 1 else f"{train.warmup_steps:g} warm-up steps"
    yield "train.learning_rate", f"{train.learning_rate:g}, {train.lr_scheduler_type}, {warmup}{ratio}"
    yield "data.max_length", f"{config.data.max_length:,}"
    yield "train.seed", str(train.seed)


def _looks(logged: Entries, evaluated: Entries, watched: str) -> list[tuple[int, list[str]]]:
    """Of each look its step, and the training loss, the held-out loss and what else is watched."""
    losses = {entry["step"]: f"{entry['loss']:.4f}" for entry in logged}
    metrics = dict.fromkeys(("loss", watched))
    return [
        (entry["step"], [losses.get(entry["step"], ""), *(_score(one, entry[f"eval_{one}"]) for one in metrics)])
        for entry in evaluated
    ]


def _score(metric: str, value: float) -> str:
    """A number of a look, as the line of the stage shows it."""
    return percent(value) if metric in METRICS else f"{value:.4f}"


def _name(metric: str) -> str:
    """A metric in words."""
    return metric.replace("_", " ")
