"""Gates on what is or is not measured, through the real stages."""

import json
from pathlib import Path

import pytest

from command import SMALL
from sft_runner import load, plan
from sft_runner.disk import read_json
from sft_runner.errors import UserError
from sft_runner.launcher import Workers
from sft_runner.outcome import Outcome
from sft_runner.runner import execute
from sft_runner.runs import runs

WORDS = [*SMALL, "tracking=none", "data.path=null", "data.held_out=4", "stage=evaluate"]


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(workers: Workers, *words: str) -> Outcome:
    return execute(plan(load(*WORDS, *words)), workers)


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_metric_that_the_base_has_not_ends_the_run_before_training(workers: Workers, tmp_path: Path) -> None:
    write(tmp_path / "text.jsonl", [{"text": f"After {i} comes {i + 1}."} for i in range(20)])
    outcome = run(workers, "data.path=text.jsonl", "data.format=text", "evaluate.gates.exact_match.min=0.1")
    assert isinstance(outcome.error, UserError)
    assert outcome.error.exit_code == 2
    told = "evaluate.gates.exact_match was not measured\n  measured there: loss, perplexity"
    assert outcome.error.show().startswith(told)
    assert {folder.name for folder in (tmp_path / "outputs" / "stages").iterdir()} == {"prepare", "baseline"}


def test_a_source_has_its_scores_where_no_row_of_another_is_held_out(workers: Workers, tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.jsonl", [{"question": f"{name}, {i}?", "answer": str(i)} for i in range(20)])
    sources = f"data.sources={{a: {{path: {tmp_path}/a.jsonl}}, b: {{path: {tmp_path}/b.jsonl, held_out: 0}}}}"
    outcome = run(workers, "data.format=qa", sources, "~evaluate.gates.loss", "evaluate.gates.a.loss.max=100")
    assert outcome.state == "completed", outcome.error
    ((folder, state),) = runs(tmp_path / "outputs")
    assert state["fit_to_serve"] is True
    (scores,) = (tmp_path / "outputs" / "stages" / "evaluate").glob("*/scores.json")
    found = read_json(scores)
    assert found["tuned"]["by"].keys() == found["intervals"]["by"].keys() == {"a"}
    assert found["tuned"]["by"]["a"]["loss"] == found["tuned"]["loss"] == state["gates"][0]["found"]
