"""The model that training made, whole and in one folder: an adapter merged into the weights that it was made for, or
the weights that were trained themselves, with all that belongs to the base besides. `proof.py` proves it.
"""

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.disk import explained, read_json, write_json
from sft_runner.errors import StageFailed, UserError
from sft_runner.model.files import TOKENIZER_FILES

LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
"""Files that must go along with a model's weights."""
CHAT_TEMPLATE = "chat_template.jinja"
"""Where a model's folder has its chat template, and what `prepare` writes when it is another than the base's."""
ROOM = 1.3
"""Accelerator memory needed, as a multiple of the weights."""


@dataclass(frozen=True)
class Change:
    """What merging did to the weights."""

    adapted_modules: int
    """Modules that have an adapter; of a model that was trained whole, all its tensors."""
    changed_modules: int
    """How many of them differ from the base's."""
    merged_into: str
    """Precision of the base as it is stored, which the merged model keeps."""


def place(config: Config, base: Path) -> str:
    """Where to merge: the accelerator if the run has one and the unquantized base fits, else the CPU."""
    import torch

    if config.hardware.memory_gb <= 0 or not torch.cuda.is_available():
        return "cpu"
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    return "cuda:0" if torch.cuda.mem_get_info(0)[0] > ROOM * size else "cpu"


def load_adapted(base: Path, adapter: Path, device: str = "cpu", own_code: bool = False) -> Any:
    """The base in the precision it is stored in, with the adapter beside it."""
    from peft import PeftModel

    model = load_stored(base, device, own_code)
    with warnings.catch_warnings():
        # PEFT warns of an adapter on tied embeddings; `merge` unties them
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        adapted = PeftModel.from_pretrained(model, adapter)
    return adapted.eval()


def load_stored(folder: Path, device: str = "cpu", own_code: bool = False) -> Any:
    """A model as plain transformers loads it, in the precision it is stored in.

    `own_code`: whether the code of the model may run that it comes from.
    """
    from transformers import AutoModelForCausalLM

    if (read_json(folder / "config.json") or {}).get("quantization_config"):
        raise UserError(
            f"model.name: the weights in {folder} are stored quantized, an adapter cannot be merged into them",
            "name the 16-bit model and let quantization.bits quantize it for training, or end with stage=evaluate",
        )
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", use_safetensors=True, trust_remote_code=own_code
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
    before = {_unwrapped(name): _digest(layer.get_base_layer()) for name, layer in layers.items()}
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
            f"of {dtype_of(merged)}",
            "train longer or with a higher train.learning_rate",
        )
    # the base's own file is copied below; values that transformers loads but refuses to write must not stop here
    merged.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    merged.save_pretrained(target)
    _carry(base, target)
    return Change(len(before), changed, dtype_of(merged))


def carry(trained: Path, base: Path, target: Path) -> Change:
    """Make the model in `trained` complete with what belongs to the base.

    Its files are copied: behind a link, one who edits the exported model would edit what is cached of training too.
    Raises `StageFailed` where no weight differs from the base's.
    """
    target.mkdir(parents=True)
    for file in trained.iterdir():
        with explained(target / file.name):
            shutil.copyfile(file, target / file.name)
    _carry(base, target)
    tensors, changed, dtype = _compared(trained, base)
    if not changed:
        raise StageFailed(
            f"training changed none of the {tensors} tensors: each update is smaller than one rounding step of {dtype}",
            "train longer or with a higher train.learning_rate",
        )
    return Change(tensors, changed, dtype)


def set_chat_template(template: Path, target: Path) -> None:
    """Make a .jinja file the only chat template of the model in `target`: the one that it was trained with."""
    shutil.copyfile(template, target / CHAT_TEMPLATE)
    (target / "chat_template.json").unlink(missing_ok=True)
    settings = target / "tokenizer_config.json"
    if settings.is_file():
        values = json.loads(settings.read_text(encoding="utf-8"))
        if values.pop("chat_template", None) is not None:
            write_json(settings, values)


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


def _content(tensor: Any) -> tuple[Any, ...]:
    """Type, shape and a number that changes with any bit."""
    import torch

    return tensor.dtype, tuple(tensor.shape), int(torch.hash_tensor(tensor).view(torch.int64))


def _digest(module: Any) -> int:
    """A number that changes with any bit of a module's own weights; experts are two tensors in one module."""
    import torch

    own = (value for _, value in sorted(module.named_parameters(recurse=False)))
    return hash(tuple(int(torch.hash_tensor(value).view(torch.int64)) for value in own))


def _unwrapped(name: str) -> str:
    """A module's name once PEFT's layers around it are gone."""
    return name.replace(".base_layer", "")


def _compared(trained: Path, base: Path) -> tuple[int, int, str]:
    """Tensors of a trained model, how many differ from the base's, and their precision; one pair in memory."""
    import torch
    from safetensors import safe_open

    def opened(folder: Path) -> dict[str, Any]:
        files = (safe_open(path, "pt") for path in sorted(folder.glob("*.safetensors")))
        return {name: file for file in files for name in file.keys()}  # type: ignore[no-untyped-call] # noqa: SIM118

    after, before = opened(trained), opened(base)
    changed, dtypes = 0, set()
    # a family's files may name weights otherwise than transformers writes them
    known = {_content(before[name].get_tensor(name)) for name in before.keys() - after.keys()}
    for name, file in after.items():
        tensor = file.get_tensor(name)
        dtypes.add(str(tensor.dtype).removeprefix("torch."))
        if name in before:
            changed += not torch.equal(tensor, before[name].get_tensor(name).to(tensor.dtype))
        else:
            changed += _content(tensor) not in known
    return len(after), changed, ", ".join(sorted(dtypes))


def dtype_of(model: Any) -> str:
    """A model's precision, such as `bfloat16`."""
    return str(model.dtype).removeprefix("torch.")
