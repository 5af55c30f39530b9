"""What training leaves: an adapter in PEFT's format, or a whole model; the same files on every machine."""

import json
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.disk import write_json
from sft_runner.model import starts
from sft_runner.model.files import require

ADAPTER, MODEL = "adapter", "model"


def trained(config: Config) -> str:
    """The name of the trained folder inside the stage's: `adapter` or `model`."""
    return MODEL if config.adapter == "none" else ADAPTER


def prepare_start(trainer: Any, config: Config) -> None:
    """Make sure that the adapter can start, and keep what its start moved out of the base, such as PiSSA's.

    Call it once the trainer is made and before it has loaded a checkpoint.
    """
    if config.adapter == "none":
        return
    if starts.moves(config.lora):
        trainer.start = starts.factors(trainer.model)
    if config.lora.use_dora and config.train.continue_from is None:  # an earlier adapter has lengths of its own
        starts.fit_magnitudes(trainer.model)


def keep_logits(trainer: Any, config: Config, prepared: Path, folder: Path) -> None:
    """Keep what the trained model says on a few prepared rows, before it is written, for merge to compare with."""
    import torch

    from sft_runner.merging import proof

    hardware = config.hardware
    coarser = hardware.trained_dtype if hardware.dtype == "float32" else hardware.dtype
    proof.keep(trainer.model, prepared, folder, getattr(torch, coarser))


def write_trained(trainer: Any, config: Config, folder: Path) -> None:
    """Write `folder/adapter`, which fits the base as it is stored, or `folder/model`; the model is used up."""
    if config.adapter == "none":
        _write_model(trainer.model, require(config.model), folder / MODEL)
        return
    _write_adapter(trainer.model, config, folder / ADAPTER)
    if starts.moves(config.lora):
        starts.fit_original(folder / ADAPTER, trainer.start)


def _write_adapter(model: Any, config: Config, folder: Path) -> None:
    """PEFT's files: the base by its name, nothing in random order."""
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()  # PEFT's model card is a form that nobody filled in
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text())
    values |= {"base_model_name_or_path": config.model.name, "revision": config.model.revision}
    for name in ("target_modules", "target_parameters"):
        if isinstance(values[name], list):
            values[name].sort()
    write_json(path, values)


def _write_model(model: Any, base: Path, folder: Path) -> None:
    """Weights and configuration in the precision that the base is stored in; merging adds what else belongs to it."""
    from transformers import GenerationConfig

    model.config = type(model.config).from_pretrained(base)  # the trainer changes a few of its values
    # merging copies the base's own file; values that transformers loads but refuses to write must not stop here
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    model.to(model.config.dtype or model.dtype).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
