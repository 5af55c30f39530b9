"""Fields of transformers' `TrainingArguments` and TRL's `SFTConfig` that a file may hold and that nothing else took."""

from sft_runner.config.sft_fields import OWNED, sft_fields
from sft_runner.importing.draft import NO_EFFECT, NOT_CARRIED, Draft, notes
from sft_runner.importing.machine import ONE_PROCESS

_OLD = """
    overwrite_output_dir evaluation_strategy warmup_ratio logging_dir save_safetensors group_by_length torchdynamo
    include_tokens_per_second fp16_opt_level half_precision_backend bf16_opt no_cuda use_mps_device tpu_num_cores
    past_index adafactor jit_mode_eval use_ipex ray_scope push_to_hub_model_id push_to_hub_organization
    push_to_hub_token gradient_checkpointing_kwargs torch_dtype max_seq_length dataset_batch_size num_of_sequences
    chars_per_token use_liger local_rank fp16_backend sharded_ddp dispatch_batches split_batches eval_packing
    sortish_sampler predict_with_generate generation_max_length generation_num_beams generation_config
    train_sampling_strategy
"""
OLD = frozenset(_OLD.split())
"""Fields of earlier versions, and those of `Seq2SeqTrainingArguments`."""
LOST = notes(
    {
        "no code of a model runs unasked: model.trust_remote_code=OWNER/NAME@COMMIT": "trust_remote_code",
        "the model's own token is used": "eos_token pad_token",
        "the loss is the mean over the tokens of a step; there is no other": "loss_type",
        "rows are drawn by train.seed": "train_sampling_strategy",
        "no such thing here": "optim_target_modules model_init_kwargs parallelism_config adafactor torchdynamo",
        "answers are written by the stage evaluate: evaluate.metrics, evaluate.max_new_tokens": """
            predict_with_generate generation_max_length generation_num_beams generation_config""",
        "see data.template: a .jinja file": "chat_template_path",
    }
)
USUAL = {"loss_type": ("nll", "chunked_nll"), "train_sampling_strategy": ("random",)}
"""Fields of which some values are what is done here."""
SEED = 42
"""The seed of `TrainingArguments`."""
HARMLESS = notes(
    {
        "everything goes below output_dir, which is no part of a recipe; the same command resumes": """
            output_dir overwrite_output_dir resume_from_checkpoint logging_dir save_safetensors save_only_model""",
        "who is told is chosen with tracking=wandb, mlflow or tensorboard, on the command line or in conf/local": """
            report_to run_name project""",
        "nothing is uploaded: hand the model on with export=[adapter] or export=[safetensors]": """
            push_to_hub push_to_hub_model_id push_to_hub_organization push_to_hub_token""",
    }
)
_DISTRIBUTED = (
    "ddp_",
    "deepspeed",
    "fsdp",
    "local_rank",
    "parallelism",
    "accelerator",
    "sharded",
    "tpu",
    "dispatch",
    "split_b",
)


def known() -> frozenset[str]:
    """All of their names."""
    return sft_fields() | OLD


def rest(draft: Draft) -> None:
    """Every field that is left: what it is here, or that it is lost."""
    for key, usual in USUAL.items():
        if draft.value(key) in usual and draft.has(key):
            draft.told(NO_EFFECT, key, "as here")
    if draft.has("data_seed") and draft.number("data_seed") != draft.number("seed", SEED):
        draft.told(NOT_CARRIED, "data_seed", "the order of rows is drawn by train.seed, like everything in training")
    draft.table(NOT_CARRIED, LOST)
    draft.table(NO_EFFECT, HARMLESS)
    for key in [key for key in draft.pending if key in known()]:
        if key.startswith(_DISTRIBUTED):
            note = ONE_PROCESS
        elif owner := OWNED.get(key):
            note = f"here: {owner}" if owner.partition(".")[0] in ("data", "train", "hardware") else owner
        elif key.startswith("hub_"):
            note = "nothing is uploaded: hand the model on with export=[adapter] or export=[safetensors]"
        else:
            note = "changes nothing that is learned here"
        draft.told(NO_EFFECT, key, note)
