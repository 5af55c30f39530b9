"""Steps, rates, looks and checkpoints, which all three programs say in the words of `TrainingArguments`."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sft_runner.config.installed import names
from sft_runner.importing.draft import NO_EFFECT, NOT_CARRIED, Draft, as_number
from sft_runner.importing.packing import packed, packs

NUMBERS = {
    "learning_rate": "train.learning_rate",
    "weight_decay": "train.weight_decay",
    "max_grad_norm": "train.max_grad_norm",
    "seed": "train.seed",
    "logging_steps": "train.logging_steps",
}
"""Keys that mean here what they mean there."""
_KINDS: dict[str, tuple[type, ...]] = {"a number": (int, float), "a text": (str,), "a mapping": (dict,)}
EXTRA = {
    **dict.fromkeys(("neftune_noise_alpha", "adam_beta1", "adam_beta2", "adam_epsilon"), "a number"),
    **dict.fromkeys(("label_smoothing_factor", "router_aux_loss_coef"), "a number"),
    "optim_args": "a text",
    "lr_scheduler_kwargs": "a mapping",
}
"""Fields of `SFTConfig` that change what is learned and that no key of ours owns, and what each takes."""


@dataclass(frozen=True)
class Words:
    """What a program calls things, and what it takes where nothing is said."""

    epochs: str = "num_train_epochs"
    """Passes over the rows."""
    scheduler: str = "lr_scheduler_type"
    """Shape of the learning rate."""
    micro_batch: str = "per_device_train_batch_size"
    """Rows of one pass on one device."""
    whole_batch: str = ""
    """Rows of one device in a step; empty where only the passes are counted."""
    default_epochs: float = 3.0
    """Its epochs."""
    default_scheduler: str = "linear"
    """Its shape of the rate."""
    default_warmup: float = 0
    """Its warm-up steps; below 1 a share of all steps."""
    default_rate: float | None = 5e-5
    """Its learning rate; None where it must be said."""
    default_micro_batch: int = 8
    """Its rows of one pass."""
    looks: bool = False
    """Whether it looks at held-out rows without being told when."""


def training(draft: Draft, words: Words, devices: int) -> None:
    """Everything about the course of training."""
    for key, ours in NUMBERS.items():
        _number(draft, key, ours)
    if words.default_rate is not None:
        draft.assume("train.learning_rate", words.default_rate)
    _batch(draft, words, devices)
    _length(draft, words)
    _schedule(draft, words)
    _looks(draft, words)
    _checkpoints(draft, words)
    _best(draft)
    _extra(draft)
    if packs(draft):
        packed(draft)


def length(draft: Draft, default: int, *keys: str) -> None:
    """The longest row in tokens."""
    for key in keys:
        if draft.has(key):
            tokens = draft.number(key)
            if tokens and tokens >= 8:
                draft.carried(key, "data.max_length", int(tokens))
            else:
                draft.told(NOT_CARRIED, key, "is no number of tokens; set data.max_length")
    draft.assume("data.max_length", default)


def counted(number: float, one: str, many: str = "") -> str:
    """`1 device`, `2 devices`."""
    return f"{number:g} {one if number == 1 else many or one + 's'}"


def _number(draft: Draft, key: str, ours: str) -> None:
    if not draft.has(key):
        return
    value = as_number(draft.value(key))
    if value is None or (ours == "train.logging_steps" and value <= 0):
        draft.told(NOT_CARRIED, key, f"is no number that {ours} takes")
    else:
        draft.carried(key, ours, int(value) if ours == "train.seed" else value)


def _batch(draft: Draft, words: Words, devices: int) -> None:
    """Rows of a step: those of a pass, times the passes, times the devices."""
    micro = draft.number(words.micro_batch, words.default_micro_batch)
    passes = draft.number("gradient_accumulation_steps", 1)
    keys = [key for key in (words.micro_batch, "gradient_accumulation_steps") if draft.has(key)]
    if words.whole_batch and draft.has(words.whole_batch):
        rows = draft.number(words.whole_batch)
        if draft.value("gradient_accumulation_steps") is not None:
            draft.told(NO_EFFECT, words.whole_batch, "gradient_accumulation_steps goes before it")
        else:
            keys.append(words.whole_batch)
            passes = rows // micro if rows and micro and micro >= 1 else None
    if micro is None or passes is None or micro < 1 or passes < 1:
        for key in keys:
            draft.told(NOT_CARRIED, key, "is no number of rows; set train.batch_size")
        return
    note = f"{micro:g} a pass x {counted(passes, 'pass', 'passes')} x {counted(devices, 'device')}"
    if packs(draft):
        note += ", of packs of rows there"
    if devices == 1:
        note += "; --devices N counts more of them"
    rows = int(micro * passes * devices)
    if not keys:
        draft.assume("train.batch_size", rows, f"the default of {draft.program}: {note}")
    for key in keys:
        draft.changed(key, "train.batch_size", rows, note)


def _length(draft: Draft, words: Words) -> None:
    """How long: steps go before epochs, here as there."""
    steps = draft.number("max_steps", -1)
    if draft.has("max_steps"):
        if steps is not None and steps >= 1:
            draft.carried("max_steps", "train.max_steps", int(steps))
        else:
            draft.told(NO_EFFECT, "max_steps", "off: epochs say how long")
    epochs = draft.number(words.epochs)
    if draft.has(words.epochs):
        if epochs is not None and epochs > 0:
            draft.carried(words.epochs, "train.num_train_epochs", epochs)
        else:
            draft.told(NOT_CARRIED, words.epochs, "is no number of passes; set train.num_train_epochs")
    if "train.max_steps" not in draft.settings:
        draft.assume("train.num_train_epochs", words.default_epochs)


def _schedule(draft: Draft, words: Words) -> None:
    """The shape of the rate, and how it rises."""
    shape = draft.value(words.scheduler)
    if draft.has(words.scheduler):
        if isinstance(shape, str) and shape in names("train.lr_scheduler_type"):
            draft.carried(words.scheduler, "train.lr_scheduler_type", shape)
        else:
            known = "cosine, linear, constant, cosine_with_min_lr"
            draft.told(NOT_CARRIED, words.scheduler, f"no such shape here, cosine is taken; others: {known}")
            draft.settings["train.lr_scheduler_type"] = "cosine"
            if draft.has("lr_scheduler_kwargs"):
                draft.told(NOT_CARRIED, "lr_scheduler_kwargs", f"belongs to {words.scheduler}: {shape}")
    draft.assume("train.lr_scheduler_type", words.default_scheduler)
    steps, share = draft.number("warmup_steps"), draft.number("warmup_ratio")
    if draft.has("warmup_steps"):
        if steps is None or steps < 0:
            draft.told(NOT_CARRIED, "warmup_steps", "is no number of steps; set train.warmup_steps")
        elif steps == 0 and share:
            draft.told(NO_EFFECT, "warmup_steps", "0: warmup_ratio says it")
        else:
            draft.carried("warmup_steps", "train.warmup_steps", steps)
    if draft.has("warmup_ratio"):
        if "train.warmup_steps" in draft.settings:
            draft.told(NO_EFFECT, "warmup_ratio", "warmup_steps goes before it")
        elif share is None or not 0 <= share < 1:
            draft.told(NOT_CARRIED, "warmup_ratio", "is no share below 1; set train.warmup_steps")
        else:
            draft.changed("warmup_ratio", "train.warmup_steps", share, "below 1 it is a share of all steps")
    draft.assume("train.warmup_steps", words.default_warmup)


def _looks(draft: Draft, words: Words) -> None:
    """Looks at held-out rows while training."""
    strategy_key = "eval_strategy" if draft.value("eval_strategy") is not None else "evaluation_strategy"
    said = draft.value(strategy_key)
    strategy = str(said if said is not None else "steps" if words.looks else "no")
    strategy = "no" if strategy.lower() in ("no", "false") else strategy
    steps, per_epoch = draft.number("eval_steps"), draft.number("evals_per_epoch")
    if draft.has("evals_per_epoch"):
        _share(draft, "evals_per_epoch", "train.eval_steps", per_epoch, words)
    if draft.has("eval_steps"):
        if strategy != "steps":
            draft.told(NO_EFFECT, "eval_steps", f"without effect there: {strategy_key} is {strategy}")
        elif steps is None or steps <= 0:
            draft.told(NOT_CARRIED, "eval_steps", "is no number of steps; set train.eval_steps")
        else:
            draft.carried("eval_steps", "train.eval_steps", steps)
    for key in ("eval_strategy", "evaluation_strategy"):
        if not draft.has(key):
            continue
        if strategy == "epoch":
            _share(draft, key, "train.eval_steps", 1, words)
        else:
            draft.told(NO_EFFECT, key, "train.eval_steps says how often; open: no looks while training")


def _checkpoints(draft: Draft, words: Words) -> None:
    """Checkpoints, of which there are ten where nothing is said."""
    strategy = str(draft.value("save_strategy", "steps"))
    steps = draft.number("save_steps")
    if draft.has("saves_per_epoch"):
        _share(draft, "saves_per_epoch", "train.save_steps", draft.number("saves_per_epoch"), words)
    if draft.has("save_steps"):
        if strategy != "steps" or steps is None or steps <= 0:
            draft.told(NO_EFFECT, "save_steps", "there are ten checkpoints; train.save_steps says otherwise")
        else:
            draft.carried("save_steps", "train.save_steps", steps)
    if draft.has("save_strategy"):
        if strategy == "epoch":
            _share(draft, "save_strategy", "train.save_steps", 1, words)
        else:
            draft.told(NO_EFFECT, "save_strategy", "train.save_steps says how often; a killed run goes on from them")
    if draft.has("save_total_limit"):
        limit = draft.number("save_total_limit")
        if limit is None or limit < 1:
            draft.told(NO_EFFECT, "save_total_limit", "checkpoints are removed once the weights are complete")
        else:
            draft.carried("save_total_limit", "train.save_total_limit", int(limit))


def _share(draft: Draft, key: str, ours: str, times: float | None, words: Words) -> None:
    """So many times in an epoch, as a share of all steps."""
    epochs = draft.settings.get("train.num_train_epochs", words.default_epochs)
    if ours in draft.settings:
        draft.told(NO_EFFECT, key, f"{ours} is said by another key")
    elif not times or times < 0:
        draft.told(NO_EFFECT, key, "off")
    elif "train.max_steps" in draft.settings:
        draft.told(NOT_CARRIED, key, f"with max_steps the steps of an epoch are not known; set {ours}")
    elif times * epochs <= 1:
        draft.told(NO_EFFECT, key, "once at the end, which is done anyway")
    else:
        draft.changed(
            key, ours, round(1 / (times * epochs), 6), f"{times:g} in each of {counted(epochs, 'epoch')}, as a share"
        )


def _best(draft: Draft) -> None:
    """Early stopping, and which weights are kept."""
    patience_key = "early_stopping_steps" if draft.has("early_stopping_steps") else "early_stopping_patience"
    patience = draft.number(patience_key)
    if draft.has(patience_key):
        if patience is None or patience < 1:
            draft.told(NO_EFFECT, patience_key, "off, as here")
        else:
            draft.carried(patience_key, "train.early_stopping.patience", int(patience))
    if draft.has("load_best_model_at_end"):
        draft.carried("load_best_model_at_end", "train.load_best_model_at_end", draft.flag("load_best_model_at_end"))
    if draft.has("metric_for_best_model"):
        if draft.value("metric_for_best_model") in ("loss", "eval_loss"):
            draft.carried("metric_for_best_model", "train.early_stopping.metric", "loss")
        else:
            hint = "the loss is watched; train.early_stopping.metric takes those of `sft-runner metrics`"
            draft.told(NOT_CARRIED, "metric_for_best_model", hint)
    if draft.has("greater_is_better"):
        draft.told(NO_EFFECT, "greater_is_better", "known of each metric")


def _extra(draft: Draft) -> None:
    """Fields of `SFTConfig` that are passed through."""
    for key, kind in EXTRA.items():
        if not draft.has(key):
            continue
        said = draft.value(key)
        value: Any = as_number(said) if kind == "a number" else said
        if kind == "a text" and isinstance(said, dict):  # as axolotl takes it
            value = ",".join(f"{name}={inner}" for name, inner in said.items())
        if kind == "a mapping":
            value = _mapping(said)
            if isinstance(value, dict) and value:  # what another key says of it stays
                value = value | draft.settings.get(f"train.extra.{key}", {})
        if value == {}:
            draft.told(NO_EFFECT, key, "empty")
        elif not isinstance(value, _KINDS[kind]):
            draft.told(NOT_CARRIED, key, f"is not {kind}; see train.extra")
        elif key == "neftune_noise_alpha" and (as_number(value) or 0) <= 0:
            draft.told(NO_EFFECT, key, "off, as here")
        else:
            draft.carried(key, f"train.extra.{key}", value)


def _mapping(said: Any) -> Any:
    """A mapping that may stand there as JSON, as transformers takes it too."""
    if isinstance(said, str):
        with suppress(ValueError, RecursionError):
            return json.loads(said)
    return said
