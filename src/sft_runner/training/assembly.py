"""A trainer put together from a settled run: base, adapter, prepared rows, and who follows its progress."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute  # type: ignore[import-untyped]
import torch
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils.generic import is_flash_attention_requested
from trl.models.selective_activation_checkpointing import enable_selective_activation_checkpointing

from sft_runner.config.schema import Config
from sft_runner.data.packing import CARD_PASS, CPU_PASS
from sft_runner.data.prepared import HELD_OUT, TRAIN
from sft_runner.hardware import Fit
from sft_runner.model.adapters import lora_config
from sft_runner.model.continuing import in_folder, load_continued
from sft_runner.model.files import require
from sft_runner.model.loading import device, load_tokenizer, load_trainable
from sft_runner.model.rows import Rows, all_rows
from sft_runner.training.arguments import arguments
from sft_runner.training.looks import look
from sft_runner.training.memory import Ladder
from sft_runner.training.output import prepare_start
from sft_runner.training.passes import Collator, Layout
from sft_runner.training.progress import Progress
from sft_runner.training.sealing import Sealing
from sft_runner.training.stopping import Stopping
from sft_runner.training.trainer import Trainer

COLUMNS = ["input_ids", "labels"]
"""What the trainer reads of a prepared row."""


@dataclass
class Assembly:
    """A trainer, and those of its callbacks that are asked afterwards."""

    trainer: Trainer
    """Ready to train."""
    progress: Progress
    """How fast it is."""
    stopping: Stopping
    """Why it stopped."""

    def restore(self, checkpoint: Path) -> None:
        """Be where the trainer was at a checkpoint, without training on."""
        self.trainer.load(checkpoint)
        self.trainer.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        self.progress.begin(self.trainer.state)


def build(config: Config, batch: Fit, prepared: Path, folder: Path, ladder: Ladder) -> Assembly:
    """A trainer over prepared rows that keeps its checkpoints in `folder`."""
    attention, on_gpu = config.hardware.attn_implementation, device(config) != "cpu"
    whole = Fit(batch.micro_batch * batch.accumulation, 1)  # a batch of the loader is a step
    # what may be refused comes before the model, which takes longer to load
    options, looking = arguments(config, whole, folder, on_gpu), look(config, prepared, ladder)
    base, tokenizer = load_trainable(config), load_tokenizer(require(config.model))
    if config.hardware.activation_checkpointing == "selective":
        enable_selective_activation_checkpointing(base)  # TRL would do it to PEFT's wrapper, which is never asked
    rows = all_rows(prepared / TRAIN).select_columns(COLUMNS)
    layout = Layout(
        rows=batch.micro_batch,
        length=_longest(rows),
        packing=config.train.packing,
        flat=is_flash_attention_requested(requested_attention_implementation=attention),
        pass_cost=CARD_PASS if on_gpu else CPU_PASS,
    )
    progress, stopping = Progress(ladder.report), Stopping(config.train, ladder.attempts)
    trainer = Trainer(
        **_model(config, base),
        layout=layout,
        loraplus_lr_ratio=config.train.loraplus_lr_ratio,
        trained_dtype=getattr(torch, config.hardware.trained_dtype),
        args=options,
        data_collator=Collator(tokenizer.pad_token_id),
        train_dataset=rows,
        eval_dataset=all_rows(prepared / HELD_OUT).select_columns(COLUMNS) if looking else None,
        look=looking,
        processing_class=tokenizer,
        callbacks=[stopping, Sealing(config.train, folder), progress],
    )
    prepare_start(trainer, config)
    return Assembly(trainer, progress, stopping)


def _longest(rows: Rows) -> int:
    """Tokens of the longest row, without reading one."""
    lengths = pyarrow.compute.list_value_length(rows.data.column("input_ids"))
    return int(pyarrow.compute.max(lengths).as_py())


def _model(config: Config, base: Any) -> dict[str, Any]:
    """The model that trains: a new adapter on the base, an earlier one that goes on, or the base itself."""
    if config.adapter == "none":
        return {"model": base}
    earlier = config.train.continue_from
    if earlier:
        return {"model": load_continued(base, in_folder(Path(earlier)), config.lora.lora_dropout)}
    return {"model": base, "peft_config": lora_config(config.lora, base)}
