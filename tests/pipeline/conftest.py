"""A small run of the whole chain, made once and copied by the tests that go on from it; a world for trainings."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from command import SMALL, sft
from trainings import write_world


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares the small run comes first, so that one worker has it all and no other makes it again."""
    items.sort(key=lambda item: "small" not in getattr(item, "fixturenames", ()))


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


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model and prepared rows."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Models this small are fastest on one core, and far faster when the others are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
