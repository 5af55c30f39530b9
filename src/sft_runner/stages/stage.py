"""What every stage is: a name, what it reads, and a function from inputs to a folder.

A stage knows nothing of trackers, of caching or of the other stages' code. It writes its output below `folder`,
reports progress, and returns plain numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sft_runner.config.schema import Config


class Report(Protocol):
    """Tells how a stage is doing; each call becomes one line of `events.jsonl`."""

    def __call__(self, **values: Any) -> None:
        """Report any of `step`, `steps`, `epoch`, `loss`, `learning_rate`, `tokens_per_second`, `memory_gb`,
        `seconds_left`, `message`; other numbers are logged as metrics too."""


@dataclass
class Dataset:
    """A data set that a stage read, for the lineage in a tracker."""

    name: str
    """What people call it."""
    source: str
    """The file or folder it came from."""
    digest: str
    """Hash of its bytes, at most 36 characters."""
    rows: int
    """How many rows were used."""
    context: str
    """`training` or `evaluation`."""


@dataclass
class Result:
    """What a stage returns besides the files it wrote."""

    metrics: dict[str, Any] = field(default_factory=dict)
    """Numbers, nested by what was measured: `{"tuned": {"exact_match": 1.0}}`."""
    datasets: list[Dataset] = field(default_factory=list)
    """Data sets that were read."""
    notes: list[str] = field(default_factory=list)
    """Sentences that a person should read, also when the output is found again."""
    artifacts: list[str] = field(default_factory=list)
    """Files and folders of the output, relative to it, small enough to be copied into a tracker."""


class Stage(Protocol):
    """One step from recipe to served model."""

    name: str
    """Also the name of its folder below `output_dir/stages`."""
    version: int
    """Raised when the output would differ for the same configuration."""
    reads: tuple[str, ...]
    """Parts or keys of the configuration that the output depends on, such as `lora` or `data.seed`."""
    inputs: tuple[str, ...]
    """Earlier stages whose output is read."""
    model: str
    """What it reads of the base model: `""`, `tokenizer` or `weights`."""
    data: str
    """Which of the user's files it reads: `""`, `data` (what is learned) or `sets` (what else is scored)."""
    gpu: bool
    """Whether it needs the accelerator."""
    keeps: tuple[str, ...]
    """Names inside the folder that a second attempt goes on from, such as `checkpoints`."""

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Do the work below `folder`, which holds only what `keeps` names.

        Raises `SftError` for what the user can mend; anything else is shown with its log.
        """
