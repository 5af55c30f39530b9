"""Bytes that a run writes, beside what is free."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from sft_runner.config.schema import Config
from sft_runner.cost.memory import training_memory
from sft_runner.cost.parameters import parameters
from sft_runner.cost.precision import BYTES, of_trained, trains_all
from sft_runner.cost.weights import trained_values
from sft_runner.model.architecture import Architecture

STORED = 2
"""Bytes of a weight as models are published, where the files are not here to tell."""

GGUF = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}
"""Bytes of a weight by `gguf.type`; q8_0 has a scale of two bytes for 32 weights."""


@dataclass(frozen=True)
class Disk:
    """Bytes on the disk."""

    trained: int
    """The adapter, or the whole model that was trained."""
    checkpoints: int
    """While training; they are removed at its end."""
    merged: int
    """The merged model."""
    download: int = 0
    """The base, where it is not on this machine yet."""
    exported: int = 0
    """The forms in which the model is handed on."""

    @property
    def most(self) -> int:
        """The most that lies there at once: checkpoints are gone before the merge begins."""
        return self.download + self.trained + max(self.checkpoints, self.merged + self.exported)


def disk(config: Config, arch: Architecture, merges: bool, fetches: bool = False, exports: bool = False) -> Disk:
    """What training and merging write, fetching the base, and exporting. A checkpoint holds the trained weights and the
    optimizer's states, and one more than are kept lies there while it is written."""
    trained = trained_values(config, arch) * of_trained(config)
    states = training_memory(config, arch, 1, "full", 1).optimizer
    stored = STORED if BYTES[config.hardware.dtype] == STORED else _stored(arch)
    return Disk(
        trained=parameters(arch).total * stored if trains_all(config) else trained,
        checkpoints=(config.train.save_total_limit + 1) * (trained + states),
        merged=parameters(arch).total * stored if merges else 0,
        download=parameters(arch).total * stored if fetches else 0,
        exported=int(_exported(config, parameters(arch).total, stored, trained)) if exports else 0,
    )


def _exported(config: Config, count: int, stored: int, trained: int) -> float:
    """Bytes of all forms. An archive is hardly smaller than what is in it."""
    adapter = 0 if trains_all(config) else trained
    forms = {
        "adapter": adapter,
        "safetensors": count * stored,
        "gguf": count * GGUF.get(config.gguf.type, stored),
        "archive": count * stored + adapter,
    }
    return sum(forms.get(form, 0) for form in {*config.export})


def free(folder: Path) -> int:
    """Free bytes where `folder` is, or will be."""
    return shutil.disk_usage(_there(folder)).free


def same_disk(one: Path, other: Path) -> bool:
    """Whether two folders take their room from the same disk."""
    return _there(one).stat().st_dev == _there(other).stat().st_dev


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _stored(arch: Architecture) -> int:
    """Small models are published in float32, as the embedded one is."""
    return BYTES["float32"] if parameters(arch).total < 1e8 else STORED
