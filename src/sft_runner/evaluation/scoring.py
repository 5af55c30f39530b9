"""How good a model is on rows whose answers are known; base and tuned model go through the same code.

The metrics of the loss come from one forward pass over each row, on the answers' tokens only. The others compare an
answer that the model writes with the row's own; both are read from token ids in the same way.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.disk import explained, write_json
from sft_runner.evaluation import names
from sft_runner.evaluation.losses import Loss, answer_bytes, losses
from sft_runner.evaluation.metrics import statistics
from sft_runner.evaluation.metrics.metric import Metric, metrics_of
from sft_runner.evaluation.metrics.statistics import Statistics
from sft_runner.model.rows import Rows, all_rows, held_out, is_conversation
from sft_runner.stages.stage import Report

BY, SETS, BENCHMARKS = "by", "sets", "benchmarks"
"""Where metrics of parts of the rows, of other sets of rows, and of benchmarks stand."""
HIGHER = "higher_is_better"
"""Where it is said of the metrics of benchmarks whether more is better."""
HELD_OUT = ""
"""The name of the held-out rows among the sets that are scored."""


@dataclass
class Scores:
    """What a model scored on some rows, and row by row why."""

    metrics: dict[str, Any]
    """Those of the loss, each that was asked for, and what they rest on: `rows`, answer `tokens`, and `answers` where
    some rows have no prompt to answer. Below `by` the same for the rows of each kind and of each source, where there
    are several. A metric that means nothing for any row is left out."""
    predictions: list[dict[str, Any]]
    """One for each row, in their order: source, prompt (messages, or text where there are none), expected, loss,
    tokens, token_accuracy; origin and kind where `by` names them; where something was generated also answer, stopped
    and the row's metrics, None where one means nothing for it."""
    statistics: Statistics
    """What each row adds to each metric."""
    groups: dict[str, list[int]] = field(default_factory=dict)
    """The rows of each part."""


def score_all(
    model: Any,
    config: Config,
    prepared: Path,
    sets: Mapping[str, Path],
    folder: Path,
    report: Report,
    trained: Path | None = None,
) -> tuple[dict[str, Scores], dict[str, Any]]:
    """Score a model as `evaluate.*` says: the rows that `prepare` kept away from training, the other sets (name ->
    file), and benchmarks. `trained` is the train stage's folder, None for the base.

    Returns the scores of each set, the held-out rows first, and those of benchmarks. Afterwards the model may have lost
    its weights to another engine. Raises `DataError` without held-out rows, `UserError` for unknown metrics.
    """
    from sft_runner.evaluation import engines, generation
    from sft_runner.model import files, loading

    asked, size = config.evaluate, config.hardware.per_device_eval_batch_size
    metrics = metrics_of(asked.metrics, asked.pattern)
    tokenizer = loading.load_tokenizer(files.require(config.model))
    if (template := prepared / "chat_template.jinja").is_file():
        tokenizer.chat_template = template.read_text(encoding="utf-8")  # benchmarks write their prompts with it
    parts = {HELD_OUT: held_out(prepared, asked.limit)} | {name: all_rows(file) for name, file in sets.items()}
    model.eval()
    stops = generation.stop_tokens(model, tokenizer)
    found = {name: losses(model, rows, size, _named(report, name)) for name, rows in parts.items()}
    tasks = _benchmarks(model, config, tokenizer, folder, report)
    written: dict[str, list[Any]] = {name: [] for name in parts}
    if metrics:
        with engines.writer(config, folder, trained) as write:
            for name, rows in parts.items():
                if asking := _asking(rows):
                    chosen = rows.select(asking)
                    written[name] = write(model, tokenizer, chosen, asked.max_new_tokens, size, _named(report, name))
    several = len(config.data.sources) > 1
    scored = {
        name: _scores(tokenizer, stops, rows, found[name], written[name], metrics, several and name == HELD_OUT)
        for name, rows in parts.items()
    }
    return scored, tasks


def score(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    metrics: Sequence[Metric],
    max_new_tokens: int,
    batch_size: int,
    report: Report,
) -> Scores:
    """Score a model on prepared rows. Nothing is generated when `metrics` is empty, nor for rows without a prompt."""
    from sft_runner.evaluation.generation import answers, stop_tokens

    model.eval()
    found = losses(model, rows, batch_size, report)
    asking = _asking(rows) if metrics else []
    written = answers(model, tokenizer, rows.select(asking), max_new_tokens, batch_size, report) if asking else []
    return _scores(tokenizer, stop_tokens(model, tokenizer), rows, found, written, metrics)


def gathered(scored: Mapping[str, Scores], tasks: Mapping[str, Any]) -> dict[str, Any]:
    """All scores of a model in one mapping: other sets stand below `sets`, those of benchmarks as `tasks` has them."""
    others = {name: one.metrics for name, one in scored.items() if name != HELD_OUT}
    return scored[HELD_OUT].metrics | ({SETS: others} if others else {}) | dict(tasks)


def gain(base: Mapping[str, Any], tuned: Mapping[str, Any], higher: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """By how much the tuned model is better; negative where it is worse. Of the shape of scores.

    `higher` says of benchmarks, by task and metric, whether more is better; where it says None there is no gain.
    """
    found: dict[str, Any] = {}
    told = higher or {}
    for name, value in tuned.items():
        if name not in base or name in (*names.COUNTS, HIGHER) or name.endswith("_stderr"):
            continue
        if isinstance(value, Mapping):
            found[name] = gain(base[name], value, tuned.get(HIGHER) if name == BENCHMARKS else told.get(name))
        elif value is not None and base[name] is not None and told.get(name, True) is not None:
            lower = not told[name] if name in told else names.lower_is_better(name)
            found[name] = base[name] - value if lower else value - base[name]
    return found


def left_out(scored: Mapping[str, Scores], asked: Sequence[str]) -> list[str]:
    """Which metrics of answers mean nothing for some rows, in a sentence each; `asked` is `evaluate.metrics`."""
    found = []
    wanted = [name for name in dict.fromkeys(asked) if names.generated(name)]
    for part, one in scored.items():
        answered = sum("answer" in row for row in one.predictions)
        where = f" of {part}" if part else ""
        if wanted and not answered:
            told = f"{', '.join(wanted)} {'were' if len(wanted) > 1 else 'was'} not measured"
            found.append(f"{told}: none of the {len(one.predictions):,} rows{where} has a prompt to answer")
        for name, matrix in one.statistics.items():
            missing = answered - int(statistics.counted(matrix).sum())
            if names.generated(name) and missing == answered > 0:
                found.append(f"{name} was not measured: it means nothing for any of the {answered:,} rows{where}")
            elif names.generated(name) and missing > 0:
                found.append(f"{name} means nothing for {missing:,} of {answered:,} rows{where}, which do not count")
    return found


def write(folder: Path, found: Mapping[str, Any], scored: Mapping[str, Scores]) -> None:
    """Write `scores.json`, and what each row adds to the metrics, for intervals."""
    write_json(folder / "scores.json", dict(found))
    for name, one in scored.items():
        statistics.write(folder / statistics_file(name), one.statistics)


def write_predictions(folder: Path, name: str, predictions: Iterable[dict[str, Any]]) -> str:
    """Write the predictions for one set, one row to a line; returns the name of the file."""
    path = folder / predictions_file(name)
    with explained(path), open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in predictions)
    return path.name


def read_predictions(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """What `write_predictions` wrote."""
    with open(folder / predictions_file(name), encoding="utf-8", errors="surrogatepass") as file:
        for line in file:
            yield json.loads(line)


def predictions_file(name: str) -> str:
    """`predictions.jsonl` for the held-out rows, `predictions.NAME.jsonl` for another set."""
    return f"predictions.{name}.jsonl" if name else "predictions.jsonl"


def statistics_file(name: str) -> str:
    """The like of it for statistics."""
    return f"statistics.{name}.npz" if name else "statistics.npz"


def _benchmarks(model: Any, config: Config, tokenizer: Any, folder: Path, report: Report) -> dict[str, Any]:
    if not config.evaluate.benchmarks:
        return {}
    from sft_runner.evaluation import benchmarks

    return benchmarks.run(config, model, tokenizer, folder, report)


def _named(report: Report, name: str) -> Report:
    """The report, with the set's name before each message."""

    def named(**values: Any) -> None:
        report(**values | ({"message": f"{name}: {values['message']}"} if name and "message" in values else {}))

    return named


def _asking(rows: Rows) -> list[int]:
    """The rows that have a prompt to answer."""
    return [index for index, length in enumerate(rows["prompt_length"]) if length]


def _scores(
    tokenizer: Any,
    stops: Sequence[int],
    rows: Rows,
    found: Sequence[Loss],
    written: Sequence[Any],
    metrics: Sequence[Metric],
    several: bool = False,
) -> Scores:
    """From what was measured and generated to scores; `written` has an answer for each row with a prompt, or none."""
    predictions = [_prediction(tokenizer, stops, row, loss) for row, loss in zip(rows, found, strict=True)]
    sizes = [answer_bytes(tokenizer, *ids) for ids in zip(rows["input_ids"], rows["labels"], strict=True)]
    added: dict[str, Any] = dict(statistics.of_losses(found, sizes))
    if written:
        for index, answer in zip(_asking(rows), written, strict=True):
            predictions[index] |= {"answer": answer.text, "stopped": answer.stopped}
        pairs = [(row["answer"], row["expected"]) if "answer" in row else None for row in predictions]
        for metric in metrics:
            added[metric.name] = statistics.of_answers(metric, pairs)
            values = statistics.of_rows(metric, added[metric.name])
            for prediction, pair, value in zip(predictions, pairs, values, strict=True):
                prediction |= {metric.name: value} if pair else {}
    summary = _summary(range(len(predictions)), predictions, added, metrics)
    groups = _groups(rows, several)
    if groups:
        summary[BY] = {name: _summary(part, predictions, added, metrics) for name, part in groups.items()}
        for prediction, origin, kind in zip(predictions, rows["origin"], rows["kind"], strict=True):
            prediction |= {"origin": origin, "kind": kind}
    return Scores(summary, predictions, added, groups)


def _prediction(tokenizer: Any, stops: Sequence[int], row: dict[str, Any], loss: Loss) -> dict[str, Any]:
    from sft_runner.evaluation.generation import read

    ids, end = row["input_ids"], row["prompt_length"]
    prompt = json.loads(row["messages"])[:-1] if is_conversation(row) else tokenizer.decode(ids[:end])
    return {
        "source": row["source"],
        "prompt": prompt,
        "expected": read(tokenizer, ids[end:], stops).text,
        "loss": loss.mean,
        "tokens": loss.tokens,
        "token_accuracy": loss.right / max(loss.tokens, 1),
    }


def _summary(
    members: Sequence[int],
    predictions: Sequence[dict[str, Any]],
    added: Statistics,
    metrics: Sequence[Metric],
) -> dict[str, Any]:
    """What some rows score together."""
    found: dict[str, Any] = statistics.scores(added, metrics, members)
    rows = [predictions[index] for index in members]
    found |= {"rows": len(rows), "tokens": sum(row["tokens"] for row in rows)}
    answered = sum("answer" in row for row in rows)
    return found | ({"answers": answered} if 0 < answered < len(rows) else {})


def _groups(rows: Rows, several: bool) -> dict[str, list[int]]:
    """Rows by the source they came from where there are `several`, though rows of only one of them may be held out, and
    by the kind that they were held out as."""
    found: dict[str, list[int]] = {}
    origins = rows["origin"] if several or len(set(rows["origin"])) > 1 else []
    for labels in (origins, rows["kind"]):
        for index, name in enumerate(labels):
            if name:
                found.setdefault(name, []).append(index)
    return found
