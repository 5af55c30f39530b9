"""A finished run as a row, and which runs are none."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from recorded import BOTH, GATE, MISSED, WORDS, project, run, sealed
from sft_runner import load, plan, seal
from sft_runner.config import sources
from sft_runner.disk import read_json
from sft_runner.errors import UserError
from sft_runner.fingerprint import Hashes
from sft_runner.report.record import read
from sft_runner.review.record import cells, header
from sft_runner.review.record.measured import machine, words
from sft_runner.review.record.recording import Recorded, recorded
from sft_runner.runs import STATE, RunFolder


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources.forget()
    project(tmp_path)


def taken(path: Path, recipe: str | None = None, force: bool = False) -> Recorded:
    return recorded(read(path), recipe, force, Hashes(path.parent / "hashes.json"))


def refused(path: Path, recipe: str | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        taken(path, recipe)
    assert caught.value.hint
    return caught.value


def test_what_a_reviewer_wants_to_see(tmp_path: Path) -> None:
    path = run(tmp_path)
    one = taken(path)
    assert (one.recipe, one.path) == ("mine", tmp_path / "recipes/mine.yaml")
    assert dict(one.row.cells) == {
        "date": "2026-03-01 12:00",
        "words": "`hardware=cpu model=tiny 'data.path=my data.jsonl'`",
        "score": "exact match 0 % → 41.0 % (34.0 % to 48.0 %); gain +41.0 points (+33.0 to +48.0 points)",
        "loss": "7.66 → 0.6 (0.55 to 0.65); gain +7.06 (+6.9 to +7.2)",
        "gates": r"passed 1 of 1: loss gain 7.06 ≥ min\_gain 0",
        "rows": "4",
        "time": "train 9.7 s, whole 43.0 s",
        "memory": "0.687 GB",
        "machine": "CPU, 2 cores",
        "fingerprint": f"`{read_json(path / STATE)['stages']['evaluate']}`",
        "model": "embedded:tiny `0e18948bd352`",
        "versions": "torch 2.13.0",
        "commit": "`5eed5eed5eed`, changed",
    }
    assert one.row.words == WORDS


def test_a_missed_gate_is_no_success(tmp_path: Path) -> None:
    project(tmp_path, gates=BOTH)
    path = run(tmp_path, gates=[MISSED, GATE], state="failed", fit_to_serve=False)
    one = taken(path)
    assert one.row.cells["gates"] == r"**failed** 1 of 2: exact\_match 0.41 \< min 0.6"
    assert header.line(one.record, one.path) is None


def test_no_gates(tmp_path: Path) -> None:
    project(tmp_path, gates={})
    assert taken(run(tmp_path, gates=[])).row.cells["gates"] == "none set"


def test_loss_is_not_told_twice(tmp_path: Path) -> None:
    config = {"evaluate.metrics": [], "evaluate.headline": ""}
    one = taken(run(tmp_path, config=config))
    assert (one.row.cells["score"], one.row.cells["loss"][:10]) == (cells.NONE, "7.66 → 0.6")


def test_a_score_without_intervals(tmp_path: Path) -> None:
    scores = {"base": {"loss": 2.0}, "tuned": {"loss": 1.5, "exact_match": 0.5}, "gain": {"loss": 0.5}}
    one = taken(run(tmp_path, metrics={"evaluate": scores}))
    assert one.row.cells["score"] == "exact match 50.0 %"
    assert one.row.cells["loss"] == "2 → 1.5; gain +0.5"
    assert one.row.cells["rows"] == cells.NONE


def test_stages_that_were_there_already_count(tmp_path: Path) -> None:
    path = run(tmp_path)
    plan = path / "plan.json"
    plan.write_text(plan.read_text().replace('"run"', '"cached"', 1))
    sealed(path)
    # Four stages of 1.5 s, without the server. The training was resumed: its last process took 1.5 s of its 9.7 s.
    assert taken(path).row.cells["time"] == "train 9.7 s, whole 15.7 s"


def test_a_model_trained_whole(tmp_path: Path) -> None:
    whole = (*WORDS, "method=full")
    assert taken(run(tmp_path, words=whole)).row.words == whole


def test_stage_folders_that_are_gone(tmp_path: Path) -> None:
    metrics = {"tuned.loss": 0.5, "base.loss": 2.0, "gain.loss": 1.5, "tuned.exact_match": 0.25, "tuned.rows": 8.0}
    path = run(tmp_path)
    (path / STATE).write_text(json.dumps(read_json(path / STATE) | {"metrics": metrics}))
    sealed(path)
    shutil.rmtree(tmp_path / "out" / "stages")
    one = taken(path)
    assert one.row.cells["score"] == "exact match 25.0 %"
    assert [one.row.cells[column] for column in ("memory", "versions")] == [cells.NONE] * 2


def test_a_stage_folder_that_is_gone(tmp_path: Path) -> None:
    """The scores are in `run.json` too, whatever is left of the others."""
    metrics = {"tuned.loss": 0.5, "base.loss": 2.0, "gain.loss": 1.5, "tuned.exact_match": 0.25, "tuned.rows": 8.0}
    path = run(tmp_path)
    (path / STATE).write_text(json.dumps(read_json(path / STATE) | {"metrics": metrics}))
    sealed(path)
    shutil.rmtree(tmp_path / "out" / "stages" / "evaluate")
    assert taken(path).row.cells["score"] == "exact match 25.0 %"


@pytest.mark.parametrize("left", ["nothing", "a folder", "a link"])
def test_a_manifest_that_is_gone(left: str, tmp_path: Path) -> None:
    path = run(tmp_path)
    (manifest,) = (tmp_path / "out" / "stages" / "train").glob("*/manifest.json")
    manifest.unlink()
    if left == "a folder":
        manifest.mkdir()
    elif left == "a link":
        manifest.symlink_to("nowhere")
    assert "manifest.json is not there, or no file" in refused(path).message


def test_nothing_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    plain = (
        f"data.path={tmp_path}/my data.jsonl",
        "model=tiny",
        "hardware=cpu",
        "serve.python=/home/somebody/bin/python",
    )
    said = [
        *plain,
        "tracking.mlflow.uri=https://me:secret@host",
        "train.extra={run_name: 'https://me:secret@host/x?t=1'}",
    ]
    said += [
        "name=x",
        "stage=evaluate",
        "stage.stay=true",
        "output_dir=/srv/out",
        "force=[train]",
        "hydra.verbose=true",
    ]
    one = taken(run(tmp_path, words=plain, overrides=["recipe=mine", *said]), force=True)
    assert one.row.words == (
        "hardware=cpu",
        "data.path=my data.jsonl",
        "model=tiny",
        "serve.python=~/bin/python",
        "train.extra={run_name: 'https://***@host/x?***'}",
    )
    assert "secret" not in str(one.row)
    assert "somebody" not in str(one.row)


@pytest.mark.parametrize("words", [(), ("hardware=auto",)])
def test_the_preset_that_was_found_is_named(words: tuple[str, ...], tmp_path: Path) -> None:
    """A T4's precision is the preset's; another old card has it from `hardware=auto` alone."""
    settings = {"name": "minimal", "memory_gb": 7.9, "chosen": "GTX 1080, 8 GB, no bfloat16; no preset of its own"}
    settings |= {"dtype": "float16", "quantization_bits": "4"}
    config = {f"hardware.{key}": value for key, value in settings.items()}
    overrides = ["recipe=mine", "model=tiny", "data.path=my data.jsonl", *words]
    one = taken(run(tmp_path, overrides=overrides, config=config), force=True)
    assert one.row.words == (
        "hardware=minimal",
        "hardware.dtype=float16",
        "model=tiny",
        "data.path=my data.jsonl",
    )
    assert one.row.cells["machine"] == "GTX 1080, 8 GB"


def test_a_run_that_went_on_is_found_again(tmp_path: Path) -> None:
    """Its name and its folder say which run it went on from."""
    said = ("hardware=cpu", "name=second", "output_dir=out", "train.continue_from=first", "stage=evaluate")
    config = {"train.continue_from": "first"}
    path = run(tmp_path, overrides=["recipe=mine", *said], config=config)
    assert words(read(path)) == said[:-1]


CARD = {"card": "NVIDIA L4", "card_memory_gb": 24.15}


@pytest.mark.parametrize(
    ("found", "preset", "told"),
    [
        ({"cores": 2}, {}, "CPU, 2 cores"),
        ({"cores": 1}, {}, "CPU, 1 core"),
        ({"cores": 8, **CARD}, {"memory_gb": 24.0}, "NVIDIA L4, 24 GB"),
        ({"cores": 8}, {"memory_gb": 24.0}, "l4, 24 GB"),  # the driver did not tell
        (None, {"memory_gb": 24.0}, "l4, 24 GB"),  # of an earlier version
        (None, {"memory_gb": 11.6, "chosen": "RTX 3060, 12 GB, bfloat16"}, "RTX 3060, 12 GB"),
        (None, {}, "CPU"),
    ],
)
def test_machines(found: Any, preset: dict[str, Any], told: str, tmp_path: Path) -> None:
    """What the run found, not what is here."""
    config = {f"hardware.{key}": value for key, value in {"name": "l4", **preset}.items()}
    assert machine(read(run(tmp_path, config=config, machine=found))) == told


def test_a_run_says_what_it_ran_on(tmp_path: Path) -> None:
    known = RunFolder(plan(load("recipe=mine", *WORDS, "tracking=[]"))).state["machine"]
    assert known["cores"] == len(os.sched_getaffinity(0))
    assert known["memory_gb"] > 0
    assert {"card", "cores", "memory_gb", "card_memory_gb"} >= set(known)


@pytest.mark.parametrize(
    ("state", "told"),
    [("failed", "has failed"), ("cancelled", "was cancelled"), ("killed", "was killed")],
)
def test_a_run_that_has_not_finished(state: str, told: str, tmp_path: Path) -> None:
    assert told in refused(run(tmp_path, state=state, gates=[], fit_to_serve=None)).message


def test_a_run_that_was_never_evaluated(tmp_path: Path) -> None:
    error = refused(run(tmp_path, stages=("prepare", "train"), gates=[]))
    assert "was never evaluated" in error.message
    assert "stage=evaluate" in error.hint
    baseline = run(tmp_path, name="base", stages=("prepare", "baseline"), gates=[])
    assert "was never evaluated" in refused(baseline).message


@pytest.mark.parametrize("choices", [{}, {"recipe": None}])
def test_a_run_without_a_recipe(choices: dict[str, Any], tmp_path: Path) -> None:
    path = run(tmp_path, choices=choices)
    assert "without a recipe" in refused(path).message
    for named in ("recipes/mine.yaml", "mine", str(tmp_path / "recipes/mine.yaml")):
        assert taken(path, named).recipe == "mine"


def test_a_recipe_that_is_not_here(tmp_path: Path) -> None:
    assert "is not here" in refused(run(tmp_path, choices={"recipe": "gone"})).message
    path = run(tmp_path, name="again")
    assert "did you mean 'mine'" in refused(path, "mien").hint
    (tmp_path / "other.yaml").write_text("{}")
    assert "recipe= does not find it" in refused(path, "other.yaml").message


def test_a_recipe_that_came_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PACKAGE", tmp_path)
    assert "copy it to ./recipes/mine.yaml" in refused(run(tmp_path)).hint


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("recipes/mine.yaml", "5e-3", "1e-3", "train.learning_rate 0.005 -> 0.001"),
        ("recipes/mine.yaml", "train:\n", "train:\n  seed: 7\n", "train.seed 42 -> 7"),
        ("my data.jsonl", "1?", "2?", "data"),
    ],
)
def test_a_recipe_that_has_changed(file: str, old: str, new: str, why: str, tmp_path: Path) -> None:
    path = run(tmp_path)
    place = tmp_path / file
    place.write_text(place.read_text().replace(old, new))
    error = refused(path)
    assert error.message.endswith(f"recipes/mine.yaml is not what it ran: {why}")
    assert "--force" in error.hint
    assert taken(path, force=True).row.cells["commit"].endswith("**not what the recipe makes**")


def test_a_limit_that_has_changed(tmp_path: Path) -> None:
    """It is in no fingerprint, and the row says that it was met."""
    path = run(tmp_path, config={"evaluate.gates": {"loss": {"min_gain": 0.0}}})
    assert "**" not in taken(path).row.cells["commit"]
    recipe = tmp_path / "recipes/mine.yaml"
    recipe.write_text(recipe.read_text().replace("min_gain: 0", "min_gain: 9"))
    assert refused(path).message.endswith("is not what it ran: evaluate.gates")


def test_settings_of_this_machine_alone(tmp_path: Path) -> None:
    """What conf/local said is on no command line, so nobody else gets that result."""
    (tmp_path / "conf" / "local").mkdir(parents=True)
    local = tmp_path / "conf" / "local" / "default.yaml"
    local.write_text("tracking: {mlflow: {uri: sqlite:///x.db}}\n")
    path = run(tmp_path)
    assert "**" not in taken(path).row.cells["commit"]
    local.write_text("train: {learning_rate: 0.003}\n")
    error = refused(under_local(tmp_path, path))
    assert error.message.endswith("is not what it ran: train.learning_rate 0.003 -> 0.005")
    assert "conf/local is left out" in error.hint


def under_local(folder: Path, path: Path) -> Path:
    """The run as it would be with another learning rate that no word says."""
    local = run(folder, name="local", words=(*WORDS, "train.learning_rate=0.003"))
    known = read_json(local / STATE)
    (local / STATE).write_text(json.dumps(known | {"overrides": read_json(path / STATE)["overrides"]}))
    sealed(local)
    return local


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages/evaluate/*/manifest.json", '"exact_match": 0.41', '"exact_match": 0.99'),
        ("stages/train/*/manifest.json", '"seconds": 9.7', '"seconds": 0.7'),
        ("runs/mine/*/run.json", '"passed": true', '"passed": false'),
        ("runs/mine/*/run.json", '"cores": 2', '"cores": 64'),
        ("runs/mine/*/run.json", "model=tiny", "model=huge"),
        ("runs/mine/*/config.yaml", "exact_match", "chrf"),
        ("runs/mine/*/plan.json", '"run"', '"cached"'),
        ("runs/mine/*/seal.json", '"sealed"', '"sealed by"'),
    ],
)
def test_a_number_that_nobody_measured(file: str, old: str, new: str, tmp_path: Path) -> None:
    path = run(tmp_path)
    (changed,) = (tmp_path / "out").glob(file)
    assert old in changed.read_text()
    changed.write_text(changed.read_text().replace(old, new))
    error = refused(path)
    assert f"is not as it was written: {changed.relative_to(tmp_path)} " in error.message
    assert "sft-runner verify out/runs/mine/20260301-120000-ab12" in error.hint
    one = taken(path, force=True)
    assert "**damaged**" in one.row.cells["commit"]
    assert one.row.marked


def anew(folder: Path, stage: str) -> Path:
    """The manifest of a stage that another run made anew, sealed as the store does it."""
    (manifest,) = (folder / "out/stages" / stage).glob("*/manifest.json")
    values = read_json(manifest) | {"seconds": 99.5}
    manifest.write_text(json.dumps(values))
    seal.of_stage(manifest.parent, (*values.get("files", ()), "manifest.json"), manifest.read_bytes())
    return manifest


def test_a_stage_that_was_made_anew_since(tmp_path: Path) -> None:
    path = run(tmp_path)
    anew(tmp_path, "serve")
    assert "anew" not in taken(path).row.cells["commit"]  # nothing in a row is from it
    manifest = anew(tmp_path, "evaluate")
    row = taken(path).row
    assert row.cells["commit"].endswith(", evaluate made anew since")
    assert not row.marked
    manifest.write_text(manifest.read_text().replace("99.5", "9.5"))
    assert "manifest.json was changed" in refused(path).message
    row = taken(path, force=True).row
    assert row.marked
    assert "anew" not in row.cells["commit"]


def test_a_seal_that_was_taken_away(tmp_path: Path) -> None:
    path = run(tmp_path)
    (path / "seal.json").unlink()
    assert "is not there, and run.json says that it was" in refused(path).message
    (path / STATE).write_text(json.dumps(read_json(path / STATE) | {"sealed": False}))
    row = taken(path).row  # as a run of an earlier version
    assert row.cells["commit"].endswith(", not sealed")
    assert not row.marked


def test_what_somebody_laid_beside_a_run(tmp_path: Path) -> None:
    path = run(tmp_path)
    (path / "notes.txt").write_text("mine")
    assert not taken(path).row.marked


def test_gates_are_judged_by_the_scores(tmp_path: Path) -> None:
    """Whatever run.json says of them: without a seal it could say anything."""
    project(tmp_path, gates=BOTH)
    path = run(tmp_path, gates=[MISSED, GATE])
    (path / "seal.json").unlink()
    known = read_json(path / STATE) | {"sealed": False, "gates": [GATE], "fit_to_serve": True}
    (path / STATE).write_text(json.dumps(known))
    one = taken(path)
    assert one.row.cells["gates"].startswith("**failed** 1 of 2")
    assert header.line(one.record, one.path) is None


def test_what_changes_nothing(tmp_path: Path) -> None:
    path = run(tmp_path)
    place = tmp_path / "recipes/mine.yaml"
    place.write_text("# a note\n" + place.read_text().replace("5e-3", "'0.005'"))
    assert "**" not in taken(path).row.cells["commit"]


def test_data_that_is_gone(tmp_path: Path) -> None:
    path = run(tmp_path)
    (tmp_path / "my data.jsonl").unlink()
    assert "there is no file" in refused(path).message


HEADER = "# result:   exact match 0 % -> 41.0 % on 4 held-out rows, 9.7 s of training (embedded:tiny, CPU, 2 cores; "


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# goal: x\n# result: not measured yet\na: 1\n", "# goal: x\n{}\na: 1\n"),
        ("# goal: x\r\n#result:\r\na: 1\r\n", "# goal: x\r\n{}\r\na: 1\r\n"),
        ("# goal: x\na: 1\n# result: below\n", "# goal: x\n{}\na: 1\n# result: below\n"),
        ("a: é\n", "{}\na: é\n"),
        ("\ufeff# goal: x\na: 1\n", "\ufeff# goal: x\n{}\na: 1\n"),
        ("# goal: x", "# goal: x\n{}\n"),
        ("# goal: x\n\n# result: not measured yet\n# command: y\n", "# goal: x\n\n{}\n# command: y\n"),
        ("# goal: x\n\n# about a\na: 1\n", "# goal: x\n{}\n\n# about a\na: 1\n"),
        ("# result:\n#           not measured yet\n# command: y\n", "{}\n# command: y\n"),
        ("# result: not measured yet\r\n#         (a: b)\r\n#  goal: x\r\n", "{}\r\n#  goal: x\r\n"),
        (
            "# result: not measured yet\n#   - a note\n#   see x\n# goal: x\n",
            "{}\n#   - a note\n#   see x\n# goal: x\n",
        ),
        ("# result:\n#   a note\n", "{}\n#   a note\n"),
        ("# goal: g\n# result:\n#   not measured yet\n# command: c\n", "# goal: g\n{}\n# command: c\n"),
        ("# result:\n# The 7B is not measured yet.\n", "{}\n# The 7B is not measured yet.\n"),
        ("# goal: x\n\n# --- a\n# result: of b\na: 1\n", "# goal: x\n{}\n\n# --- a\n# result: of b\na: 1\n"),
        ("# Copyright: me\n\n# goal: x\n", "# Copyright: me\n\n# goal: x\n{}\n"),
        ("\ufeff# result:\n# goal: x\n", "\ufeff{}\n# goal: x\n"),
        ("# yaml-language-server: $schema=x\n\n# goal: x\n", "# yaml-language-server: $schema=x\n\n# goal: x\n{}\n"),
        ("# yaml-language-server: $schema=x\na: 1\n", "# yaml-language-server: $schema=x\n{}\na: 1\n"),
    ],
)
def test_the_line_in_the_header(before: str, after: str, tmp_path: Path) -> None:
    one = taken(run(tmp_path))
    line = header.line(one.record, one.path)
    assert line == f"{HEADER}mine.results.md)"
    recipe = tmp_path / "recipes" / "other.yaml"
    recipe.write_bytes(before.encode())
    assert header.is_open(recipe)
    assert header.write(recipe, line)
    assert recipe.read_bytes().decode() == after.format(line)
    assert not header.is_open(recipe)
    assert not header.write(recipe, line)
