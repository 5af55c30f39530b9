"""`locked=true`: what is not as the lock says is refused by name before anything begins; what is, runs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command import sft
from locks import COMMIT, HUB_MODEL, OTHER, write_project, write_snapshot
from sft_runner import load, plan
from sft_runner.commands import lock
from sft_runner.config import sources
from sft_runner.disk import read_json
from sft_runner.errors import UserError
from sft_runner.model import files
from sft_runner.readiness import with_model
from sft_runner.review.lock import libraries

RUN = ("recipe=mine", "hardware=cpu", "locked=true")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A locked project with a model from a hub cache beside it; not to be written into."""
    world = tmp_path_factory.mktemp("locked")
    write_snapshot(world / "hub")
    (world / "project").mkdir()
    folder = write_project(world / "project", HUB_MODEL)
    ended = sft("lock", "mine", cwd=folder, HF_HUB_CACHE=str(world / "hub"))
    assert ended.code == 0, ended.said
    return world


@pytest.fixture
def world(locked: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(locked, tmp_path / "world"))


@pytest.fixture
def here(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project as the working directory of this process."""
    monkeypatch.chdir(world / "project")
    monkeypatch.setattr(files.constants, "HF_HUB_CACHE", str(world / "hub"))
    libraries.version.cache_clear()
    yield world / "project"
    sources.forget()
    libraries.version.cache_clear()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def other_commit(world: Path) -> None:
    write_snapshot(world / "hub", OTHER)


def data_byte(world: Path) -> None:
    edit(world / "project/rows.jsonl", "It is 3.", "It is 4.")


def template_byte(world: Path) -> None:
    (snapshot,) = (world / "hub").glob("*/snapshots/*")
    edit(snapshot / "chat_template.jinja", "<|im_start|>", "<|im_begin|>")


def library(world: Path) -> None:
    info = world / "site/peft-0.99.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.99.0\n")


def setting(world: Path) -> None:
    edit(world / "project/recipes/mine.yaml", "2e-4", "1e-4")


@pytest.mark.parametrize(
    ("drift", "named"),
    [
        (
            other_commit,
            f"  - model: commit {COMMIT[:12]} -> {OTHER[:12]}\n  model.revision={COMMIT}\n  or lock what is here, "
            "and have the difference reviewed: sft-runner lock mine --hardware cpu\n",
        ),
        (data_byte, "  - data: rows.jsonl (20 rows, other bytes)\n  or lock"),
        (template_byte, "  - template: "),
        (library, "  - peft 0.21.2 -> 0.99.0\n  pip install peft==0.21.2\n  or lock"),
        (setting, "  - train.learning_rate 0.0002 -> 0.0001 (recipes/mine.yaml, line 11)\n  or lock"),
    ],
)
def test_each_drift_is_refused_by_its_name(drift: Callable[[Path], None], named: str, world: Path) -> None:
    drift(world)
    ended = sft(*RUN, cwd=world / "project", HF_HUB_CACHE=str(world / "hub"), PYTHONPATH=str(world / "site"))
    assert ended.code == 2, ended.said
    begin = "error: locked=true: this is not what recipes/mine.lock, line 5, holds for mine on cpu:\n"
    assert ended.err.startswith(begin)
    assert named in ended.err
    assert ended.err.count("\n  - ") == 1
    assert not (world / "project/outputs").exists()


def test_a_sweep_is_refused_before_its_first_job(world: Path) -> None:
    ended = sft(*RUN, "-m", "lora.r=4,8", cwd=world / "project", HF_HUB_CACHE=str(world / "hub"))
    assert ended.code == 2, ended.said
    assert "job 0: locked=true" in ended.err
    assert "job 1" not in ended.err
    assert "  - lora.r 8 -> 4 (command line)\n" in ended.err
    assert "leave out lora.r=4" in ended.err
    assert not (world / "project/outputs").exists()


def test_what_is_locked_plans(here: Path) -> None:
    planned = plan(load(*RUN))
    assert "prepare" in str(planned)
    assert planned.run.config.model.revision == COMMIT  # whatever is fetched before a stage loads it
    assert plan(load("recipe=mine", "hardware=cpu", "locked=true", "name=other", "stage=train", "train.save_steps=1"))


def refused(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        plan(load(*words))
    return caught.value.show()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("hardware=cpu",), "recipe=None is none"),
        (
            ("recipe=bare", "hardware=cpu"),
            "the recipe 'bare' has no lock, recipes/bare.lock\n  make it: sft-runner lock bare ",
        ),
        (("recipe=mine", "hardware=rtx3060"), "recipes/mine.lock has no entry for rtx3060, only for cpu\n  add it: "),
        (("recipe=mine", "hardware=cpu", "model.name=embedded:tiny"), f"model: {HUB_MODEL} -> embedded:tiny"),
        (("recipe=mine", "hardware=cpu", "export=[adapter]"), "stage export: not in the lock"),
        (("recipe=mine", "hardware=cpu", "evaluate.gates.loss.max=200"), "leave out evaluate.gates.loss.max=200"),
        (("recipe=mine", "hardware=cpu", "force=[serve]"), "force=[serve] goes over evaluate.gates"),
    ],
)
def test_what_no_lock_says_is_refused(words: tuple[str, ...], expected: str, here: Path) -> None:
    (here / "recipes/bare.yaml").write_text("data: {path: rows.jsonl}\nmodel: {name: 'embedded:tiny'}\n")
    assert expected in refused(*words, "locked=true")


def test_hardware_auto_takes_the_lock_of_the_preset_that_it_finds(here: Path) -> None:
    run = load("recipe=mine", "hardware=auto", "locked=true")
    if run.config.hardware.name != "cpu":
        pytest.skip("there is a card")
    assert plan(run).steps


def test_this_machines_own_settings_may_lock_all_runs(here: Path) -> None:
    (here / "conf/local").mkdir(parents=True)
    (here / "conf/local/default.yaml").write_text("locked: true\n")
    assert "lora.r 8 -> 4" in refused("recipe=mine", "hardware=cpu", "lora.r=4")


def test_rows_are_counted_where_the_bytes_are_others(here: Path) -> None:
    with (here / "rows.jsonl").open("a") as rows:
        rows.write('{"question": "one", "answer": "more"}\n')
    assert "  - data: rows.jsonl (20 -> 21 rows)\n" in refused(*RUN)
    (here / "rows.jsonl").write_text("")
    assert "rows.jsonl is empty" in refused(*RUN)


def test_a_lock_with_a_conflict_stops_the_run(here: Path) -> None:
    edit(here / "recipes/mine.lock", "    words:", "<<<<<<< HEAD\n    words:")
    assert "line 6: a merge conflict that is not resolved" in refused(*RUN)


def test_the_lock_of_another_version_of_a_stage(here: Path) -> None:
    edit(here / "recipes/mine.lock", "      train: 1\n", "      train: 0\n")
    assert "stage train: version 0 -> 1" in refused(*RUN)


def test_a_model_is_fetched_at_the_locked_commit(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is played: by now its newest commit is another one, and somebody changed what the locked one holds."""
    hub, asked = here.parent / "hub", []
    shutil.rmtree(hub)

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> None:
        asked.append((name, revision))
        template_byte_of = write_snapshot(hub, revision or OTHER)
        if len(asked) > 1:
            edit(template_byte_of / "chat_template.jinja", "<|im_start|>", "<|im_begin|>")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr(files.constants, "HF_HUB_OFFLINE", False)
    planned = with_model(plan(load(*RUN)))
    assert asked == [(HUB_MODEL, COMMIT)]
    assert planned.run.config.model.revision == COMMIT
    shutil.rmtree(hub)
    before = plan(load(*RUN))
    with pytest.raises(UserError, match="template: "):
        with_model(before)


def test_a_kill_before_the_rename_leaves_the_lock_as_it_was(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / "recipes/mine.lock"
    before = path.read_bytes()
    setting(here.parent)
    killed = "import os, sys; os.replace = lambda *paths: os.kill(os.getpid(), 9);"
    program = killed + "from sft_runner.commands.lock import main; sys.exit(main(['mine']))"
    environment = {**os.environ, "HF_HUB_CACHE": str(here.parent / "hub")}
    ended = subprocess.run([sys.executable, "-c", program], cwd=here, env=environment, timeout=60)
    assert ended.returncode == -9
    assert path.read_bytes() == before
    assert [one.suffix for one in path.parent.iterdir() if one.name.startswith(".")] == [".tmp"]  # it was that near
    assert lock.main([]) == 0
    assert capsys.readouterr().out == "recipes/mine.lock: cpu: written\n  train.learning_rate 0.0002 -> 0.0001\n"
    assert lock.main(["--check"]) == 0
    assert {one.name for one in path.parent.iterdir()} == {"mine.lock", "mine.yaml"}


@pytest.mark.slow
def test_the_run_that_was_locked_passes_and_its_cache_is_checked_too(world: Path) -> None:
    project, hub = world / "project", str(world / "hub")
    words = (*RUN, "stage=evaluate")
    ended = sft(*words, cwd=project, HF_HUB_CACHE=hub)
    assert ended.code == 0, ended.said
    (state,) = (project / "outputs/runs/mine").glob("*/run.json")
    assert (read_json(state) or {})["locked"] is True
    assert sft(*words, cwd=project, HF_HUB_CACHE=hub).code == 0
    library(world)
    again = sft(*words, cwd=project, HF_HUB_CACHE=hub, PYTHONPATH=str(world / "site"))
    assert (again.code, "peft 0.21.2 -> 0.99.0" in again.err) == (2, True)
