"""Incremental tuning for real: an adapter that was trained is trained further, is killed there, and resumes exactly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from random_models import Reports, write_model, write_prepared
from sft_runner.config.schema import Config, Hardware, Lora, Model, Quantization
from sft_runner.config.schema import Train as TrainConfig
from sft_runner.disk import read_json
from sft_runner.model.continuing import in_folder, shape_of
from sft_runner.stages.stage import Result
from sft_runner.stages.train import Train

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


class Killed(Reports):
    """A report that ends the process's work at a step, as a signal would."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def __call__(self, **values: Any) -> None:
        super().__call__(**values)
        if values.get("step", 0) >= self.step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, prepared rows, and an adapter that was trained on them."""
    folder = tmp_path_factory.mktemp("world")
    write_model(folder / "base")
    write_prepared(folder / "prepare", held_out=2, train=24)
    train(folder, folder / "first")
    return folder


def settings(world: Path, continue_from: Path | None = None) -> Config:
    config = Config(
        model=Model(name=str(world / "base")),
        hardware=Hardware(per_device_train_batch_size=4),
        lora=Lora(r=4, lora_alpha=8.0, lora_dropout=0.1),
        quantization=Quantization(bits="none"),
        train=TrainConfig(learning_rate=5e-3, max_steps=9, batch_size=8, save_steps=3, logging_steps=1),
    )
    if continue_from is None:
        return config
    config = replace(config, train=replace(config.train, continue_from=str(continue_from), warmup_steps=0))
    return replace(config, lora=shape_of(in_folder(continue_from)))


def train(world: Path, folder: Path, continue_from: Path | None = None, report: Reports | None = None) -> Result:
    folder.mkdir(exist_ok=True)
    inputs = {"prepare": world / "prepare"}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return Train().execute(settings(world, continue_from), inputs, folder, Reports() if report is None else report)
    finally:
        torch.set_num_threads(threads)


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_json(folder / "training.json")["logged"]]


def test_it_goes_on_where_the_adapter_stood(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path / "second", world / "first")
    first, second = losses(world / "first"), losses(tmp_path / "second")
    assert second[0] < first[0] - 0.5
    assert second[-1] < first[-1]
    before, after = (load_file(f / "adapter/adapter_model.safetensors") for f in (world / "first", tmp_path / "second"))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    ours, theirs = (read_json(f / "adapter/adapter_config.json") for f in (world / "first", tmp_path / "second"))
    assert ours == theirs


def test_killed_while_it_goes_on_it_ends_with_the_same_bits(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path / "whole", world / "first")
    with pytest.raises(KeyboardInterrupt):
        train(world, tmp_path / "killed", world / "first", Killed(5))
    reports = Reports()
    train(world, tmp_path / "killed", world / "first", reports)
    assert any("from step 3" in event.get("message", "") for event in reports)
    one, other = (tmp_path / name / "adapter/adapter_model.safetensors" for name in ("whole", "killed"))
    assert one.read_bytes() == other.read_bytes()
