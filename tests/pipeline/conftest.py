"""A small run of the whole chain, made once and copied by the tests that go on from it."""

import shutil
from pathlib import Path

import pytest

from command import SMALL, sft


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small run has ended; not to be written into."""
    folder = tmp_path_factory.mktemp("small")
    ended = sft(*SMALL, cwd=folder)
    assert ended.code == 0, ended.said
    (folder / "screen.txt").write_text(ended.out)
    return folder


@pytest.fixture
def copied(small: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(small, tmp_path / "copy", symlinks=True))
