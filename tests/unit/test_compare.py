"""Several runs beside each other: which run is meant, what differs, what is better, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from html_pages import Checked, said
from run_folders import PREDICTIONS, SCORES, STAGES, run_folder
from sft_runner.errors import UnknownName, UserError
from sft_runner.report import comparison, comparison_page, comparison_text, curves
from sft_runner.report.record import find, read


def scored(exact_match: float, low: float, high: float) -> dict[str, Any]:
    """Scores of the evaluate stage with another exact match."""
    ends = {"tuned": {"low": low, "high": high}, "base": {"low": 0.0, "high": 0.02}, "gain": {"low": low, "high": high}}
    return SCORES | {
        "tuned": SCORES["tuned"] | {"exact_match": exact_match},
        "gain": SCORES["gain"] | {"exact_match": exact_match},
        "intervals": {"exact_match": ends},
    }


def test_a_run_is_found_by_all_its_names(tmp_path: Path) -> None:
    old = run_folder(tmp_path, time="20260301-120000-ab12")
    new = run_folder(tmp_path, time="20260302-120000-cd34")
    other = run_folder(tmp_path, name="code", time="20260303-090000-0000")
    assert find("dates", tmp_path).folder == new
    assert find("dates/20260301", tmp_path).folder == old
    assert find("20260301-12", tmp_path).folder == old
    assert find("code", tmp_path).folder == other
    assert find(str(old), tmp_path / "elsewhere").folder == old
    assert find(f"{old}/", tmp_path).label == "dates/20260301-120000-ab12"


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run in"):
        find("dates", tmp_path)
    run_folder(tmp_path, time="20260301-120000-ab12")
    run_folder(tmp_path, time="20260302-120000-cd34")
    with pytest.raises(UnknownName) as unknown:
        find("datse", tmp_path)
    assert unknown.value.hint == "did you mean 'dates'?"
    with pytest.raises(UserError, match="run 'dates/202603' may be any of 2") as several:
        find("dates/202603", tmp_path)
    assert "dates/20260301-120000-ab12" in several.value.hint
    with pytest.raises(UnknownName):
        find("", tmp_path)


def test_only_what_differs_is_shown(tmp_path: Path) -> None:
    runs = [
        read(run_folder(tmp_path, time="1", config={"lora.r": 8, "output_dir": "x", "train.learning_rate": 1e-4})),
        read(run_folder(tmp_path, time="2", config={"lora.r": 16, "output_dir": "y", "train.learning_rate": 1e-4})),
        read(run_folder(tmp_path, time="3", name="other", config={"data.columns": {"question": "q"}})),
    ]
    found = comparison.compare(runs)
    assert found.settings == {
        "lora.r": [8, 16, 8],
        "train.learning_rate": [1e-4, 1e-4, 2e-4],
        "data.columns.question": [None, None, "q"],
    }
    assert found.doubts == []


def test_the_best_is_marked_and_what_cannot_be_told_from_it(tmp_path: Path) -> None:
    metrics = [scored(0.5, 0.4, 0.6), scored(0.55, 0.45, 0.65), scored(0.2, 0.1, 0.3)]
    runs = [
        read(run_folder(tmp_path, time=str(number), metrics={"evaluate": one})) for number, one in enumerate(metrics)
    ]
    found = {score.name: score for score in comparison.compare(runs).scores}
    assert found["exact match"].marks == ["≈", "*", ""]
    assert found["loss"].marks == ["*", "*", "*"]
    assert found["general: loss"].part == "general"


def test_less_loss_is_better(tmp_path: Path) -> None:
    metrics = [SCORES | {"tuned": SCORES["tuned"] | {"loss": loss}, "intervals": {}} for loss in (0.6, 0.5)]
    runs = [
        read(run_folder(tmp_path, time=str(number), metrics={"evaluate": one})) for number, one in enumerate(metrics)
    ]
    found = {score.name: score.marks for score in comparison.compare(runs).scores}
    assert found["loss"] == ["", "*"]


def test_pairs_of_rows_tell_more_than_two_intervals(tmp_path: Path) -> None:
    """Where one run is right on the rows of the other and on more, overlapping intervals hide a difference."""
    right = np.zeros((2, 200))
    right[0, :100] = right[1, :118] = 1
    runs = []
    for number, answers in enumerate(right):
        share = float(answers.mean())
        metrics = {"evaluate": scored(share, share - 0.07, share + 0.07)}
        run = read(run_folder(tmp_path, time=str(number), metrics=metrics))
        kept = np.stack([answers, np.ones(200)], axis=1)
        np.savez(run.place("evaluate") / "statistics.npz", exact_match=kept)
        runs.append(run)
    (score,) = (score for score in comparison.compare(runs).scores if score.name == "exact match")
    assert score.marks == ["", "*"]
    gain = score.beside[1]
    assert gain is not None
    assert gain.low is not None
    assert gain.high is not None
    assert gain.number == pytest.approx(0.09)
    assert 0.04 < gain.low < 0.09 < gain.high < 0.14
    back = comparison.compare(runs[::-1])
    assert [one.beside[1].number for one in back.scores if one.name == "exact match" and one.beside[1]] == [
        pytest.approx(-0.09)
    ]


def test_other_rows_cannot_be_compared(tmp_path: Path) -> None:
    runs = [
        read(run_folder(tmp_path, time="1")),
        read(run_folder(tmp_path, time="2", predictions=PREDICTIONS[:3])),
    ]
    found = comparison.compare(runs)
    assert found.doubts == ["the held-out rows differ: scores on them cannot be compared"]
    assert not any(mark for score in found.scores if score.part in ("", "unseen") for mark in score.marks)
    assert "note: the held-out rows differ" in comparison_text.text(found, 80)


def test_other_sets_cannot_be_compared_and_the_rest_can(tmp_path: Path) -> None:
    runs = [read(run_folder(tmp_path, time=time)) for time in ("1", "2")]
    for number, run in enumerate(runs):
        row = {"prompt": f"another {number}", "expected": "x"}
        (run.place("evaluate") / "predictions.general.jsonl").write_text(json.dumps(row) + "\n")
    found = comparison.compare(runs)
    assert found.doubts == ["the rows of general differ: scores on them cannot be compared"]
    marks = {score.name: score.marks for score in found.scores}
    assert (marks["general: loss"], marks["loss"]) == (["", ""], ["*", "*"])


def test_other_tokens_of_the_same_rows(tmp_path: Path) -> None:
    other = SCORES | {"tuned": SCORES["tuned"] | {"tokens": 60}}
    runs = [read(run_folder(tmp_path, time="1")), read(run_folder(tmp_path, time="2", metrics={"evaluate": other}))]
    found = comparison.compare(runs)
    (doubt,) = found.doubts
    assert "loss, perplexity, token accuracy cannot be compared, bits per byte can" in doubt
    marks = {score.name: score.marks for score in found.scores}
    assert (marks["loss"], marks["exact match"]) == (["", ""], ["*", "*"])


def test_a_run_without_scores_and_one_whose_stages_are_gone(tmp_path: Path) -> None:
    runs = [
        read(run_folder(tmp_path, time="1", done=STAGES[:2], state="failed", fit_to_serve=None)),
        read(run_folder(tmp_path, time="2", done=())),
    ]
    known = json.loads((runs[1].folder / "run.json").read_text()) | {
        "metrics": {"tuned.exact_match": 0.4, "tuned.by.unseen.loss": 1.0}
    }
    (runs[1].folder / "run.json").write_text(json.dumps(known))
    found = comparison.compare([runs[0], read(runs[1].folder)])
    assert found.doubts == [
        "dates/1 has no scores of a tuned model: failed at train",
        "dates/2: its stage folders are gone, so its rows cannot be checked",
    ]
    assert [score.tuned[1].number for score in found.scores if score.name == "exact match" and score.tuned[1]] == [0.4]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_it_keeps_to_the_width(tmp_path: Path, width: int) -> None:
    runs = [read(run_folder(tmp_path, time=str(number), config={"lora.r": number})) for number in range(9)]
    lines = comparison_text.text(comparison.compare(runs), width).splitlines()
    widest = max(len(line) for line in lines if not line.startswith("* the best"))
    assert widest <= max(width, 52)  # one run's column and the names are always shown
    heads = [line.split() for line in lines if line.strip() and set(line.split()) <= set("ABCDEFGHI")]
    assert [letter for head in heads for letter in head] == list("ABCDEFGHI")


def test_a_set_without_gates_beside_one_with_gates(tmp_path: Path) -> None:
    """What stands below a key is enough; what fits the hardware is not asked for again where training is cached."""
    gates = [{}, None, {"exact_match": {"min": 0.6}}]
    fits = ["none", "auto", "full"]
    runs = [
        run_folder(
            tmp_path,
            time=str(number),
            config={"evaluate.gates": one, "hardware.activation_checkpointing": fit, "train.max_steps": steps},
        )
        for number, (one, fit, steps) in enumerate(zip(gates, fits, [None, 20, 20], strict=True))
    ]
    shared = json.loads((runs[0] / "run.json").read_text())["stages"]["train"]
    known = json.loads((runs[1] / "run.json").read_text())
    known["stages"]["train"] = shared
    (runs[1] / "run.json").write_text(json.dumps(known))
    found = comparison.compare([read(run) for run in runs])
    assert found.settings == {
        "evaluate.gates.exact_match.min": [None, None, 0.6],
        "hardware.activation_checkpointing": ["none", "none", "full"],
        "train.max_steps": [None, 20, 20],
    }
    assert "train.max_steps – 20 20" in " ".join(comparison_text.text(found, 200).split())
    assert [name[3:] for name in found.names] == [
        "activation_checkpointing none",
        "activation_checkpointing none, max_steps 20",
        "activation_checkpointing full, max_steps 20, min 0.6",
    ]


def test_the_same_scores_are_not_measured_against_themselves(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, time=time) for time in ("1", "2")]
    known = json.loads((runs[1] / "run.json").read_text())
    known["stages"] = json.loads((runs[0] / "run.json").read_text())["stages"]
    (runs[1] / "run.json").write_text(json.dumps(known))
    rows = np.stack([np.arange(200) % 2, np.ones(200)], axis=1)
    np.savez(read(runs[0]).place("evaluate") / "statistics.npz", exact_match=rows)
    found = comparison.compare([read(run) for run in runs])
    assert found.same == ["A and B: the same model and scores"]
    assert not any(any(score.beside) for score in found.scores)
    assert "note: A and B: the same model and scores" in comparison_text.text(found, 80)
    assert "A and B: the same model and scores." in said(comparison_page.page(found))


@pytest.mark.parametrize("damage", ["cut", "shorter", "gone", "odd"])
def test_rows_that_are_damaged_cannot_be_compared(tmp_path: Path, damage: str) -> None:
    runs = [read(run_folder(tmp_path, time=time)) for time in ("1", "2")]
    path = runs[1].place("evaluate") / "predictions.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["files"] = {"predictions.jsonl": {"size": path.stat().st_size}}
    if damage == "gone":
        path.unlink()
    else:
        left = {"cut": b"".join(lines)[:-20], "shorter": b"".join(lines[:-1]), "odd": b"[1]\n"}[damage]
        path.write_bytes(left)
        manifest["files"] = manifest["files"] if damage == "shorter" else {}
    (path.parent / "manifest.json").write_text(json.dumps(manifest))
    found = comparison.compare([runs[0], read(runs[1].folder)])
    assert found.doubts == ["dates/2: the held-out rows could not be compared: their file is missing or damaged"]
    assert not any(mark for score in found.scores for mark in score.marks)


def test_a_run_folder_without_its_stages_says_what_is_missing(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "outputs")
    copied = tmp_path / "copy"
    folder.rename(copied)
    with pytest.raises(UserError, match="was moved or copied away from its stages") as moved:
        find(str(copied), tmp_path)
    assert "OUTPUT_DIR/stages" in moved.value.hint


def test_one_run_alone(tmp_path: Path) -> None:
    found = comparison.compare([read(run_folder(tmp_path))])
    assert found.settings == {}
    assert "41.0 % [34.0, 48.0]" in comparison_text.text(found, 100)


def test_the_page_shows_dots_and_curves(tmp_path: Path) -> None:
    runs = [read(run_folder(tmp_path, time=time, config={"lora.r": int(time)})) for time in ("1", "2")]
    html = comparison_page.page(comparison.compare(runs))
    checked = Checked(html)
    assert not {"script", "img", "link"} & set(checked.tags)
    assert checked.tags.count("path") == 2
    text = said(html)
    for part in ("2 runs beside each other", "lora.r 1 2", "41.0 % [34.0, 48.0] *", "A ends at 0.4", "logarithmic"):
        assert part in text, part


def test_curves_keep_their_points_inside(tmp_path: Path) -> None:
    runs = [read(run_folder(tmp_path, time=time)) for time in ("1", "2")]
    long = [{"step": step, "loss": 5.0} for step in range(1, 5001)] + [{"step": 5001, "loss": float("nan")}]
    (runs[1].place("train") / "training.json").write_text(json.dumps({"logged": long}))
    found = curves.curves(runs, ["A", "B"])
    assert found is not None
    assert len(curves.points(runs[1])) <= curves.MOST_POINTS
    for curve in found.curves:
        places = [tuple(map(float, point.split(","))) for point in curve.path[1:].split(" L")]
        assert all(0 <= x <= curves.WIDTH and 0 <= y <= curves.HEIGHT for x, y in places)
    assert curves.curves([read(run_folder(tmp_path, time="3", done=()))], ["A"]) is None


def test_json_holds_everything(tmp_path: Path) -> None:
    runs = [read(run_folder(tmp_path, time=time)) for time in ("1", "2")]
    found = json.loads(json.dumps(comparison_text.as_json(comparison.compare(runs))))
    assert [run["run"] for run in found["runs"]] == ["dates/1", "dates/2"]
    (score,) = (one for one in found["scores"] if one["name"] == "exact match")
    assert score["tuned"][0] == {"number": 0.41, "low": 0.34, "high": 0.48}
    assert found["facts"]["fit to serve"] == ["yes", "yes"]
