"""Merges through the real stage, and what goes wrong between two of its lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from random_models import Reports, write_prepared
from sft_runner.config.schema import Config, Merge, Model
from sft_runner.merging import proof, stream, whole
from sft_runner.stages.merge import Merge as MergeStage
from sft_runner.stages.stage import Result


def run(
    tmp_path: Path,
    base: Path,
    held_out: int | None = 3,
    merge: Merge | None = None,
    adapter: str = "lora",
    bits: str = "none",
    reports: Reports | None = None,
) -> Result:
    """Merge `train/adapter` into `base`, below `tmp_path/merge`; without `held_out` on the rows that are there."""
    if held_out is not None:
        write_prepared(tmp_path / "prepare", held_out)
    inputs = {"prepare": tmp_path / "prepare", "train": tmp_path / "train"}
    (tmp_path / "merge").mkdir()
    config = Config(model=Model(name=str(base)), merge=merge or Merge(), adapter=adapter)
    config.quantization.bits = bits
    return MergeStage().execute(config, inputs, tmp_path / "merge", Reports() if reports is None else reports)


def write_trained(train: Path, base: Path, size: float = 0.02, **saved: Any) -> Path:
    """The output of `train` for a model that was trained whole: the base with noise of deviation `size`."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    for value in model.parameters():
        value.data += size * torch.randn_like(value)
    model.save_pretrained(train / "model", **saved)
    (train / "model" / "generation_config.json").unlink()
    return train


def keep(tmp_path: Path, model: Any, dtype: torch.dtype = torch.float32) -> None:
    """What training keeps of the model before it writes anything."""
    write_prepared(tmp_path / "prepare", 3)
    proof.keep(model, tmp_path / "prepare", tmp_path / "train", dtype)


def then(monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]) -> None:
    """Do `damage` to the folder of the merged model between merging and proving."""
    for module, name, place in ((stream, "merge", 2), (whole, "carry", 2)):
        real = getattr(module, name)

        def damaging(*args: Any, _real: Any = real, _place: int = place, **named: Any) -> Any:
            found = _real(*args, **named)
            damage(args[_place])
            return found

        monkeypatch.setattr(module, name, damaging)


def scale(name: str, factor: float) -> Callable[[Path], None]:
    """The damage of one tensor that is multiplied."""

    def damage(folder: Path) -> None:
        for file in folder.glob("*.safetensors"):
            tensors = load_file(file)
            if name in tensors:
                tensors[name] = (tensors[name] * factor).to(tensors[name].dtype)
                save_file(tensors, file, metadata={"format": "pt"})

    return damage
