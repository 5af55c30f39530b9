"""An adapter merged into the weights that it was made for, and the proof that the result is the same model.

The proof compares logits on real rows: the base with the adapter beside it, against the merged model as it is read
back from disk by plain transformers. Never more than one model is in memory.
"""

import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.disk import write_json
from sft_runner.errors import StageFailed, UserError
from sft_runner.model.files import TOKENIZER_FILES
from sft_runner.model.rows import Rows, answer_positions

if TYPE_CHECKING:
    from torch import Tensor

LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
"""Files that must go along with a model's weights."""
CHAT_TEMPLATE = "chat_template.jinja"
"""Where a model's folder has its chat template, and what `prepare` writes when it is another than the base's."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.05}
"""Largest logit difference allowed, relative to the largest logit. In 16 bits the merged weights are rounded anew."""
POSITIONS = 256
"""Most answer positions compared in one row, so that the logits of 8 rows stay below 1 GB in 16 bits."""
ROOM = 1.3
"""Accelerator memory needed, as a multiple of the weights."""


@dataclass(frozen=True)
class Difference:
    """How far two models' logits are apart at the answers' positions."""

    max: float
    """Largest absolute difference of two logits."""
    mean: float
    """Mean absolute difference."""
    relative: float
    """Largest difference as a share of the largest absolute logit."""
    equal_greedy: float
    """Share of positions at which both would choose the same token."""


@dataclass(frozen=True)
class Change:
    """What merging did to the weights."""

    adapted_modules: int
    """Modules that have an adapter."""
    changed_modules: int
    """Modules whose weights differ after the merge."""
    merged_into: str
    """Precision of the base as it is stored, which the merged model keeps."""


def place(config: Config, base: Path) -> str:
    """Where to merge: the accelerator if the run has one and the unquantized base fits, else the CPU."""
    import torch

    if config.hardware.memory_gb <= 0 or not torch.cuda.is_available():
        return "cpu"
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    return "cuda:0" if torch.cuda.mem_get_info(0)[0] > ROOM * size else "cpu"


def load_adapted(base: Path, adapter: Path, device: str = "cpu") -> Any:
    """The base in the precision it is stored in, with the adapter beside it."""
    from peft import PeftModel

    model = load_stored(base, device)
    with warnings.catch_warnings():
        # PEFT warns of an adapter on tied embeddings; `merge` unties them
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        adapted = PeftModel.from_pretrained(model, adapter)
    return adapted.eval()


def load_stored(folder: Path, device: str = "cpu") -> Any:
    """A model as plain transformers loads it, in the precision it is stored in."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if getattr(AutoConfig.from_pretrained(folder), "quantization_config", None):
        raise UserError(
            f"model.name: the weights in {folder} are stored quantized, an adapter cannot be merged into them",
            "name the 16-bit model and let quantization.bits quantize it for training, or end with stage=evaluate",
        )
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", use_safetensors=True, trust_remote_code=False
    )
    return model.to(device).eval()


def merge(adapted: Any, base: Path, target: Path) -> Change:
    """Merge the adapter of a model from `load_adapted` and write the whole model; `adapted` is used up.

    Raises `StageFailed` where an adapter that is not zero leaves no trace, or breaks the weights.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import GenerationConfig

    _untie(adapted)
    modules: dict[str, Any] = dict(adapted.get_base_model().named_modules())
    layers = {name: module for name, module in modules.items() if isinstance(module, BaseTunerLayer)}
    before = {name: _digest(layer.get_base_layer()) for name, layer in layers.items()}
    trained = any(map(_acts, layers.values()))
    del modules, layers
    try:
        merged: Any = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:  # PEFT found values that are not finite
        raise StageFailed(
            f"the merged weights are not finite: {error}", "train again with a lower train.learning_rate"
        ) from error
    changed = sum(_digest(merged.get_submodule(name)) != digest for name, digest in before.items())
    if trained and not changed:
        raise StageFailed(
            f"merging changed none of the {len(before)} adapted modules: the adapter is smaller than one rounding step "
            f"of {_dtype(merged)}",
            "train longer or with a higher train.learning_rate",
        )
    # the base's own file is copied below; values that transformers loads but refuses to write must not stop here
    merged.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    merged.save_pretrained(target)
    _carry(base, target)
    return Change(len(before), changed, _dtype(merged))


def set_chat_template(template: Path, target: Path) -> None:
    """Make a .jinja file the only chat template of the model in `target`: the one that it was trained with."""
    shutil.copyfile(template, target / CHAT_TEMPLATE)
    (target / "chat_template.json").unlink(missing_ok=True)
    settings = target / "tokenizer_config.json"
    if settings.is_file():
        values = json.loads(settings.read_text(encoding="utf-8"))
        if values.pop("chat_template", None) is not None:
            write_json(settings, values)


def answer_logits(model: Any, rows: Rows) -> "list[Tensor]":
    """The logits at each row's answer tokens, on the CPU in the model's precision, one row at a time."""
    import torch

    found = []
    for row in rows:
        ids = torch.tensor([row["input_ids"]], dtype=torch.long, device=model.device)
        keep = torch.tensor(answer_positions(row["labels"])[:POSITIONS], dtype=torch.long, device=model.device)
        with torch.inference_mode():
            found.append(model(input_ids=ids, logits_to_keep=keep, use_cache=False).logits[0].cpu())
    return found


def verify(
    folder: Path, expected: "Sequence[Tensor]", rows: Rows, tolerance: float | None = None, device: str = "cpu"
) -> Difference:
    """Compare the model that lies in `folder` with `expected` logits. Raises `StageFailed` beyond the tolerance."""
    model = load_stored(folder, device)
    difference = compare(expected, answer_logits(model, rows))
    dtype = _dtype(model)
    allowed = TOLERANCE[dtype] if tolerance is None else tolerance
    if not difference.relative <= allowed:  # so that nan fails too
        raise StageFailed(
            f"the merged model is not the trained one: on {len(rows)} rows its logits differ by up to "
            f"{difference.max:.3g}, which is {difference.relative:.3g} of the largest logit "
            f"({allowed:g} is allowed in {dtype}); {difference.equal_greedy:.1%} of the greedy tokens are equal",
            "the adapter itself is untouched; merge.tolerance sets how much is allowed",
        )
    return difference


def compare(expected: "Sequence[Tensor]", found: "Sequence[Tensor]") -> Difference:
    """The difference over all rows, in float32, a row at a time."""
    largest = scale = total = 0.0
    equal = positions = values = 0
    finite = True
    for one, two in zip(expected, found, strict=True):
        gap = (one.float() - two.float()).abs()
        finite = finite and bool(gap.isfinite().all())
        largest, scale = max(largest, gap.max().item()), max(scale, one.float().abs().max().item())
        total, values = total + gap.double().sum().item(), values + gap.numel()
        equal, positions = equal + int((one.argmax(-1) == two.argmax(-1)).sum()), positions + len(one)
    if not finite:
        largest = total = float("nan")
    return Difference(largest, total / values, largest / scale if scale else largest, equal / positions)


def _untie(adapted: Any) -> None:
    """Give the head weights of its own where it shares the embedding's and one of the two has an adapter.

    Otherwise merging into the one would change the other as well.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    model: Any = adapted.get_base_model()
    parts: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    if not any(isinstance(part, BaseTunerLayer) for part in parts):
        return
    plain: list[Any] = [part.get_base_layer() if isinstance(part, BaseTunerLayer) else part for part in parts]
    embedding, head = plain
    if embedding.weight is head.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False


def _carry(base: Path, target: Path) -> None:
    """Copy what belongs to the model besides weights, byte for byte."""
    if not (base / "generation_config.json").is_file():
        (target / "generation_config.json").unlink(missing_ok=True)
    names = [base / name for name in TOKENIZER_FILES]
    for file in [*names, *(file for pattern in LICENCES for file in base.glob(pattern))]:
        if file.is_file():
            shutil.copyfile(file, target / file.name)


def _acts(layer: Any) -> bool:
    """Whether a layer's low-rank product can be anything but zero: PEFT starts one of the two factors at zero."""
    factors = [value for name, value in layer.named_parameters() if "lora_" in name and "magnitude" not in name]
    return all(bool(factor.any()) for factor in factors)


def _digest(module: Any) -> int:
    """A number that changes with any bit of a module's weights."""
    import torch

    return int(torch.hash_tensor(module.weight).view(torch.int64))


def _dtype(model: Any) -> str:
    return str(model.dtype).removeprefix("torch.")
