"""Scores of real rows by the embedded model, beside a computation that shares no code with ours."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from random_models import Reports
from sft_runner.config.schema import Config, Model
from sft_runner.evaluation import scoring
from sft_runner.evaluation.metrics import statistics
from sft_runner.evaluation.metrics.metric import metrics_of

pytestmark = pytest.mark.slow

ROWS, LONGEST = 100, 48
METRICS = ("exact_match", "number", "bleu", "chrf", "rouge1", "rouge2", "rougeL")


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """100 rows of GSM8K as token ids, the embedded model and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    from sft_runner.config.schema import Data
    from sft_runner.data import sets
    from sft_runner.data.sources.local import EMBEDDED
    from sft_runner.model.loading import load_tokenizer
    from sft_runner.model.rows import all_rows

    data = Path(__file__).parents[3] / "shared/data/gsm8k_test.jsonl"
    if not data.is_file():
        pytest.skip("no shared data beside this checkout")
    torch.set_num_threads(1)
    config = Config(model=Model(name="embedded:tiny"), data=Data(max_length=2048))
    config.evaluate.sets = {"gsm8k": {"path": str(data), "limit": ROWS}}
    files = sets.write(config, tmp_path_factory.mktemp("baseline"), Reports())
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED / "tiny").eval()
    return model, load_tokenizer(EMBEDDED / "tiny"), all_rows(files["gsm8k"])


@pytest.fixture(scope="module")
def scored(gsm8k: Any) -> scoring.Scores:
    model, tokenizer, rows = gsm8k
    return scoring.score(model, tokenizer, rows, metrics_of(METRICS), LONGEST, 32, Reports())


def test_metrics_of_the_loss(gsm8k: Any, scored: scoring.Scores) -> None:
    import torch

    model, _, rows = gsm8k
    nats, tokens, right, size = 0.0, 0, 0, 0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        with torch.inference_mode():
            logits = model(ids).logits[0, :-1].double()
        here = labels[1:] != -100
        wanted = labels[1:][here]
        chances = torch.log_softmax(logits[here], dim=-1)
        nats -= chances[range(len(wanted)), wanted].sum().item()
        right += int((chances.argmax(-1) == wanted).sum())
        tokens += len(wanted)
        size += len(json.loads(row["messages"])[-1]["content"].encode())
    found = scored.metrics
    assert (found["rows"], found["tokens"]) == (ROWS, tokens)
    assert found["loss"] == pytest.approx(nats / tokens, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert found["token_accuracy"] == right / tokens
    assert 0.01 < right / tokens < 0.99


def test_metrics_of_answers(gsm8k: Any, scored: scoring.Scores, tmp_path: Path) -> None:
    import torch

    model, tokenizer, rows = gsm8k
    answers, expected = [], [json.loads(row["messages"])[-1]["content"] for row in rows]
    for row in rows:
        ids = torch.tensor([row["input_ids"][: row["prompt_length"]]])
        with torch.inference_mode():
            made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=LONGEST, do_sample=False)
        answers.append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
    assert [row["answer"] for row in scored.predictions] == answers
    assert [row["expected"] for row in scored.predictions] == expected
    assert len(set(answers)) > 20  # the rows are told apart

    theirs = by_others(answers, expected, tmp_path)
    assert {name: scored.metrics[name] for name in METRICS} == theirs
    assert scored.metrics["chrf"] > 1
    assert scored.metrics["rouge1"] > 0


def test_metrics_where_some_answers_are_right(scored: scoring.Scores, tmp_path: Path) -> None:
    """The embedded model cannot do sums: of its answers some are replaced, so that no metric is 0 or 1."""
    expected = [row["expected"] for row in scored.predictions]
    numbers = [float(number_of(text)) for text in expected]
    answers = [row["answer"] for row in scored.predictions]
    answers[0::10] = expected[0::10]
    answers[1::10] = [f"It is ${number:,.2f}." for number in numbers[1::10]]
    answers[2::10] = [
        f"{text[: len(text) // 2]}\n#### {number:,.0f}" for text, number in pairs(expected, numbers)[2::10]
    ]
    answers[3::10] = [
        f"{text.rpartition('#### ')[0]}#### {number + 1:,.0f}" for text, number in pairs(expected, numbers)[3::10]
    ]
    answers[4::10] = [f" {text}\n" for text in expected[4::10]]
    answers[5::10] = [f"#### {number:,.0f} dollars, so 7 are left" for number in numbers[5::10]]
    metrics = metrics_of(METRICS)
    both = pairs(answers, expected)
    found = statistics.scores({metric.name: statistics.of_answers(metric, both) for metric in metrics}, metrics)
    assert found == by_others(answers, expected, tmp_path)
    assert found["exact_match"] == 0.2
    assert 0.5 <= found["number"] < 0.7
    assert any("," in answer.rpartition("#### ")[2] for answer in answers[5::10])
    for name, value in found.items():
        assert 0.05 < value / (100 if name in ("bleu", "chrf") else 1) < 0.95, name


def pairs(one: list[Any], other: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(one, other, strict=True))


def number_of(text: str) -> str:
    """GSM8K's own way for what is behind `####`, else the last number; empty where there is none."""
    marked = re.findall(r"#### (-?[0-9.,]+)", text)
    plain = re.findall(r"-?[0-9]+(?:\.[0-9]+)?", text.replace(",", "").replace("$", ""))
    return (marked or plain or [""])[-1].replace(",", "")


def by_others(answers: list[str], expected: list[str], folder: Path) -> dict[str, Any]:
    """The metrics without any code of ours: loops, sacrebleu's command line, rouge_score."""
    from rouge_score.rouge_scorer import RougeScorer

    both = pairs(answers, expected)
    said = [(number_of(answer), number_of(text)) for answer, text in both]
    found: dict[str, Any] = {
        "exact_match": sum(answer.strip() == text.strip() for answer, text in both) / ROWS,
        "number": sum(float(one) == float(other) if one else False for one, other in said) / ROWS,
    }
    for name, texts in (("answers", answers), ("expected", expected)):  # a line each, as its tokenizer joins them
        lines = [text.rstrip().replace("-\n", "").replace("\n", " ") for text in texts]
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    program = [sys.executable, "-m", "sacrebleu", "expected", "-i", "answers", "-m", "bleu", "chrf", "-w", "4"]
    ended = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True, timeout=300)
    printed = {entry["name"]: entry["score"] for entry in json.loads(ended.stdout)}
    for name, called in (("bleu", "BLEU"), ("chrf", "chrF2")):
        found[name] = pytest.approx(printed[called], abs=6e-5)  # four digits are printed
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    rouge = [scorer.score(text, answer) for answer, text in both]
    for name in ("rouge1", "rouge2", "rougeL"):
        found[name] = pytest.approx(sum(row[name].fmeasure for row in rouge) / ROWS, rel=1e-12)
    return found


def test_one_row_at_a_time_gives_the_same(gsm8k: Any, scored: scoring.Scores) -> None:
    model, tokenizer, rows = gsm8k
    alone = scoring.score(model, tokenizer, rows, metrics_of(METRICS), LONGEST, 1, Reports())
    assert [row["answer"] for row in alone.predictions] == [row["answer"] for row in scored.predictions]
    assert alone.metrics == pytest.approx(scored.metrics, rel=1e-5)
    for name in (*METRICS, "token_accuracy", "rows", "tokens"):
        assert alone.metrics[name] == scored.metrics[name]
