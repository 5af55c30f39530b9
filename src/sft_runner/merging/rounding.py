"""The weights of a base as training saw them, where bitsandbytes held it in 4 or 8 bits: quantized and back again.

Plain torch on the CPU, so that an adapter can be merged where there is neither bitsandbytes nor a card. The formulas
are those of bitsandbytes 0.50, whose results the tests compare bit for bit. Only what was quantized in training is
rounded: never an embedding, a norm, or the head.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BLOCK, NESTED_BLOCK = 64, 256
"""Weights that share a scale in NF4, and scales that share one of their own (double quantization)."""
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""The 16 values of a weight as a share of its block's scale (Dettmers et al. 2023, appendix E)."""
GRID = 65535
"""On the CPU bitsandbytes looks a scale's code up by its place among so many steps from -1 to 1, on a card it takes
the nearest code. For one block in 500 these are neighbours."""
PIECE = 1 << 22
"""Weights rounded at once, a multiple of every block: what is held besides the weight stays below 0.2 GB."""
SMALLEST = 1e-38
"""What the scale of a block of zeros is taken for."""


@dataclass(frozen=True)
class Rounding:
    """What quantization made of a base's linear layers."""

    layers: Mapping[str, bool]
    """Names of their weights in the base's files; whether one is stored transposed, as GPT-2's are."""
    bits: str
    """4 (NF4, double quantization) or 8 (LLM.int8)."""
    dtype: "torch.dtype"
    """What a weight is cast to before it is quantized, and the precision in which training saw it."""
    on_card: bool
    """Whether it trained on a card."""
    whole_blocks: bool = True
    """Whether each row of each weight is a number of blocks. Where one is not, the CPU kernel of bitsandbytes 0.50 for
    AVX-512 reads some blocks with the scales of others, so that training saw neither base."""

    def covers(self, name: str) -> bool:
        """Whether a tensor of the base's files was quantized in training."""
        return name in self.layers

    def round(self, name: str, weight: "Tensor") -> "Tensor":
        """A weight as training saw it, in the precision that it is stored in; one that is not covered unchanged."""
        if name not in self.layers:
            return weight
        turned = weight.T.contiguous() if self.layers[name] else weight
        seen = int8(turned, self.dtype) if self.bits == "8" else nf4(turned, self.dtype, self.on_card)
        seen = seen.to(weight.dtype)
        return seen.T.contiguous() if self.layers[name] else seen


def rounding(config: Config, base: Path, own_code: bool = False) -> Rounding | None:
    """How training rounded the base in folder `base`; None where it saw it as it is stored."""
    import torch

    from sft_runner.merging.skeleton import quantized_layers

    bits = config.quantization.bits
    if config.adapter == "none" or bits == "none":
        return None
    found = quantized_layers(config, base, own_code)
    layers = {name: layer.turned for name, layer in found.items()}
    whole = bits == "8" or not any(layer.inputs % BLOCK for layer in found.values())
    return Rounding(layers, bits, getattr(torch, config.hardware.dtype), config.hardware.memory_gb > 0, whole)


def round_in_place(adapted: Any, base: Path, rounding: Rounding, own_code: bool = False) -> None:
    """Make the base of a model from `load_adapted` what training saw of it, a tensor at a time."""
    from sft_runner.merging.skeleton import names, skeleton
    from sft_runner.merging.tensors import Tensors

    # an adapted layer has its own weight one level deeper
    model = adapted.get_base_model()
    values = {name.replace(".base_layer", ""): value for name, value in model.named_parameters()}
    files = names(skeleton(base, own_code), Tensors.of(base, "the base").names).files
    for parameter, name in files.items():
        if rounding.covers(name):
            values[parameter].data.copy_(rounding.round(name, values[parameter].data.cpu()))


def nf4(weight: "Tensor", dtype: "torch.dtype", on_card: bool = False) -> "Tensor":
    """A weight of any shape after NF4 with double quantization and back, in `dtype`."""
    import torch

    code = torch.tensor(NF4)
    bounds = (code[:-1] + code[1:]) / 2
    flat = weight.reshape(-1)
    scales = torch.cat([_largest(piece) for piece in _pieces(flat, dtype)])
    used = _nested(scales, on_card)
    found = torch.empty(flat.shape, dtype=dtype)
    done = 0
    for piece in _pieces(flat, dtype):
        place = slice(done // BLOCK, done // BLOCK + -(-len(piece) // BLOCK))
        whole = len(piece) - len(piece) % BLOCK
        shares = piece * (1 / scales[place].clamp(min=SMALLEST)).repeat_interleave(BLOCK)[: len(piece)]
        if whole < len(piece):  # the last block is short, and bitsandbytes divides there
            shares[whole:] = piece[whole:] / scales[place][-1].clamp(min=SMALLEST)
        nearest = torch.bucketize(shares.clamp_(-1, 1), bounds, out_int32=True)
        found[done : done + len(piece)] = code[nearest] * used[place].repeat_interleave(BLOCK)[: len(piece)]
        done += len(piece)
    return found.view(weight.shape)


def int8(weight: "Tensor", dtype: "torch.dtype") -> "Tensor":
    """A weight (outputs, inputs) after LLM.int8's row-wise rounding and back, in `dtype`.

    bitsandbytes casts to float16 first, whatever `dtype` is (Dettmers et al. 2022, section 2.1).
    """
    import torch

    found = torch.empty(weight.shape, dtype=dtype)
    rows = max(PIECE // max(weight.shape[-1], 1), 1)
    for first in range(0, len(weight), rows):
        part = weight[first : first + rows].to(dtype).half()
        scales = part.abs().amax(dim=1).float()[:, None]
        steps = torch.round(part * (127.0 / scales)).nan_to_num_(0.0)  # a row of zeros is 0 * inf
        found[first : first + rows] = steps * scales * 7.874015718698502e-3  # bitsandbytes' 1 / 127
    return found


def _pieces(flat: "Tensor", dtype: "torch.dtype") -> "Iterator[Tensor]":
    """Some weights at a time, cast as the loader casts them, then in float32."""
    for first in range(0, len(flat), PIECE):
        yield flat[first : first + PIECE].to(dtype).float()


def _largest(piece: "Tensor") -> "Tensor":
    """The largest absolute value of each block, the last of which may be short."""
    from torch.nn.functional import pad

    return pad(piece, (0, -len(piece) % BLOCK)).view(-1, BLOCK).abs().amax(dim=1)


def _nested(scales: "Tensor", on_card: bool) -> "Tensor":
    """Scales after 8-bit quantization around their mean and back."""
    import torch
    from torch.nn.functional import pad

    mean = scales.mean()
    rest = scales - mean
    blocks = pad(rest, (0, -len(rest) % NESTED_BLOCK)).view(-1, NESTED_BLOCK)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    shares = (blocks * (1 / largest)).nan_to_num_(0.0).clamp_(-1, 1)  # equal scales leave 0 * inf
    code = _dynamic_code()
    bounds = (code[:-1] + code[1:]) / 2
    if on_card:
        nearest = torch.bucketize(shares, bounds)
    else:
        table = torch.bucketize(torch.arange(GRID + 1) / GRID * 2 - 1, bounds)
        nearest = table[((shares + 1) * 0.5 * GRID + 0.5).long()]
    return (code[nearest] * largest).view(-1)[: len(rest)] + mean


def _dynamic_code() -> "Tensor":
    """The 256 values of 8-bit dynamic quantization, ascending (Dettmers et al. 2021, section 1.2)."""
    import torch

    values: list[float] = [0.0, 1.0]
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1)
        means = (edges[:-1] + edges[1:]) / 2
        power = 10 ** (exponent - 6)
        values += (power * means).tolist() + (-power * means).tolist()
    return torch.tensor(sorted(values))
