"""Writing aside, and what a full or closed disk is told as."""

from pathlib import Path

import pytest

from sft_runner.disk import explained, read_json, write_json
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
