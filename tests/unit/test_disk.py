"""Writing aside, and what a full or closed disk is told as."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sft_runner.disk import alone, explained, read_json, replace, write_json
from sft_runner.errors import MachineError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"text": "数据", "path": tmp_path})
    assert read_json(tmp_path / "a.json") == {"text": "数据", "path": str(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_the_machines_error() -> None:
    path = Path("/dev/full")
    with pytest.raises(MachineError, match="no space left"), explained(path):
        path.write_text("x")


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_a_damaged_file_reads_as_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "none.json") is None


def test_a_file_is_replaced_where_it_is_another(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file, link = tmp_path / "folder/a.txt", tmp_path / "link.txt"
    link.symlink_to("folder/a.txt")
    left = tmp_path / "folder/.a.txt.1.tmp"
    left.write_text("of a command that was killed")
    assert replace(link, b"1")  # to where it leads, though nothing is there
    file.chmod(0o604)
    before = file.stat()
    assert not replace(link, b"1")
    assert file.stat().st_ino == before.st_ino
    assert replace(link, b"2")
    assert (link.is_symlink(), file.read_bytes(), file.stat().st_mode) == (True, b"2", before.st_mode)
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]


def test_what_cannot_be_replaced_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "a.txt", tmp_path / "none/a.txt", tmp_path / "pipe"):
        with pytest.raises(MachineError, match="cannot be written"):
            replace(place, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_is_held_by_one_and_by_nobody_who_is_dead(tmp_path: Path) -> None:
    done = threading.Event()

    def other() -> None:
        with alone(tmp_path):
            done.set()

    waiting = threading.Thread(target=other)
    with alone(tmp_path), alone(tmp_path):
        assert replace(tmp_path / "a.txt", b"1")  # which holds it too
        waiting.start()
        assert not done.wait(0.1)
    waiting.join(10)
    assert done.is_set()
    killed = "import os, sys; from pathlib import Path; from sft_runner.disk import alone\n"
    killed += "with alone(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", killed, str(tmp_path)], timeout=60).returncode == -9
    with alone(tmp_path):
        assert os.listdir(tmp_path) == ["a.txt"]
