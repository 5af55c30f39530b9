"""Gates through the real command: what fails ends with 1 each time and is not served; what passes is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from command import SMALL, actions, sft
from sft_runner import load, plan
from sft_runner.disk import read_json, write_json
from sft_runner.errors import GateFailed
from sft_runner.runs import runs

OTHER = [{"question": f"What comes after {i}?", "answer": str(i + 1)} for i in range(4)]
RECIPE = """\
# goal: a model that cannot be good enough
defaults:
  - quickstart
  - _self_
evaluate:
  sets:
    counting: {path: other.jsonl}
  gates:
    exact_match: {min: 0.99}
    counting: {perplexity: {max_ratio: 100}}
"""
STRICT = ["recipe=strict", *SMALL[1:], "tracking=none"]
LOOSE = [*STRICT, "~evaluate.gates.exact_match"]


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run has failed its gate; not to be written into."""
    folder = tmp_path_factory.mktemp("gates")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "strict.yaml").write_text(RECIPE)
    (folder / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in OTHER))
    ended = sft(*STRICT, cwd=folder)
    assert ended.code == 1, ended.said
    (folder / "screen.txt").write_text(ended.said)
    return folder


@pytest.fixture
def again(failed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(failed, tmp_path / "copy", symlinks=True))


@pytest.fixture
def inside(again: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, for the Python API."""
    monkeypatch.chdir(again)
    return again


def states(folder: Path) -> list[dict[str, Any]]:
    """What the `run.json` of each run says, the newest first."""
    return [state for _, state in runs(folder / "outputs")]


def test_a_failed_gate_ends_the_run_and_keeps_the_model(failed: Path) -> None:
    said = (failed / "screen.txt").read_text()
    assert "error: evaluate.gates: exact_match 0 < min 0.99, missed by 0.99" in said
    assert "missed by 0.99" in said.split("error:")[0], "the table"
    assert "counting.perplexity" in said
    assert "not run: the model is not fit to serve" in said
    (state,) = states(failed)
    assert (state["state"], state["fit_to_serve"]) == ("failed", False)
    assert [(gate["gate"], gate["passed"], gate["missed_by"]) for gate in state["gates"]] == [
        ("loss", True, None),
        ("exact_match", False, 0.99),
        ("counting.perplexity", True, None),
    ]
    assert {folder.name for folder in (failed / "outputs" / "stages").iterdir()} == {
        *("prepare", "baseline", "train", "merge", "evaluate")
    }
    ((folder, _),) = runs(failed / "outputs")
    assert (folder / "model" / "config.json").is_file()


def test_it_fails_each_time_and_says_where_it_was(again: Path) -> None:
    for words in (STRICT, [*STRICT, "stage=serve"], [*STRICT, "stage=evaluate"]):
        ended = sft(*words, cwd=again)
        assert ended.code == 1, ended.said
        assert "missed by 0.99" in ended.said
        assert "not fit to serve: exact_match 0 < min 0.99" in ended.said, "the plan"
        assert {stage for stage, action in actions(ended.out).items() if action != "cached"} <= {"serve"}
        assert "done  " not in ended.out, "no stage ran"
    assert len(states(again)) == 1, "nothing was done, and nothing new was found"
    listed = sft("models", cwd=again)
    assert "not fit to serve: exact_match 0 < min 0.99" in listed.out


def test_other_gates_are_another_verdict_on_the_same_scores(again: Path) -> None:
    ended = sft(*LOOSE, "stage=evaluate", cwd=again)
    assert ended.code == 0, ended.said
    assert set(actions(ended.out).values()) == {"cached"}
    assert [state["fit_to_serve"] for state in states(again)] == [True, False]
    for words, code in ((LOOSE, 0), (STRICT, 1)):
        ended = sft(*words, "stage=evaluate", cwd=again)
        assert ended.code == code, ended.said
    assert len(states(again)) == 2, "both verdicts are known"
    assert sft(*STRICT, "stage=merge", cwd=again).code == 0, "nothing is judged there"


@pytest.mark.slow
def test_a_gate_that_passes_is_served_twice(again: Path) -> None:
    ended = sft(*LOOSE, cwd=again)
    assert ended.code == 0, ended.said
    assert actions(ended.out)["serve"] == "run"
    assert states(again)[0]["fit_to_serve"] is True
    ended = sft(*LOOSE, cwd=again)
    assert ended.code == 0, ended.said
    assert "everything is cached" in ended.out
    assert "passed" in ended.out
    ended = sft(*STRICT, cwd=again)  # now all of its stages are cached
    assert ended.code == 1, ended.said
    assert "missed by 0.99" in ended.said


@pytest.mark.slow
def test_forced_it_is_served_and_still_ends_with_1(again: Path) -> None:
    ended = sft(*STRICT, "force=[serve]", cwd=again)
    assert ended.code == 1, ended.said
    assert "NOT FIT TO SERVE" in ended.out
    assert "answered after" in ended.out
    assert "error: evaluate.gates" in ended.err
    assert (states(again)[0]["state"], states(again)[0]["fit_to_serve"]) == ("failed", False)


def test_from_python_it_is_in_the_outcome(inside: Path) -> None:
    from sft_runner import run
    from sft_runner.runner import execute

    settled = load(*STRICT)
    outcome = execute(plan(settled))
    assert isinstance(outcome.error, GateFailed)
    assert outcome.state == "failed"
    assert outcome.model is not None
    assert outcome.metrics["tuned.exact_match"] == 0
    assert [verdict.passed for verdict in outcome.verdicts] == [True, False, True]
    with pytest.raises(GateFailed, match="missed by"):
        run(settled)


def test_what_was_lost_is_made_again_where_all_is_cached(again: Path) -> None:
    ((folder, state),) = runs(again / "outputs")
    before = (folder / "report.html").read_text()
    for name in ("report.html", "report.md"):
        (folder / name).unlink()
    killed = shutil.copytree(folder, folder.with_name("20200101-000000-dead"), symlinks=True)
    del state["untold"]
    write_json(killed / "run.json", {**state, "state": "running", "gates": [], "trackers": ["mlflow"]})
    ended = sft(*STRICT, cwd=again)
    assert ended.code == 1, ended.said
    assert f"report: {folder / 'report.html'}" in ended.out
    assert (folder / "report.html").read_text() == before
    assert (folder / "report.md").is_file()
    assert "Not fit to serve" in before
    dead = read_json(killed / "run.json")
    assert (dead["state"], dead["untold"]) == ("killed", ["mlflow"]), "a tracker hears of it when it is next used"
    assert len(states(again)) == 2, "no new run"


def test_a_report_is_written_anew(again: Path) -> None:
    ((folder, _),) = runs(again / "outputs")
    (folder / "report.html").unlink()
    ended = sft("report", "strict", cwd=again)
    assert (ended.code, ended.out) == (0, f"{folder / 'report.html'}\n"), ended.said
    assert "missed by" in (folder / "report.html").read_text()
    assert sft("report", "nobody", cwd=again).code == 2


def test_its_recipe_is_the_one_it_began_with(again: Path) -> None:
    ((folder, state),) = runs(again / "outputs")
    assert (folder / "recipe.yaml").read_text() == RECIPE
    assert state["recipe"] == {"file": "recipes/strict.yaml", "commit": None, "changed": False}


def test_its_adapter_is_a_start_for_another_run(inside: Path) -> None:
    more = load(*STRICT, "name=more", "train.continue_from=strict")
    assert "train" in {step.stage for step in plan(more).steps}
    ((folder, _),) = runs(inside / "outputs")
    assert (folder / "adapter").exists()


def test_a_changed_set_is_scored_and_nothing_is_trained_again(inside: Path) -> None:
    (inside / "other.jsonl").write_text(json.dumps(OTHER[0]) + "\n")
    steps = {step.stage: (step.action, step.why) for step in plan(load(*STRICT)).steps}
    assert {stage: action for stage, (action, _) in steps.items()} == {
        **dict.fromkeys(("prepare", "train", "merge"), "cached"),
        **dict.fromkeys(("baseline", "evaluate", "serve"), "run"),
    }
    assert steps["baseline"][1] == "data changed"


def test_the_set_was_scored_by_both_models(failed: Path) -> None:
    (scores,) = (failed / "outputs" / "stages" / "evaluate").glob("*/scores.json")
    found = read_json(scores)
    assert found["base"]["sets"]["counting"]["rows"] == found["tuned"]["sets"]["counting"]["rows"] == 4
    written = [json.loads(line) for line in (scores.parent / "predictions.counting.jsonl").read_text().splitlines()]
    assert [row["expected"] for row in written] == [row["answer"] for row in OTHER]


def test_in_a_sweep_it_has_no_rank_and_the_sweep_goes_on(again: Path) -> None:
    words = [word for word in STRICT if not word.startswith("tracking")]
    ended = sft("-m", *words, "tracking=none", "evaluate.gates.exact_match.min=0.99,0.0", cwd=again)
    assert ended.code == 1, ended.said
    (sweep,) = (again / "outputs" / "sweeps").iterdir()
    jobs = read_json(sweep / "sweep.json")["jobs"]
    assert [(job["rank"], job["state"]) for job in jobs] == [(1, "completed"), (None, "gate failed")]
    assert jobs[1]["metrics"]["tuned.exact_match"] == 0, "its scores are shown"
    assert "gate failed" in ended.out
    assert "next:  python -m sft_runner" in ended.out
    ended = sft("-m", *words, "evaluate.gates.exact_match.min=0.99,0.98", cwd=again)
    assert ended.code == 1
    assert "not ranked: no job's model is fit to serve" in ended.out
