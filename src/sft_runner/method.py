"""The training method that a run's settings amount to, and the learning rates that it is known to work with.

The method follows from the settings, not from the file that was chosen, so a `conf/method` file of the user's own has
the right rates too. The ranges hold for models of `SMALLEST` parameters and more: a tiny one takes far higher rates.
"""

import math
from dataclasses import dataclass

from sft_runner.config.schema import Config

SMALLEST = 100_000_000
"""Parameters of the smallest model that the evidence for the rates covers."""
ADAPTER_RATE = 2e-4
"""Peak rate of an adapter with one rate for A and B."""
BREADTH = 10.0
"""An adapter's rate may be so many times lower or higher than the default before a warning."""


@dataclass(frozen=True)
class Method:
    """A way to train, with its peak learning rates."""

    name: str
    """`lora`, `qlora`, `dora`, `lora_plus` or `full`."""
    learning_rate: float
    """Where `train.learning_rate` is open."""
    lowest: float
    """A lower rate hardly learns."""
    highest: float
    """A higher rate is likely to diverge or to forget."""
    evidence: str
    """Where the default comes from."""


def method_of(config: Config) -> Method:
    """The method of a configuration, open or settled."""
    ratio = config.train.loraplus_lr_ratio
    if config.adapter == "none":
        evidence = "the middle of the common 5e-6 to 2e-5 (Alpaca, Tulu 3)"
        return Method("full", 1e-5, 1e-6, 1e-4, evidence)
    if ratio is not None:
        evidence = f"A at this rate, B at {ratio:g} times it; their geometric mean is LoRA's {number(ADAPTER_RATE)}"
        return _adapter("lora_plus", ADAPTER_RATE / math.sqrt(ratio), evidence)
    if config.lora.use_dora:
        return _adapter("dora", ADAPTER_RATE, "DoRA paper (Liu et al. 2024), LLaMA-7B")
    name = "qlora" if config.quantization.bits == "4" else "lora"
    return _adapter(name, ADAPTER_RATE, "QLoRA paper (Dettmers et al. 2023), table 9, for models up to 13 B")


def number(rate: float) -> str:
    """A learning rate as people write it: `2e-4`."""
    digits, _, power = f"{rate:.3e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def _adapter(name: str, rate: float, evidence: str) -> Method:
    """A method that trains an adapter: its rate and a range around it."""
    return Method(name, rate, rate / BREADTH, rate * BREADTH, evidence)
