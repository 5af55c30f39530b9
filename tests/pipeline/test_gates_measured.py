"""Gates on what is or is not measured, through the real command."""

import json
from pathlib import Path

from command import SMALL, sft
from sft_runner.disk import read_json
from sft_runner.runs import runs

WORDS = [*SMALL, "tracking=none", "data.path=null", "data.held_out=4", "stage=evaluate"]


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_metric_that_the_base_has_not_ends_the_run_before_training(tmp_path: Path) -> None:
    write(tmp_path / "text.jsonl", [{"text": f"After {i} comes {i + 1}."} for i in range(20)])
    words = [*WORDS, "data.path=text.jsonl", "data.format=text", "evaluate.gates.exact_match.min=0.1"]
    ended = sft(*words, cwd=tmp_path)
    assert ended.code == 2, ended.said
    assert "error: evaluate.gates.exact_match was not measured\n  measured there: loss, perplexity" in ended.err
    assert {folder.name for folder in (tmp_path / "outputs" / "stages").iterdir()} == {"prepare", "baseline"}


def test_a_source_has_its_scores_where_no_row_of_another_is_held_out(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.jsonl", [{"question": f"{name}, {i}?", "answer": str(i)} for i in range(20)])
    sources = "data.sources={a: {path: a.jsonl}, b: {path: b.jsonl, held_out: 0}}"
    words = [*WORDS, "data.format=qa", sources, "~evaluate.gates.loss", "evaluate.gates.a.loss.max=100"]
    ended = sft(*words, cwd=tmp_path)
    assert ended.code == 0, ended.said
    ((folder, state),) = runs(tmp_path / "outputs")
    assert state["fit_to_serve"] is True
    (scores,) = (tmp_path / "outputs" / "stages" / "evaluate").glob("*/scores.json")
    found = read_json(scores)
    assert found["tuned"]["by"].keys() == found["intervals"]["by"].keys() == {"a"}
    assert found["tuned"]["by"]["a"]["loss"] == found["tuned"]["loss"] == state["gates"][0]["found"]
