"""How long a run takes: from earlier runs of the same model on this machine, else roughly, from those of other models
or from the arithmetic of training."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from platform import node
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.cost.parameters import active, adapter_parameters, query_width
from sft_runner.cost.precision import trains_all
from sft_runner.model.architecture import Architecture

UTILISATION = 0.3
"""Share of a card's figure for matrix products that training reaches without compiled kernels, padding left out; 0.2
to 0.5 are common (PaLM's definition of model FLOPs utilisation, Chowdhery et al. 2022, appendix B)."""
QUANTISED = 0.7
"""What a quantised base leaves of that, for its weights are dequantised before each product."""
_Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """Seconds of one stage."""

    seconds: float
    """About so many."""
    measured: bool
    """Whether an earlier run of the same model on this machine tells them; else they are rough."""
    bound: bool = False
    """Whether it takes at most so many, for rows are not counted yet."""


def made_with(config: Config) -> dict[str, str]:
    """What a stage's time depends on besides its own settings, as manifests hold it under `made_with`."""
    path = Path(config.model.name).expanduser()
    model = str(path.resolve()) if path.is_dir() else config.model.name
    return {"model.name": model, "hardware.name": config.hardware.name}


def training_flops(config: Config, arch: Architecture, checkpointing: str) -> float:
    """Operations for each token that is trained on.

    Forward: 2 for each weight in a matrix product (Kaplan et al. 2020, 2.1), and for each of the tokens before it 4 for
    each value of a query, half of them on average. Backward: as many for the gradients of activations, and as many
    again for those of weights that train. Full checkpointing goes forward twice, selective does so but for attention.
    """
    products = 2.0 * active(arch)
    attention = 2.0 * config.data.max_length * query_width(arch) * arch.num_hidden_layers
    forward = products + attention
    again = {"none": 0.0, "selective": products, "full": forward}[checkpointing]
    if trains_all(config):
        return 3 * forward + again
    return 2 * forward + again + 6.0 * adapter_parameters(config.lora, arch)


def training_time(
    config: Config, arch: Architecture, checkpointing: str, tokens: float, earlier: Iterable[_Manifest]
) -> Estimate | None:
    """Seconds to train on `tokens`; None where neither an earlier run nor `hardware.tflops` tells.

    Earlier runs count where they ran on this machine and preset in the same precision with the same method. The speed
    of another model is scaled by the parameters, and rough.
    """
    runs = [manifest for manifest in earlier if _is_like(config, manifest)]
    runs.sort(key=lambda manifest: manifest["made_with"] != made_with(config))  # stable: the newest of each
    for manifest in runs:
        if speed := _speed(arch, manifest):
            return Estimate(tokens / speed, measured=manifest["made_with"] == made_with(config))
    reached = config.hardware.tflops * 1e12 * UTILISATION * (QUANTISED if config.quantization.bits != "none" else 1)
    if not reached:
        return None
    return Estimate(tokens * training_flops(config, arch, checkpointing) / reached, measured=False)


def stage_time(config: Config, settings: _Manifest, earlier: Iterable[_Manifest]) -> Estimate | None:
    """Seconds of a stage that is not training: what it took on this machine with the same model and preset. With other
    `settings` (those that it reads) or other data it is rough."""
    keys = ("config", "data")
    runs = [one for one in earlier if one.get("host") == node() and one.get("made_with") == made_with(config)]
    runs.sort(key=lambda one: any(one.get(key) != settings.get(key) for key in keys))  # stable: the newest of each
    if not runs:
        return None
    return Estimate(float(runs[0]["seconds"]), all(runs[0].get(key) == settings.get(key) for key in keys))


def told(seconds: float) -> str:
    """A time in words: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _is_like(config: Config, manifest: _Manifest) -> bool:
    """Whether an earlier training was one of the same kind on the same machine."""
    was, made = manifest.get("config", {}), manifest.get("made_with", {})
    same = {
        "hardware.dtype": config.hardware.dtype,
        "quantization.bits": config.quantization.bits,
        "adapter": config.adapter,
        "lora.use_dora": config.lora.use_dora,
    }
    neutral = {"adapter": "lora", "lora.use_dora": False}
    here = manifest.get("host") == node() and made.get("hardware.name") == config.hardware.name
    return here and all(was.get(key, neutral.get(key)) == value for key, value in same.items())


def _speed(arch: Architecture, manifest: _Manifest) -> float | None:
    """Tokens a second that an earlier training allows to expect of a model."""
    metrics = manifest.get("metrics", {})
    try:
        speed = float(metrics["tokens_per_second"]) * float(metrics["total_parameters"])
    except (KeyError, TypeError, ValueError):
        return None
    return speed / active(arch) if speed > 0 else None
