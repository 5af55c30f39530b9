"""The tensors in a model's folder, one at a time and without a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.disk import read_json
from sft_runner.errors import StageFailed
from sft_runner.model.weights import INDEX, SINGLE

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tensors:
    """All tensors of a folder, by name; every file is there and whole."""

    of_files: Mapping[str, Any]
    """Name -> the open file that holds it. The files are memory-mapped."""

    @property
    def names(self) -> list[str]:
        """Their names, sorted."""
        return sorted(self.of_files)

    def __getitem__(self, name: str) -> "Tensor":
        found: Tensor = self.of_files[name].get_tensor(name)
        return found

    @staticmethod
    def of(folder: Path, what: str) -> "Tensors":
        """Open a folder's safetensors files; `what` names the model in errors.

        Raises `StageFailed` where a file or a tensor that the index names is missing, or a file is cut off.
        """
        from safetensors import SafetensorError, safe_open

        index = read_json(folder / INDEX)
        named: dict[str, str] = (index or {}).get("weight_map") or {}
        if index is None and (folder / INDEX).is_file():
            raise _incomplete(what, f"{folder / INDEX} cannot be read")
        found: dict[str, Any] = {}
        for path in sorted({folder / name for name in named.values()} or {folder / SINGLE}):
            if not path.is_file():
                because = f", which {INDEX} names" if named else ""
                raise _incomplete(what, f"there is no {path.name} in {folder}{because}")
            try:
                file = safe_open(path, "pt")
            except (SafetensorError, OSError) as error:
                raise _incomplete(what, f"{path} cannot be read: {error}") from error
            found |= dict.fromkeys(file.keys(), file)  # type: ignore[no-untyped-call]
        if lost := sorted(named.keys() - found.keys()):
            raise _incomplete(what, f"{folder / named[lost[0]]} has no tensor {lost[0]}, which {INDEX} names")
        return Tensors(found)


def _incomplete(what: str, why: str) -> StageFailed:
    stage = "train" if what == "the trained model" else "merge"
    again = "fetch the model again" if what == "the base" else f"run again with force=[{stage}]"
    return StageFailed(f"proof of the files: the weights of {what} are not complete: {why}", again)
