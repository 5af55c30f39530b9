"""What a training measured: sizes, speed, memory, and how it ended."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from trl.trainer.utils import compute_flops_per_token, compute_mfu, get_peak_flops

from sft_runner.config.schema import Config
from sft_runner.hardware import Fit
from sft_runner.training.assembly import Assembly
from sft_runner.training.attempts import Attempts
from sft_runner.training.cadence import tenth
from sft_runner.training.ending import Ending
from sft_runner.training.looks import PREFIX, best, evaluated
from sft_runner.training.progress import peak_memory_gb
from sft_runner.training.trainer import Trainer


def metrics(made: Assembly, config: Config, attempts: Attempts, ending: Ending, batch: Fit) -> dict[str, Any]:
    """All numbers of a training that has ended."""
    trainer, state, metric = made.trainer, made.trainer.state, config.train.early_stopping.metric
    looked = best(evaluated(state.log_history), metric)
    return {
        "loss": final_loss(losses(trainer), ending.kept, tenth(ending.steps)),
        "steps": ending.step,
        "kept_step": ending.kept,
        "stopped_by": ending.stopped_by,
        "epochs": state.epoch,
        "tokens": int(state.num_input_tokens_seen),
        "seconds": round(attempts.seconds, 3),
        **_speed(made, config),
        **sizes(trainer, config),
        "micro_batch": batch.micro_batch,
        "accumulation": batch.accumulation,
        "rows_per_step": config.train.batch_size,
        "activation_checkpointing": config.hardware.activation_checkpointing,
        **_skipped(trainer),
        "out_of_memory": len(attempts.descents),
    } | ({"best": {"step": looked["step"], metric: looked[PREFIX + metric]}} if looked else {})


def losses(trainer: Trainer) -> list[dict[str, Any]]:
    """The logged losses, each the mean since the one before, as far as they are numbers."""
    return [entry for entry in trainer.state.log_history if math.isfinite(entry.get("loss", math.nan))]


def final_loss(logged: Sequence[Mapping[str, Any]], until: int, tenth: int) -> float:
    """The mean loss of the last steps up to a step: of a tenth of all steps, and of what is over since the last one.

    Each `tenth` steps there is a log entry, so the number is the same however often the trainer logs.
    """
    after = max((until - tenth) // tenth * tenth, 0)
    total = last = count = 0.0
    for entry in logged:
        steps = entry["step"] - max(last, after)
        if steps > 0 and entry["step"] <= until:
            total, count = total + steps * entry["loss"], count + steps
        last = entry["step"]
    return total / count if count else math.nan


def sizes(trainer: Trainer, config: Config) -> dict[str, Any]:
    """Parameters, those that train, and precisions: known before the first step."""
    model = trainer.model
    if config.adapter == "none":
        trainable, total = model.num_parameters(only_trainable=True), model.num_parameters()
        dtypes = {"model": _precisions(model), "arithmetic": config.hardware.dtype}
    else:
        trainable, total = model.get_nb_trainable_parameters()
        dtypes = {"base": _name(model.get_base_model().dtype), "adapter": _precisions(model)}
    return {"trainable_parameters": trainable, "total_parameters": total, "dtypes": dtypes}


def _speed(made: Assembly, config: Config) -> dict[str, Any]:
    """Tokens a second, the share of them that is not padding, peak memory, and on a card MFU: of this process.

    Of a process that made no step, as an earlier one had made all, only the memory.
    """
    trainer, progress, state = made.trainer, made.progress, made.trainer.state
    tokens = state.num_input_tokens_seen - progress.first_token
    rate = progress.tokens_per_second(state)
    steps = state.global_step - progress.first_step
    memory = {"peak_memory_gb": round(peak_memory_gb(), 3)}
    if not steps:
        return memory
    found = memory | {
        "tokens_per_second": round(rate, 1),
        "real_tokens": round(tokens / max(trainer.positions_seen, 1), 4),
        **({"looks_seconds": round(progress.looks_seconds, 3)} if progress.looks else {}),
    }
    peak = _peak_flops(config)
    length = round(tokens / steps / config.train.batch_size)
    share = mfu(trainer.model.config, rate, length, peak) if peak else None
    return found if share is None else found | {"mfu": share}


def told(sizes: dict[str, Any]) -> str:
    """What trains, in words."""
    dtypes, counts = sizes["dtypes"], (sizes["trainable_parameters"], sizes["total_parameters"])
    text = "{:,} of {:,} parameters train".format(*counts)
    if "adapter" in dtypes:
        return f"{text}, in {dtypes['adapter']} on a {dtypes['base']} base"
    return f"{text}, in {dtypes['model']} with {dtypes['arithmetic']} arithmetic"


def mfu(model: Any, tokens_per_second: float, length: int, peak_flops: float) -> float | None:
    """Model FLOPs utilisation in percent, as TRL counts it; None for a model whose shape TRL does not know.

    The FLOPs are those of training all weights, attention counted in full, so with frozen weights, which need no
    gradients, less is truly done. `model` is its configuration, `length` the mean length of its rows.
    """
    try:
        flops = compute_flops_per_token(model.get_text_config(), length)
    except (AttributeError, TypeError):
        return None
    return round(compute_mfu(flops, tokens_per_second, 1, peak_flops), 2)


def _skipped(trainer: Trainer) -> dict[str, int]:
    """Steps that changed nothing: with float16, those whose gradients overflowed.

    A schedule that moves at looks, not at steps, does not tell.
    """
    if not trainer.args.fp16 or trainer.lr_scheduler is None:
        return {"skipped_steps": 0}
    if trainer.args.lr_scheduler_type == "reduce_lr_on_plateau":
        return {}
    return {"skipped_steps": int(trainer.state.global_step - trainer.lr_scheduler.state_dict()["last_epoch"])}


def _peak_flops(config: Config) -> float | None:
    """What the card can do at best: the preset's figure, else TRL's for a card of this name; None on the CPU."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    if config.hardware.tflops:
        return config.hardware.tflops * 1e12
    found: float | None = get_peak_flops(torch.cuda.get_device_name(), config.hardware.dtype)
    return found


def _precisions(model: Any) -> str:
    return ", ".join(sorted({_name(weights.dtype) for weights in model.parameters() if weights.requires_grad}))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
