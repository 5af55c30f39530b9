"""Whoever reads what is printed may stop, and the disk that it goes to may be full."""

import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", ["keys", "recipe=quickstart dry_run=true"])
def test_a_full_disk_below_the_output_is_told_in_a_line(words: str, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        command = [sys.executable, "-m", "sft_runner", *words.split()]
        ended = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 3
    assert "error: what is printed cannot be written: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_output_at_all_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m sft_runner recipe=quickstart dry_run=true >&-"
    ended = subprocess.run(command, shell=True, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sft_runner", "keys"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shown:
        assert shown.stdout
        assert shown.stderr
        shown.stdout.close()
        assert shown.stderr.read() == ""
    assert shown.returncode == 141
