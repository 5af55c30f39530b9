"""A trainer put together from a settled run: base, adapter, prepared rows, and who follows its progress."""

from pathlib import Path

from transformers.utils.generic import is_flash_attention_requested

from sft_runner.config.schema import Config
from sft_runner.data.prepared import TRAIN
from sft_runner.hardware import Fit
from sft_runner.model.adapters import lora_config
from sft_runner.model.files import require
from sft_runner.model.loading import device, load_base, load_tokenizer
from sft_runner.model.packs import PackCollator, packs
from sft_runner.model.rows import all_rows
from sft_runner.stages.stage import Report
from sft_runner.training.arguments import arguments
from sft_runner.training.progress import Progress
from sft_runner.training.trainer import Trainer


def build(config: Config, batch: Fit, prepared: Path, folder: Path, report: Report) -> tuple[Trainer, Progress]:
    """A trainer over prepared rows or packs that keeps its checkpoints in `folder`, and what follows its progress."""
    base, tokenizer = load_base(config), load_tokenizer(require(config.model))
    progress = Progress(report, folder, config.train.save_total_limit)
    if config.train.packing:
        rows = packs(prepared)
        flat = is_flash_attention_requested(requested_attention_implementation=config.hardware.attn_implementation)
        collator = PackCollator(tokenizer.pad_token_id, flat)
    else:
        rows = all_rows(prepared / TRAIN).select_columns(["input_ids", "labels"])
        collator = None  # TRL's own
    trainer = Trainer(
        model=base,
        args=arguments(config, batch, folder, on_gpu=device(config) != "cpu"),
        data_collator=collator,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=lora_config(config.lora, base),
        callbacks=[progress],
    )
    return trainer, progress
