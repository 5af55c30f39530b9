"""What is wrong with `evaluate.gates` and `evaluate.sets`: told before anything runs, with the key, and the line of the
recipe where it stands in one."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from sft_runner.config.conflicts import holds_out
from sft_runner.config.file_mistakes import line_of
from sft_runner.config.schema import Config
from sft_runner.data import sets
from sft_runner.data.selection import KINDS
from sft_runner.data.sources import sources_of
from sft_runner.errors import UnknownName, UserError, UserErrors, suggestion
from sft_runner.evaluation import names, tasks
from sft_runner.evaluation.gates import BENCHMARKS, LIMITS, SURE, depth, places

GATES = "evaluate.gates"
NEVER_LEARNED = ("weight", "cap", "held_out")
"""Words of `data.sources` that say how rows are learned."""
TAKEN = (BENCHMARKS, "by", "sets", "intervals")
"""Words that stand where a set's name stands, in gates and in scores."""
Mistake = tuple[tuple[str, ...], UserError]
"""Where it stands in the whole configuration, and what it is."""


def of_gates_and_sets(config: Config, recipe: str | None) -> Iterator[UserError]:
    """All mistakes of both, those of a recipe with file and line."""
    for place, error in (*_of_sets(config), *_of_gates(config)):
        where = line_of(recipe, place, _value(config, place)) if recipe else ""
        yield UserError(f"{where}: {error.message}", error.hint) if where else error


def doubts(config: Config, overrides: Sequence[str] = ()) -> Iterator[str]:
    """What of them can run, but is likely not what was meant."""
    said = any(word.lstrip("+").startswith(GATES) for word in overrides)
    if said and config.stage.until in ("prepare", "baseline", "train", "merge"):
        yield f"{GATES} without effect: stage={config.stage.until} ends before the tuned model is evaluated"
    for place, limits in places(config.evaluate.gates):
        key, metric = ".".join((GATES, *place)), place[-1]
        if place[0] == BENCHMARKS:
            continue
        lower = names.lower_is_better(metric)
        odd, usual = ("min", "max") if lower else ("max", "min")
        if odd in limits:
            less = "less" if lower else "more"
            yield f"{key}.{odd} stops a model that is too good: of {metric} {less} is better, {usual} sets its least"
        if names.ends(metric)[1] == 100 and 0 < limits.get("min", 0) <= 1:
            value = limits["min"]
            yield f"{key}.min={value:g}: {metric} goes up to 100, so nearly any model passes; is {100 * value:g} meant?"


def _of_sets(config: Config) -> Iterator[Mistake]:
    key = tuple(sets.KEY.split("."))
    for name, entry in config.evaluate.sets.items():
        named = f"{sets.KEY}.{name}"
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", str(name)):
            yield (*key, name), UserError(f"{named}: it cannot name a file", "use letters, digits, '-' and '_'")
        if what := _taken(str(name), config):
            yield (*key, name), UserError(f"{named}: {what} has this name", "call the set otherwise")
        for word in NEVER_LEARNED if isinstance(entry, Mapping) else ():
            if word in entry:
                hint = "leave it out; limit says how many of its first rows are scored"
                yield (*key, name, word), UserError(f"{named}.{word}: a set is scored and never learned", hint)
    try:
        if data := sets.as_data(config):
            sources_of(data)
    except UserError as error:
        for one in error.errors if isinstance(error, UserErrors) else (error,):
            said = re.search(rf"{re.escape(sets.KEY)}\.([^:'\s]+)", one.message)
            yield (*key, *(said[1].split(".") if said else ())), one


def _value(config: Config, place: tuple[str, ...]) -> Any:
    """What a configuration has at a place in one of its free dictionaries."""
    value: Any = config
    for key in place:
        value = value.get(key) if isinstance(value, Mapping) else getattr(value, key)
    return value


def _taken(name: str, config: Config) -> str:
    """What else has the name of a set; empty where it is free."""
    if name in TAKEN:
        return "a part of the scores"
    if name in config.data.sources:
        return "an entry of data.sources"
    if name in KINDS[1:]:
        return "a kind of held-out rows"
    return "a metric" if names.exists(name) else ""


def _of_gates(config: Config) -> Iterator[Mistake]:
    gates, top = config.evaluate.gates, tuple(GATES.split("."))
    if not gates:
        return
    measured = [*names.ALWAYS, *config.evaluate.metrics]
    groups = [*config.evaluate.sets, *config.data.sources, *KINDS[1:]]
    unknown: set[str] = set()
    for place, limits in places(gates):
        path, key = (*top, *place), ".".join((GATES, *place))
        if place[0] != BENCHMARKS and not names.exists(place[0]) and place[0] not in groups:
            if place[0] not in unknown:
                yield path[:3], _unknown(place[0], isinstance(limits, Mapping), groups)
            unknown.add(place[0])
        elif wrong := _in_place(place, key, config, measured):
            yield path, wrong
        elif len(place) < depth(place[0]):
            yield path, UserError(f"{key}: {_typed(limits)} is no mapping of metrics", _example(place))
        else:
            yield from ((top + place + at, error) for at, error in _in_limits(key, place, limits))


def _in_place(place: tuple[str, ...], key: str, config: Config, measured: Sequence[str]) -> UserError | None:
    """A metric, a group or a task that will not be measured."""
    if place[0] == BENCHMARKS:
        asked = config.evaluate.benchmarks
        task = place[1] if len(place) > 1 else ""
        if task and not any(task == known or task.startswith(f"{known}_") for known in asked):
            return UnknownName(f"{key}: task", task, asked, "") if asked else _no_benchmarks(key, task)
        measures = tasks.metrics(config, task) if len(place) == depth(BENCHMARKS) else []
        if measures and place[2] not in measures:
            return UserError(f"{key}: {task} does not measure '{place[2]}'", suggestion(place[2], sorted(measures)))
        return None
    name = place[0]
    if name in config.data.sources and not holds_out(config, name):
        hint = f"hold some out with data.sources.{name}.held_out, such as 0.1, or name its file in evaluate.sets"
        return UserError(f"{key}: no row of {name} is held out, so none is scored", hint)
    if len(place) == 1 and name in measured:
        return None
    if names.exists(name):
        return _not_measured(key, name)
    metric = place[1] if len(place) > 1 else ""
    if not metric or metric in measured:
        return None
    if names.exists(metric):
        return _not_measured(key, metric)
    return UserError(f"{key}: metric '{metric}' does not exist", suggestion(metric, sorted(names.known())))


def _in_limits(key: str, place: tuple[str, ...], limits: Any) -> Iterator[Mistake]:
    """What is wrong with `{min: 0.6, sure: true}`; places are below the metric."""
    if not isinstance(limits, Mapping):
        hint = f"write {place[-1]}: {{min: {_typed(limits)}}}" if _number(limits) else _example(place)
        yield (), UserError(f"{key}: {_typed(limits)} is no mapping of limits", hint)
        return
    if not set(limits) - {SURE}:
        yield (), UserError(f"{key}: no limit is set", f"set one of {', '.join(LIMITS)}, or leave the gate out")
    for limit, value in limits.items():
        word = f"{key}.{limit}"
        if limit == SURE:
            if not isinstance(value, bool):
                yield (SURE,), UserError(f"{word}: {_typed(value)} is neither true nor false", "write sure: true")
            elif value and place[0] == BENCHMARKS:
                yield (SURE,), UserError(f"{word}: benchmarks have no interval here", "leave it out")
        elif limit not in LIMITS:
            yield (str(limit),), UserError(f"{key}: limit '{limit}' does not exist", _meant(str(limit)))
        elif not _number(value):
            quoted = isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", value.strip())
            hint = "write it without quotes" if quoted else "give a number such as 0.6"
            yield (limit,), UserError(f"{word}: {_typed(value)} is not a number", hint)
        elif error := _out_of_range(word, limit, place[-1], value, place[0] == BENCHMARKS):
            yield (limit,), error
    low, high = limits.get("min"), limits.get("max")
    if _number(low) and _number(high) and low > high:
        yield ("min",), UserError(f"{key}: min {low:g} is more than max {high:g}: no model passes", "swap them")


def _out_of_range(word: str, limit: str, metric: str, value: float, task: bool) -> UserError | None:
    """A number that no model can reach, or that every one does."""
    if limit == "max_ratio":
        if value <= 0:
            return UserError(f"{word}={value:g}: a ratio is above 0", "1.02 allows 2 % more than the base has")
        if not task and not names.lower_is_better(metric):
            hint = "use min_gain, which may be below 0: -0.02 allows a loss of 0.02"
            return UserError(f"{word} stops a model that got better: of {metric} more is better", hint)
        return None
    least, most = (-math.inf, math.inf) if task else names.ends(metric)
    if limit == "min_gain":
        least -= most  # from the best base to the worst tuned model
    if least <= value <= most:
        return None
    if names.is_share(metric) and 1 < value <= 100:
        return UserError(f"{word}={value:g}: {metric} is a share, at most 1", f"did you mean {value / 100:g}?")
    passes = "every" if (value < least) == (limit != "max") else "no"
    what = f"{metric} goes from 0 to {most:g}" if math.isfinite(most) else f"{metric} is never below 0"
    return UserError(f"{word}={value:g}: {passes} model passes", what)


def _not_measured(key: str, metric: str) -> UserError:
    return UserError(f"{key}: {metric} is not measured", f"add it to evaluate.metrics: evaluate.metrics=[...,{metric}]")


def _no_benchmarks(key: str, task: str) -> UserError:
    return UserError(f"{key}: no benchmark is run", f"set evaluate.benchmarks=[{task}]")


def _unknown(name: str, group: bool, groups: Sequence[str]) -> UserError:
    """A name with limits is meant as a metric, one with metrics as a `group`."""
    key = f"{GATES}.{name}"
    if not group:
        return UserError(f"{key}: metric '{name}' does not exist", suggestion(name, sorted(names.known())))
    hint = suggestion(name, sorted(groups))
    add = f"add it to evaluate.sets: {{{name}: {{path: FILE}}}}"
    return UserError(f"{key}: there is no set or source '{name}'", hint if hint.startswith("did you") else add)


def _meant(limit: str) -> str:
    hint = suggestion(limit, [*LIMITS, SURE])
    return hint if hint.startswith("did you") else f"limits: {', '.join(LIMITS)}, and {SURE}"


def _example(place: tuple[str, ...]) -> str:
    example = "{min: 0.6}" if names.exists(place[0]) else "{perplexity: {max_ratio: 1.02}}"
    return f"write {place[0]}: {'{TASK: {exact_match: {min: 0.3}}}' if place[0] == BENCHMARKS else example}"


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _typed(value: Any) -> str:
    """A value as YAML has it."""
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else repr(value)
