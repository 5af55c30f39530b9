"""The proof of the weights: each tensor of a merged model is the base's bit for bit, or the base's with the adapter.

It owes nothing to how the model was merged. PEFT's own layers, around one weight at a time, say what each must be.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.errors import StageFailed
from sft_runner.merging.rounding import Rounding
from sft_runner.merging.skeleton import Names, names, skeleton
from sft_runner.merging.tensors import Tensors

if TYPE_CHECKING:
    from torch import Tensor

STEPS_ALLOWED = {"bfloat16": 1.0, "float16": 1.0}
"""Rounding steps of its type by which a value may differ: half for the sum, half for the adapter's part before it."""
FINE_STEPS_ALLOWED = 16.0
"""The same in float32, where two sums of the same numbers in another order differ by so much."""
SLACK = 1e-3
"""Share of a step that the float32 arithmetic of this proof may be off."""
PIECE = 1 << 18
"""Values compared at once: few enough for a processor's cache."""


@dataclass
class Weights:
    """What was found about a model's tensors."""

    tensors: int = 0
    """How many there are."""
    changed: int = 0
    """How many differ from the base's as they are stored."""
    steps: float = 0.0
    """Largest distance of a value from what it must be, in rounding steps of its type."""
    converted: int = 0
    """How many transformers makes parameters of and that changed, such as experts: only the logits prove these."""


def verify_merged(
    base: Path,
    adapted: Any,
    merged: Path,
    rounding: Rounding | None = None,
    own_code: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Weights:
    """Compare the files of a merged model with the base's and an adapter from `skeleton.adapted`, which is used up.

    `rounding` is what the base was rounded by before the adapter was added, `report` is told how many tensors of how
    many are done. Raises `StageFailed` at the first tensor that is not what it must be.
    """
    comparison = _Comparison(base, merged, rounding, own_code)
    parameters = comparison.after.files
    done = 0
    for found in _expected(adapted, comparison):
        for parameter, (wanted, before) in found.items():
            comparison.check_sum(parameter, wanted, before)
        done += len(found)
        if report:
            report(done, len(parameters))
    for parameter in parameters.keys() - comparison.checked:
        comparison.check_same(parameter)
        done += 1
        if report:
            report(done, len(parameters))
    comparison.check_rest()
    return comparison.weights


def verify_copied(trained: Path, copied: Path, base: Path) -> Weights:
    """Compare the files of a model that was trained whole with those that training wrote, bit for bit.

    Raises `StageFailed` at the first tensor that differs.
    """
    before, after, start = (
        Tensors.of(folder, what)
        for folder, what in ((trained, "the trained model"), (copied, "the merged model"), (base, "the base"))
    )
    if others := sorted(set(before.names) ^ set(after.names)):
        raise _failure(others[0], "it is in only one of the trained and the merged model")
    found = Weights(len(after.names))
    for name in after.names:
        value = after[name]
        if not _same(value, before[name]):
            raise _failure(name, "it differs from what training wrote")
        found.changed += name not in start.of_files or not _same(value, start[name])
    return found


@dataclass
class _Comparison:
    """The two models' files, and what was found so far."""

    base: Path
    merged: Path
    rounding: Rounding | None
    own_code: bool
    weights: Weights = field(default_factory=Weights)
    checked: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.old, self.new = Tensors.of(self.base, "the base"), Tensors.of(self.merged, "the merged model")
        model = skeleton(self.base, self.own_code)
        tied: dict[str, str] = dict(model.all_tied_weights_keys)
        self.shared = tied | {source: target for target, source in tied.items()}
        self.before: Names = names(model, self.old.names)
        self.after: Names = names(model, self.new.names)

    def value(self, parameter: str) -> "Tensor":
        """A parameter of the base as the adapter is added to it, or of the one that it shares."""
        name = self.base_name(parameter)
        if name is None:
            raise _failure(parameter, "the base has no such tensor")
        value = self.old[name]
        return self.rounding.round(name, value) if self.rounding else value

    def base_name(self, parameter: str) -> str | None:
        """What the base's files call it."""
        files = self.before.files
        return files.get(parameter) or files.get(self.shared.get(parameter, ""))

    def is_shared(self, parameter: str) -> bool:
        """Whether the merged model has a parameter only under the name of the one that shares it."""
        files = self.after.files
        return parameter not in files and self.shared.get(parameter) in files

    def found(self, parameter: str) -> "Tensor":
        """A parameter of the merged model."""
        if parameter not in self.after.files:
            raise _failure(parameter, "it has an adapter, and the merged model has no tensor of its own for it")
        self.checked.add(parameter)
        return self.new[self.after.files[parameter]]

    def check_sum(self, parameter: str, wanted: "Tensor", before: "Tensor | None") -> None:
        """Compare with what PEFT's layer makes; `before` is the base's value, None where the adapter replaces it."""
        value = self.found(parameter)
        name = self.after.files[parameter]
        if value.shape != wanted.shape:
            raise _failure(name, f"its shape is {tuple(value.shape)}, not {tuple(wanted.shape)}")
        dtype = str(value.dtype).removeprefix("torch.")
        allowed = STEPS_ALLOWED.get(dtype, FINE_STEPS_ALLOWED)
        steps = _steps(value, wanted, wanted if before is None else before)
        if not steps <= allowed + SLACK:  # so that nan fails too
            raise _failure(
                name,
                f"it differs from base and adapter by {steps:.4g} rounding steps of {dtype}, {allowed:g} are allowed",
            )
        if before is None:
            self.replaced.add(parameter)
        self._count(parameter, value, steps)

    def check_same(self, parameter: str) -> None:
        """Compare one that has no adapter."""
        value, wanted = self.found(parameter), self.value(parameter)
        if not _same(value, wanted.to(value.dtype)):
            raise _failure(self.after.files[parameter], "it has no adapter and differs from the base's")
        self._count(parameter, value, 0.0)

    def check_rest(self) -> None:
        """Nothing of the base is lost, and what transformers converts is counted."""
        for parameter in sorted(self.before.files.keys() - self.after.files.keys()):
            if not self.is_shared(parameter):
                raise _failure(self.before.files[parameter], "the merged model lacks it")
        for parameter in sorted(self.changed & self.shared.keys() - self.replaced):
            if self.shared[parameter] not in self.after.files:
                raise _failure(parameter, "it changed, and the layer that shares it has no tensor of its own")
        for name in sorted({*self.before.converted, *self.after.converted}):
            both = name in self.old.of_files and name in self.new.of_files
            self.weights.tensors += 1
            self.weights.converted += not (both and _same(self.old[name], self.new[name]))

    def _count(self, parameter: str, value: "Tensor", steps: float) -> None:
        name = self.base_name(parameter)
        self.weights.tensors += 1
        self.weights.steps = max(self.weights.steps, steps)
        if name is None or not _same(value, self.old[name]):
            self.changed.add(parameter)
            self.weights.changed += 1


def _expected(adapted: Any, comparison: _Comparison) -> "Iterator[dict[str, tuple[Tensor, Tensor | None]]]":
    """For each layer that an adapter changes, parameter -> what it must be, and what it was."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    known: list[str] = []
    for path, module in adapted.get_base_model().named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in known)
        if inside or not isinstance(module, BaseTunerLayer | ModulesToSaveWrapper):
            continue
        known.append(path)
        name = path.removesuffix(".token_adapter")
        if isinstance(module, ModulesToSaveWrapper):
            saved = module.modules_to_save[module.active_adapters[0]]
            yield {f"{name}.{own}": (value.detach(), None) for own, value in saved.named_parameters()}
        elif any(f"{name}.{own}" in comparison.after.files for own in _own(module)):
            yield _merged(name, module, comparison)
    for name, value in adapted.get_base_model().named_parameters():  # an embedding that is saved beside the adapter
        beside = not value.is_meta and not any(name.startswith(f"{outer}.") for outer in known)
        if beside and not comparison.is_shared(name):
            yield {name: (value.detach(), None)}


def _own(layer: Any) -> list[str]:
    """The names of the parameters that a layer has itself."""
    return [name for name, _ in layer.get_base_layer().named_parameters(recurse=False)]


def _merged(name: str, layer: Any, comparison: _Comparison) -> "dict[str, tuple[Tensor, Tensor | None]]":
    """What PEFT makes of one layer's parameters, in float32 or finer."""
    import torch

    plain = layer.get_base_layer()
    before: dict[str, Tensor] = {}
    for own, place in list(plain.named_parameters(recurse=False)):
        value = comparison.value(f"{name}.{own}") if place.is_meta else place.detach()
        before[own] = value.to(torch.promote_types(value.dtype, torch.float32))
        plain.register_parameter(own, torch.nn.Parameter(before[own].clone(), requires_grad=False))
    with torch.no_grad():
        if hasattr(layer, "unload_and_optionally_merge_module"):
            plain = layer.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
        else:
            layer.merge()
    found: dict[str, tuple[Tensor, Tensor | None]] = {}
    for own, value in list(plain.named_parameters(recurse=False)):
        found[f"{name}.{own}"] = (value.detach(), before[own])
        plain.register_parameter(own, torch.nn.Parameter(value.detach().to("meta"), requires_grad=False))
    return found


def _steps(found: "Tensor", wanted: "Tensor", before: "Tensor") -> float:
    """The largest difference in rounding steps of `found`'s type, at the size of what was added up there.

    Where two large numbers leave a small one, a step is that of the large ones. What is correctly rounded counts as
    half a step, in the precision of this arithmetic as none.
    """
    import torch

    limits = torch.finfo(found.dtype)
    eps = max(limits.eps, torch.finfo(torch.float32).eps)
    largest = 0.0 if found.dtype == wanted.dtype else 0.5
    flat = [value.reshape(-1) for value in (found, wanted, before)]
    for first in range(0, len(flat[0]), PIECE):
        one, two, start = (value[first : first + PIECE] for value in flat)
        apart = one != two.to(one.dtype)  # so is nan
        if not apart.any():
            continue
        one, two, start = one[apart].to(two.dtype), two[apart], start[apart]
        scale = torch.maximum(torch.maximum(two.abs(), start.abs()), (two - start).abs()).clamp_(min=limits.tiny)
        step = torch.ldexp(torch.full_like(scale, eps), torch.frexp(scale).exponent - 1)
        worst = ((one - two).abs() / step).max().item()
        if not worst <= largest:  # so that nan stays
            largest = worst
    return largest


def _same(one: "Tensor", two: "Tensor") -> bool:
    """Whether two tensors have the same type, shape and bits."""
    import torch

    if one.dtype != two.dtype or one.shape != two.shape:
        return False
    if not one.numel():
        return True
    flat = [value.contiguous().reshape(-1).view(torch.uint8) for value in (one, two)]
    if one.nbytes % 8 == 0 and not any(value.storage_offset() % 8 for value in flat):
        flat = [value.view(torch.int64) for value in flat]  # eight times as fast
    return torch.equal(*flat)


def _failure(name: str, why: str) -> StageFailed:
    return StageFailed(
        f"proof of the weights: {name}: {why}",
        "the merged files are not what was trained: the disk or another program may have changed them; "
        "what was trained is untouched, run again with force=[merge]",
    )
