"""A stage folder is whole or it is not there, wherever the writer dies."""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sft_runner import worker
from sft_runner.config.schema import Config
from sft_runner.stages.stage import Report, Result
from sft_runner.store import MANIFEST, Store, claim, commit

FINGERPRINT = "0123456789abcdef"
CRASHED = 99


class Writing:
    """A stage that writes two files, one of them in a folder."""

    name, version, reads, inputs, model, data, gpu, keeps = "prepare", 1, (), (), "", False, False, ("checkpoints",)

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        (folder / "part").mkdir(exist_ok=True)
        (folder / "part" / "one.txt").write_text("one")
        (folder / "two.txt").write_text("two")
        return Result({"rows": 2})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setitem(worker.STAGES, "prepare", Writing())
    return Store(tmp_path)


def work(store: Store, **request: Any) -> dict[str, Any]:
    """One attempt, from the request to the rename."""
    ingredients = {"stage": "prepare", "config": {}}
    values = {"stage": "prepare", "fingerprint": FINGERPRINT, "inputs": {}, "ingredients": ingredients, "config": {}}
    return worker.work(store.partial("prepare", FINGERPRINT), lambda message: None, {"values": values, **request})


def in_child(function: Callable[[], Any]) -> int:
    """Run it in a forked process; the exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: the child only writes files
        child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Death:
    """Ends the process at the n-th operation on the disk: before it, after it, or halfway through a write."""

    def __init__(self, at: int, when: str) -> None:
        self.left, self.when = at, when

    def install(self) -> None:
        for name in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir"):
            setattr(os, name, self._dying(getattr(os, name)))
        dump = json.dump
        json.dump = self._torn(dump)  # type: ignore[assignment]

    def _dying(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def perform(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self.when == "before":
                os._exit(CRASHED)
            try:
                return operation(*args, **kwargs)
            finally:
                if self.left == 0 and self.when == "after":
                    os._exit(CRASHED)

        return perform

    def _torn(self, dump: Callable[..., Any]) -> Callable[..., Any]:
        def perform(values: Any, file: Any, **kwargs: Any) -> None:
            self.left -= 1
            if self.left == 0:
                text = json.dumps(values, **kwargs)
                file.write(text[: len(text) // 2])
                file.flush()
                os._exit(CRASHED)
            dump(values, file, **kwargs)

        return perform


def crashes(store: Store, when: str, **request: Any) -> Iterator[int]:
    """Die at each operation in turn, until an attempt gets through."""
    for at in range(1, 500):
        death = Death(at, when)

        def attempt(death: Death = death) -> None:
            death.install()
            work(store, **request)

        code = in_child(attempt)
        if code == 0:
            return
        assert code == CRASHED
        yield at
    raise AssertionError("an attempt never got through")


def assert_whole(store: Store, manifest: dict[str, Any] | None) -> None:
    assert manifest is not None
    folder = store.folder("prepare", FINGERPRINT)
    assert (folder / "part" / "one.txt").read_text() == "one"
    assert (folder / "two.txt").read_text() == "two"
    assert set(manifest["files"]) == {"part/one.txt", "two.txt"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_operation_leaves_nothing_half_made(store: Store, when: str, tmp_path: Path) -> None:
    points = 0
    for _ in crashes(store, when):
        points += 1
        found = store.find("prepare", FINGERPRINT)
        if found:
            assert_whole(store, found)
        assert in_child(lambda: work(store)) == 0
        assert_whole(store, store.find("prepare", FINGERPRINT))
        assert not store.partial("prepare", FINGERPRINT).exists()
        shutil.rmtree(tmp_path / "stages")
    assert points > 15  # the walk saw the writes, syncs and renames of request, result, manifest and folder


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_while_an_output_is_replaced_loses_neither(store: Store, when: str) -> None:
    assert in_child(lambda: work(store)) == 0
    for _ in crashes(store, when, force=True):
        found = store.find("prepare", FINGERPRINT)
        if found:
            assert_whole(store, found)
        assert in_child(lambda: work(store)) == 0  # the next plain run
        assert_whole(store, store.find("prepare", FINGERPRINT))


def test_a_second_attempt_starts_clean_but_for_what_the_stage_keeps(store: Store) -> None:
    partial = store.partial("prepare", FINGERPRINT)
    (partial / "checkpoints").mkdir(parents=True)
    (partial / "checkpoints" / "step").write_text("5")
    (partial / "half-written").write_text("junk")
    assert in_child(lambda: work(store)) == 0
    folder = store.folder("prepare", FINGERPRINT)
    assert not (folder / "half-written").exists()
    assert (folder / "checkpoints" / "step").read_text() == "5"


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "foreign"])
def test_a_damaged_entry_is_a_miss(store: Store, damage: str) -> None:
    assert in_child(lambda: work(store)) == 0
    folder = store.folder("prepare", FINGERPRINT)
    manifest = folder / MANIFEST
    if damage == "truncate":
        (folder / "two.txt").write_text("t")
    elif damage == "remove":
        (folder / "part" / "one.txt").unlink()
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:40])
    else:
        manifest.write_text(manifest.read_text().replace(FINGERPRINT, "f" * 16))
    assert store.find("prepare", FINGERPRINT) is None
    assert in_child(lambda: work(store)) == 0
    assert_whole(store, store.find("prepare", FINGERPRINT))


def test_a_finished_stage_is_not_run_again(store: Store) -> None:
    assert in_child(lambda: work(store)) == 0
    before = (store.folder("prepare", FINGERPRINT) / MANIFEST).read_bytes()
    assert in_child(lambda: work(store)) == 0
    assert (store.folder("prepare", FINGERPRINT) / MANIFEST).read_bytes() == before
    assert not store.partial("prepare", FINGERPRINT).exists()


def test_the_lock_ends_with_its_holder(store: Store) -> None:
    partial = store.partial("prepare", FINGERPRINT)
    partial.mkdir(parents=True)

    def held(folder: Path) -> bool:
        try:
            with claim(folder, wait=0):
                return False
        except TimeoutError:
            return True

    assert not held(partial)
    with claim(partial):
        held_elsewhere = in_child(lambda: os._exit(0 if held(partial) else 3))
    assert held_elsewhere == 0

    def die_holding() -> None:
        lock = claim(partial)
        lock.__enter__()
        os._exit(0)

    assert in_child(die_holding) == 0
    assert not held(partial)


def test_commit_hashes_what_it_commits(store: Store) -> None:
    partial = store.partial("prepare", FINGERPRINT)
    partial.mkdir(parents=True)
    (partial / "a").write_text("abc")
    commit(partial, {"fingerprint": FINGERPRINT})
    found = store.find("prepare", FINGERPRINT)
    assert found is not None
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert found["files"] == {"a": {"size": 3, "sha256": abc}}
