"""How good a model is on rows whose answers are known; base and tuned model go through the same code.

Loss and perplexity come from one forward pass over each row, on the answer's tokens only. The other metrics compare
an answer that the model writes with the row's own; both are read from token ids in the same way.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.data.template import IGNORED
from sft_runner.disk import explained, write_json
from sft_runner.errors import DataError, NotFinite, UnknownName
from sft_runner.evaluation.names import LOWER_IS_BETTER
from sft_runner.model.memory import in_batches
from sft_runner.model.rows import Rows, answer_positions, batches, held_out, is_conversation, padded
from sft_runner.stages.stage import Report

if TYPE_CHECKING:
    from torch import Tensor

Metric = Callable[[str, str], float]
"""From the model's answer and the expected one to a number; the metric is its mean over the rows."""
LOGITS = 2**28
"""Most logits in a batch of several rows: 512 MiB in 16 bits."""
POSITIONS = 256
"""Positions whose logits are turned into float32 at once."""
BY = "by"
"""Where metrics of parts of the rows stand."""
COUNTS = ("rows", "tokens", "answers")
"""What metrics rest on."""
FILES = ["scores.json", "predictions.jsonl"]
"""What `write` leaves in a stage's folder."""


@dataclass
class Scores:
    """What a model scored, and row by row why."""

    metrics: dict[str, Any]
    """`loss` in nats for each answer token, `perplexity`, each metric asked for, and what they rest on: `rows`, answer
    `tokens`, and `answers` where some rows have no prompt to answer. Below `by` the same for the rows of each kind
    and of each source, where there are several."""
    predictions: list[dict[str, Any]]
    """One for each row, in their order: source, prompt (messages, or text where there are
    none), expected, loss, tokens; origin and kind where `by` names them; where something was generated also answer,
    stopped and the row's metrics."""


def exact_match(answer: str, expected: str) -> float:
    """1 where both are the same but for space around them."""
    return float(answer.strip() == expected.strip())


METRICS: dict[str, Metric] = {"exact_match": exact_match}
"""Metrics of generated answers, by the name that `evaluate.metrics` uses."""


def known_metrics() -> tuple[str, ...]:
    """The names that `evaluate.metrics` may hold."""
    return tuple(METRICS)


def score_held_out(model: Any, config: Config, prepared: Path, report: Report) -> Scores:
    """Score a model as `evaluate.*` says, on the rows that `prepare` kept away from training."""
    from sft_runner.model import files, loading

    return score(
        model,
        loading.load_tokenizer(files.require(config.model)),
        held_out(prepared, config.evaluate.limit),
        config.evaluate.metrics,
        config.evaluate.max_new_tokens,
        config.hardware.per_device_eval_batch_size,
        report,
    )


def score(
    model: Any,
    tokenizer: Any,
    rows: Rows,
    metrics: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    report: Report,
) -> Scores:
    """Score a model on prepared rows. Nothing is generated when `metrics` is empty, nor for rows without a prompt."""
    from sft_runner.evaluation.generation import answers, stop_tokens

    measures = {name: _metric(name) for name in metrics}
    model.eval()
    stops = stop_tokens(model, tokenizer)
    losses = _losses(model, rows, batch_size, report)
    predictions = [_prediction(tokenizer, stops, row, *found) for row, found in zip(rows, losses, strict=True)]
    asked = [index for index, length in enumerate(rows["prompt_length"]) if length] if measures else []
    if asked:
        written = answers(model, tokenizer, rows.select(asked), max_new_tokens, batch_size, report)
        for index, answer in zip(asked, written, strict=True):
            prediction = predictions[index]
            prediction |= {"answer": answer.text, "stopped": answer.stopped}
            prediction |= {name: measure(answer.text, prediction["expected"]) for name, measure in measures.items()}
    found = _summary(predictions, measures)
    if groups := _groups(rows):
        found[BY] = {
            name: _summary([predictions[index] for index in members], measures) for name, members in groups.items()
        }
        for prediction, origin, kind in zip(predictions, rows["origin"], rows["kind"], strict=True):
            prediction |= {"origin": origin, "kind": kind}
    return Scores(found, predictions)


def gain(base: dict[str, Any], tuned: dict[str, Any]) -> dict[str, Any]:
    """By how much the tuned model is better; negative where it is worse."""
    names = [name for name in tuned if name in base and name not in (*COUNTS, BY)]
    found: dict[str, Any] = {
        name: base[name] - tuned[name] if name in LOWER_IS_BETTER else tuned[name] - base[name] for name in names
    }
    if BY in tuned:
        found[BY] = {name: gain(base[BY][name], scores) for name, scores in tuned[BY].items() if name in base[BY]}
    return found


def write(folder: Path, scores: dict[str, dict[str, Any]], predictions: Iterable[dict[str, Any]]) -> None:
    """Write `scores.json` and, one row to a line, `predictions.jsonl`."""
    write_json(folder / "scores.json", scores)
    path = folder / "predictions.jsonl"
    with explained(path), open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in predictions)


def _metric(name: str) -> Metric:
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS, "evaluate.metrics: ")
    return METRICS[name]


def _prediction(tokenizer: Any, stops: Sequence[int], row: dict[str, Any], loss: float, tokens: int) -> dict[str, Any]:
    from sft_runner.evaluation.generation import read

    ids, end = row["input_ids"], row["prompt_length"]
    prompt = json.loads(row["messages"])[:-1] if is_conversation(row) else tokenizer.decode(ids[:end])
    expected = read(tokenizer, ids[end:], stops).text
    return {"source": row["source"], "prompt": prompt, "expected": expected, "loss": loss, "tokens": tokens}


def _summary(predictions: Sequence[dict[str, Any]], measures: Iterable[str]) -> dict[str, Any]:
    """What some rows score together: loss by token, the other metrics by answer."""
    tokens = sum(row["tokens"] for row in predictions)
    loss = sum(row["loss"] * row["tokens"] for row in predictions) / max(tokens, 1)
    found = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}  # a float ends at e^709
    answered = [row for row in predictions if "answer" in row]
    if answered:
        found |= {name: sum(row[name] for row in answered) / len(answered) for name in measures}
    found |= {"rows": len(predictions), "tokens": tokens}
    return found | ({"answers": len(answered)} if 0 < len(answered) < len(predictions) else {})


def _groups(rows: Rows) -> dict[str, list[int]]:
    """Rows by the source they came from where there are several, and by the kind that they were held out as."""
    found: dict[str, list[int]] = {}
    origins = rows["origin"] if len(set(rows["origin"])) > 1 else []
    for names in (origins, rows["kind"]):
        for index, name in enumerate(names):
            if name:
                found.setdefault(name, []).append(index)
    return found


_SMALLER = "try, one after the other: quantization.bits=4, a smaller data.max_length"
"""What is left when one row does not fit."""


def _losses(model: Any, rows: Rows, batch_size: int, report: Report) -> list[tuple[float, int]]:
    """Mean loss and number of answer tokens of each row.

    Rows are padded on the right, where a causal model never looks, and only the batch's tail from its first answer
    on is turned into logits.
    """
    import torch

    lengths = [len(ids) for ids in rows["input_ids"]]
    starts = [min(answer_positions(labels), default=len(labels) - 1) for labels in rows["labels"]]
    most = LOGITS // model.config.get_text_config().vocab_size
    losses = [(0.0, 0)] * len(rows)
    done = 0

    def measure(batch: Sequence[int]) -> None:
        nonlocal done
        columns = rows[batch]
        ids, mask = padded(columns["input_ids"], 0, model.device)
        labels, _ = padded([labels[1:] for labels in columns["labels"]], IGNORED, model.device, ids.shape[1])
        tail = ids.shape[1] - min(starts[index] for index in batch)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=tail, use_cache=False).logits
            for index, found, wanted in zip(batch, logits[:, -tail:], labels[:, -tail:], strict=True):
                losses[index] = _cross_entropy(found, wanted)
        for index in batch:
            if not math.isfinite(losses[index][0]):
                raise NotFinite(
                    f"the loss on the held-out row {rows[index]['source']} is {losses[index][0]}",
                    "the model overflows in this precision: set hardware.dtype to bfloat16 or float32",
                )
        done += len(batch)
        report(step=done, steps=len(rows), message="loss")

    in_batches(batches(lengths, starts, batch_size, most), measure, report, _SMALLER)
    if not any(tokens for _, tokens in losses):
        raise DataError("data.path: no held-out row has an answer token to score", "give rows with answers")
    return losses


def _cross_entropy(logits: "Tensor", labels: "Tensor") -> tuple[float, int]:
    """Mean loss of one row, some positions at a time in float32, and how many positions carry loss."""
    from torch.nn.functional import cross_entropy

    counted = (labels != IGNORED).nonzero()[:, 0]
    total = 0.0
    for first in range(0, len(counted), POSITIONS):
        part = counted[first : first + POSITIONS]
        total += cross_entropy(logits[part].float(), labels[part], reduction="sum").item()
    return total / max(len(counted), 1), len(counted)
