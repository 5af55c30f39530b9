"""What merging did to a model's weights."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """What merging did to the weights."""

    adapted_modules: int
    """Modules that have an adapter; of a model that was trained whole, all its tensors."""
    changed_modules: int
    """How many of them differ from the base's."""
    merged_into: str
    """Precision of the base as it is stored, which the merged model keeps."""
    how: str = "copy"
    """`stream`: tensor by tensor from file to file; `peft`: the whole model in memory; `copy`: there was no adapter."""
    note: str = ""
    """A sentence that says why it was not a stream; empty where it was one, or where there was nothing to merge."""
    seconds: float = 0.0
    """Wall time, until the last byte was on the disk."""
    bytes: int = 0
    """Size of the weights that were written."""
