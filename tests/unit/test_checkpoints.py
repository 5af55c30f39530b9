"""A checkpoint counts only if it is whole: every write of a save may be the last before a crash."""

from pathlib import Path

import pytest

from sft_runner.training import checkpoints

FILES = {"adapter_model.safetensors": b"weights", "optimizer.pt": b"moments", "trainer_state.json": b"{}"}


def write(folder: Path, step: int) -> Path:
    """What transformers leaves behind: files and nothing that says they are whole."""
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name, content in FILES.items():
        (checkpoint / name).write_bytes(content)
    return checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sealed checkpoints of steps 9 and 10."""
    for step in (9, 10):
        checkpoints.seal(write(tmp_path, step))
    return tmp_path


def test_nothing_there(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path / "checkpoints") is None
    assert checkpoints.clean(tmp_path / "checkpoints") is None


def test_the_newest_is_the_one_with_most_steps(folder: Path) -> None:
    assert checkpoints.latest(folder) == (10, folder / "checkpoint-10")
    assert checkpoints.clean(folder) == (10, folder / "checkpoint-10")
    assert (folder / "checkpoint-9").is_dir()  # a second one to fall back on


def test_an_unsealed_one_is_passed_over_and_removed(folder: Path) -> None:
    write(folder, 11)
    assert checkpoints.latest(folder) == (10, folder / "checkpoint-10")
    assert (folder / "checkpoint-11").is_dir()  # looking changes nothing
    assert checkpoints.clean(folder) == (10, folder / "checkpoint-10")
    assert not (folder / "checkpoint-11").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file(folder: Path, name: str) -> None:
    (folder / "checkpoint-10" / name).write_bytes(b"x")
    assert checkpoints.latest(folder) == (9, folder / "checkpoint-9")
    assert checkpoints.clean(folder) == (9, folder / "checkpoint-9")
    assert not (folder / "checkpoint-10").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / "checkpoint-10" / name).unlink()
    assert checkpoints.latest(folder) == (9, folder / "checkpoint-9")


def test_a_file_that_was_not_sealed(folder: Path) -> None:
    (folder / "checkpoint-10" / "rng_state.pth").write_bytes(b"a pickle from elsewhere")
    assert checkpoints.clean(folder) == (9, folder / "checkpoint-9")


def test_changed_bytes_of_the_same_size_are_never_loaded(folder: Path) -> None:
    (folder / "checkpoint-10" / "optimizer.pt").write_bytes(b"Moments")
    assert checkpoints.latest(folder) == (10, folder / "checkpoint-10")  # cheap: sizes only
    assert checkpoints.clean(folder) == (9, folder / "checkpoint-9")


@pytest.mark.parametrize(
    "seal",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"files": {}}',
        b'{"files": "all"}',
        b'{"files": {"gone": {"size": 1}}}',
        b'{"files": {"adapter_model.safetensors": 1, "optimizer.pt": 1, "trainer_state.json": 1}}',
    ],
)
def test_a_damaged_seal(folder: Path, seal: bytes) -> None:
    (folder / "checkpoint-10" / checkpoints.SEAL).write_bytes(seal)
    assert checkpoints.latest(folder) == (9, folder / "checkpoint-9")
    assert checkpoints.clean(folder) == (9, folder / "checkpoint-9")


def test_a_seal_that_was_being_written(folder: Path) -> None:
    checkpoint = write(folder, 11)
    (checkpoint / ".complete.json.123.tmp").write_text('{"files"')
    assert checkpoints.clean(folder) == (10, folder / "checkpoint-10")


def test_no_checkpoint_is_whole(folder: Path) -> None:
    for step in (9, 10):
        (folder / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"")
    assert checkpoints.clean(folder) is None
    assert list(folder.iterdir()) == []


def test_rotation_keeps_the_newest(folder: Path) -> None:
    checkpoints.seal(write(folder, 100))  # by steps, not by name
    checkpoints.rotate(folder, keep=2)
    assert {path.name for path in folder.iterdir()} == {"checkpoint-10", "checkpoint-100"}


def test_other_folders_are_left_alone(folder: Path) -> None:
    (folder / "checkpoint-best").mkdir()
    assert checkpoints.clean(folder) == (10, folder / "checkpoint-10")
    assert (folder / "checkpoint-best").is_dir()


def test_a_folder_fits_only_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").write_text("a")
    files = checkpoints.settle(tmp_path)
    assert files == {
        "below/a": {"size": 1, "sha256": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}
    }
    assert checkpoints.fits(tmp_path, files)
    (tmp_path / "below" / "a").write_text("b")
    assert checkpoints.fits(tmp_path, files, hashes=False)
    assert not checkpoints.fits(tmp_path, files)
    assert not checkpoints.fits(tmp_path, {})


# --- which ones are kept --------------------------------------------------------------------------------------------


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in folder.iterdir())


def test_rotation_spares_what_is_needed(folder: Path) -> None:
    for step in (11, 12):
        checkpoints.seal(write(folder, step))
    checkpoints.rotate(folder, 1, {9, 5})
    assert steps(folder) == [9, 12]
    checkpoints.rotate(folder, 1)
    assert steps(folder) == [12]


def test_what_was_taken_after_a_step_is_discarded(folder: Path) -> None:
    checkpoints.discard(folder, after=9)
    assert steps(folder) == [9]
    assert checkpoints.latest(folder) == (9, folder / "checkpoint-9")


def test_the_newest_up_to_a_step(folder: Path) -> None:
    assert checkpoints.latest(folder, until=9) == (9, folder / "checkpoint-9")
    assert checkpoints.latest(folder, until=8) is None


@pytest.mark.parametrize(("step", "found"), [(8, {9}), (9, {9, 10}), (10, {10}), (99, {10})])
def test_around_a_step(folder: Path, step: int, found: set[int]) -> None:
    assert checkpoints.around(folder, step) == found


def test_one_whose_bytes_were_changed_is_not_whole(folder: Path) -> None:
    assert checkpoints.whole(folder, 9) == folder / "checkpoint-9"
    (folder / "checkpoint-9" / "optimizer.pt").write_bytes(b"MOMENTS")
    assert checkpoints.latest(folder, until=9) is not None  # sizes alone are the same
    assert checkpoints.whole(folder, 9) is None
    assert checkpoints.whole(folder, 7) is None
