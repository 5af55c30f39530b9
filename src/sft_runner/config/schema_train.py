"""The part of the schema that is about training."""

from dataclasses import dataclass, field
from typing import Any

from sft_runner.config.setting import setting


@dataclass
class EarlyStopping:
    """Stop training where held-out rows no longer get better."""

    metric: str = setting("loss", neutral="loss")
    """What is watched on held-out rows: any metric that `sft-runner metrics` lists."""
    patience: int | None = setting(None, neutral=None, at_least=1)
    """Stop after so many looks without an improvement; open: never."""
    min_delta: float = setting(0.0, neutral=0.0, at_least=0)
    """An improvement is at least so large."""
    max_new_tokens: int | None = setting(None, neutral=None, at_least=1)
    """Longest answer at a look, in tokens, where answers are watched; open: `evaluate.max_new_tokens`."""
    pattern: str | None = setting(None, neutral=None)
    """The expression of the metric `pattern` at a look; open: `evaluate.pattern`."""


@dataclass
class Train:
    """The training run, in the words of TRL's `SFTConfig`."""

    learning_rate: float | None = setting(None, above=0)
    """Peak rate; open: the method's."""
    num_train_epochs: float = setting(3.0, at_least=0)
    """Passes over the rows."""
    max_steps: int = setting(-1, neutral=-1, at_least=-1)
    """Stop after so many optimizer steps; -1 leaves it to `num_train_epochs`."""
    batch_size: int = setting(16, at_least=1)
    """Rows for each optimizer step, whatever the machine."""
    packing: bool = setting(True, counts=False)
    """Rows of similar length share a forward and backward pass, so that there is hardly any padding; each step has the
    same rows either way."""
    lr_scheduler_type: str = "cosine"
    """Shape of the learning rate."""
    warmup_steps: float = setting(0.03, at_least=0)
    """Steps of rising rate; below 1 a share of all steps."""
    loraplus_lr_ratio: float | None = setting(None, neutral=None, at_least=1)
    """LoRA+: the rate of B as a multiple of `learning_rate`, which then is A's; open: one rate for both."""
    weight_decay: float = setting(0.0, at_least=0)
    """AdamW's decay."""
    max_grad_norm: float = setting(1.0, at_least=0)
    """Gradients are clipped to this norm."""
    seed: int = 42
    """Seed of row order, adapter start and dropout."""
    logging_steps: float = setting(10, counts=False, at_least=0)
    """Steps between two reports; below 1 a share of all steps."""
    save_steps: float = setting(0.1, counts=False, at_least=0)
    """Steps between two checkpoints; below 1 a share of all steps."""
    save_total_limit: int = setting(2, counts=False, at_least=1)
    """Checkpoints kept while training; they are removed once the adapter is complete."""
    continue_from: str | None = setting(None, neutral=None)
    """Train an earlier adapter further: a run folder, the name of a run, or a folder with a PEFT adapter. Its bytes
    count."""
    eval_steps: float | None = setting(None, neutral=None, at_least=0)
    """Steps between two looks at held-out rows while training, below 1 a share of all steps; open: none, or 0.1 where
    `early_stopping` or `load_best_model_at_end` needs them."""
    eval_rows: int = setting(100, neutral=100, at_least=1)
    """Held-out rows at such a look."""
    load_best_model_at_end: bool = setting(False, neutral=False)
    """Keep the adapter of the look that was best, not the last one."""
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    """When to stop before the last step."""
    max_hours: float | None = setting(None, neutral=None, above=0)
    """Stop after so many hours of training, attempts together, and keep what was learned."""
    on_divergence: str = setting("stop", neutral="stop", choices=("stop", "keep"))
    """Where the loss is no longer a number or leaps: `stop` fails the stage, `keep` ends it with the weights of the
    last good tenth."""
    extra: dict[str, Any] = setting({}, neutral={})
    """Other fields of TRL's `SFTConfig`, passed through."""
