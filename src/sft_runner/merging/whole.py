"""A model as a whole: an adapter merged by PEFT with all of the model in memory, where the stream cannot do it, and the
weights that were trained themselves, made complete with all that belongs to the base besides.
"""

import time
from pathlib import Path
from typing import Any

from sft_runner.disk import explained
from sft_runner.errors import StageFailed
from sft_runner.merging import arithmetic, companions, loading
from sft_runner.merging.change import Change
from sft_runner.merging.loading import dtype_of


def merge(
    adapted: Any, base: Path, target: Path, rounding: Any = None, note: str = "", own_code: bool = False
) -> Change:
    """Merge the adapter of a model from `load_adapted` and write the whole model; `adapted` is used up.

    `rounding` is what `stream.merge` takes, `note` says why it was not used. Raises `StageFailed` where an adapter that
    is not zero leaves no trace or breaks the weights and where PEFT cannot do it, and `MachineError` where the disk is
    full.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import GenerationConfig

    from sft_runner.merging.rounding import round_in_place

    start = time.perf_counter()
    _untie(adapted)
    modules: dict[str, Any] = dict(adapted.get_base_model().named_modules())
    layers = {name: module for name, module in modules.items() if isinstance(module, BaseTunerLayer)}
    if rounding is not None:
        round_in_place(adapted, base, rounding, own_code)
    before = {_unwrapped(name): _digest(layer.get_base_layer()) for name, layer in layers.items()}
    trained = any(map(_acts, layers.values()))
    del modules, layers
    try:
        merged: Any = adapted.merge_and_unload(safe_merge=True)
    except torch.OutOfMemoryError:
        raise
    except loading.REFUSALS as error:
        raise arithmetic.failed(error, str(error)) from error
    changed = sum(_digest(merged.get_submodule(name)) != digest for name, digest in before.items())
    if trained and not changed:
        raise arithmetic.traceless(len(before), dtype_of(merged))
    # the base's own file is copied later; values that transformers loads but refuses to write must not stop here
    merged.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    with explained(target / "model.safetensors"):
        merged.save_pretrained(target)
    companions.carry(base, target, own_code)
    return Change(
        len(before),
        changed,
        dtype_of(merged),
        "peft",
        note,
        time.perf_counter() - start,
        companions.weight_bytes(target),
    )


def carry(trained: Path, base: Path, target: Path, own_code: bool = False) -> Change:
    """Make the model in `trained` complete with what belongs to the base.

    Its files are copied: behind a link, one who edits the exported model would edit what is cached of training too.
    `target` comes into being when it is complete. Raises `StageFailed` where no weight differs from the base's.
    """
    start = time.perf_counter()
    tensors, changed, dtype = _compared(trained, base)
    if not changed:
        raise StageFailed(
            f"training changed none of the {tensors} tensors: each update is smaller than one rounding step of {dtype}",
            "train longer or with a higher train.learning_rate",
        )
    with companions.beside(target) as aside:
        for file in trained.iterdir():
            companions.copy(file, aside / file.name)
        companions.carry(base, aside, own_code)
    seconds = time.perf_counter() - start
    return Change(tensors, changed, dtype, seconds=seconds, bytes=companions.weight_bytes(target))


def _untie(adapted: Any) -> None:
    """Give the head weights of its own where it shares the embedding's and one of the two has an adapter or a copy.

    Otherwise merging into the one would change the other as well, and only one would be written.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    model: Any = adapted.get_base_model()
    parts: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    if not any(isinstance(part, BaseTunerLayer | AuxiliaryTrainingWrapper) for part in parts):
        return
    plain: list[Any] = [part.get_base_layer() if isinstance(part, BaseTunerLayer) else part for part in parts]
    embedding, head = (getattr(part, "original_module", part) for part in plain)
    if embedding.weight is head.weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False


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
    return name.replace(".base_layer", "").removesuffix(".token_adapter")


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
