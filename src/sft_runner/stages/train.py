"""Train the adapter with TRL's `SFTTrainer` on prepared rows.

Killed at any moment, the next attempt goes on from the newest whole checkpoint and ends with the same bits on the CPU.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.disk import read_json, write_json
from sft_runner.errors import MachineError, UserError
from sft_runner.hardware import fit
from sft_runner.stages import checkpoints
from sft_runner.stages.stage import Report, Result

if TYPE_CHECKING:
    from sft_runner.stages.trainer import Progress, Trainer

CHECKPOINTS, ADAPTER, HISTORY = "checkpoints", "adapter", "history.json"
LOGGED = ("step", "epoch", "loss", "learning_rate", "grad_norm", "mean_token_accuracy", "entropy")
"""What `history.json` keeps of each logged step."""
ON_DISK = "trained.json"
"""Metrics of a training whose adapter is complete, for an attempt that finds it."""


class Train:
    """A PEFT adapter in `adapter/`, and the logged steps in `history.json`."""

    name = "train"
    version = 1
    reads: tuple[str, ...] = ("quantization", "lora", "train", "hardware")
    inputs: tuple[str, ...] = ("prepare",)
    model = "weights"
    data = False
    gpu = True
    keeps: tuple[str, ...] = (CHECKPOINTS, ADAPTER, HISTORY)
