"""What kind of place a path names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sft_runner.data.sources.git import GitAddress
from sft_runner.data.sources.hub import HubAddress
from sft_runner.data.sources.local import LocalAddress


class Address(Protocol):
    """A place that files are read from."""

    @property
    def name(self) -> str:
        """The place in a word, for reports."""

    def place(self) -> Path | None:
        """The file or folder on this machine; None while it must be fetched. Makes no network call.

        Raises `DataError` for one that does not exist.
        """

    def fetch(self) -> None:
        """Bring it to this machine. Raises `MachineError` in one line where that fails."""

    def chosen(self, names: Sequence[str]) -> Sequence[str]:
        """Those of the data files below the folder that are meant. Raises `DataError` where that is not clear."""


def address_of(path: str) -> Address:
    """The address that a path is. Raises `DataError` for one that is not well-formed."""
    if path.startswith("hf://"):
        return HubAddress.parsed(path)
    if path.startswith("git+"):
        return GitAddress.parsed(path)
    return LocalAddress(path)
