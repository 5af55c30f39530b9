"""What other programs call a setting, for the hint beside a key that does not exist."""

SYNONYMS = {
    "model.name": ("base_model", "model_name_or_path", "pretrained_model_name_or_path", "model_id", "checkpoint"),
    "model.trust_remote_code": ("remote_code",),
    "data.path": ("dataset", "datasets", "dataset_name", "dataset_path", "train_file", "data_files", "file"),
    "data.max_length": (
        *("max_seq_length", "max_seq_len", "sequence_len", "seq_len", "seq_length", "cutoff_len", "block_size"),
        *("context_length", "model_max_length", "max_tokens_per_row"),
    ),
    "data.limit": ("max_samples", "max_rows", "num_samples"),
    "data.held_out": ("val_set_size", "val_size", "test_size", "eval_split", "validation_split", "split"),
    "lora.r": ("rank", "lora_rank", "lora_r", "dim"),
    "lora.lora_alpha": ("alpha", "scale", "scaling"),
    "lora.lora_dropout": ("dropout",),
    "lora.target_modules": ("targets", "target", "modules", "lora_target", "lora_target_modules"),
    "lora.use_dora": ("dora",),
    "lora.use_rslora": ("rslora",),
    "lora.init_lora_weights": ("init", "init_weights", "pissa"),
    "quantization.bits": ("load_in_4bit", "load_in_8bit", "quantization_bit", "quant", "4bit", "8bit"),
    "train.learning_rate": ("lr", "rate"),
    "train.num_train_epochs": ("epochs", "epoch", "num_epochs", "n_epochs"),
    "train.max_steps": ("steps", "iters", "num_steps", "max_iters"),
    "train.batch_size": (
        *("batch", "bs", "gradient_accumulation_steps", "gradient_accumulation", "accumulation"),
        *("global_batch_size", "effective_batch_size"),
    ),
    "train.lr_scheduler_type": ("scheduler", "lr_scheduler", "schedule"),
    "train.warmup_steps": ("warmup", "warmup_ratio"),
    "train.max_grad_norm": ("clip", "grad_clip", "gradient_clipping", "max_norm"),
    "train.packing": ("sample_packing", "group_by_length"),
    "train.continue_from": ("resume", "resume_from", "adapter_name_or_path", "lora_model_dir"),
    "train.loraplus_lr_ratio": ("loraplus", "loraplus_ratio"),
    "train.early_stopping.patience": ("early_stopping_patience", "patience"),
    "train.max_hours": ("hours", "max_time", "time_limit"),
    "hardware.per_device_train_batch_size": ("micro_batch_size", "micro_batch", "device_batch_size"),
    "hardware.activation_checkpointing": ("gradient_checkpointing", "checkpointing"),
    "hardware.attn_implementation": ("flash_attention", "flash_attn", "attention", "attn"),
    "hardware.dtype": ("bf16", "fp16", "torch_dtype", "compute_dtype", "mixed_precision", "precision"),
    "hardware.optim": ("optimizer",),
    "hardware.memory_gb": ("memory", "vram"),
    "output_dir": ("output", "out", "out_dir"),
    "name": ("run_name",),
}
"""Key -> the last word of what it is called elsewhere."""


def meant(word: str) -> str | None:
    """The key that is called so elsewhere."""
    return next((key for key, words in SYNONYMS.items() if word in words), None)
