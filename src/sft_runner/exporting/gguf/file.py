"""Writing the file, tensor by tensor, in the memory of a few rows."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_runner.disk import explained
from sft_runner.exporting.gguf import vocabulary as vocabularies
from sft_runner.exporting.gguf.families import check
from sft_runner.exporting.gguf.metadata import describe, extra_tensors, limits
from sft_runner.exporting.gguf.weights import Weight, ggml_type, rows, weights

FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
"""What a file calls the type of most of its weights."""


def configuration(model: Path) -> dict[str, Any]:
    """A model's config.json with all that its family's class has as a default."""
    from transformers import AutoConfig

    found: dict[str, Any] = AutoConfig.from_pretrained(model).to_dict()
    return found


def kind_of(found: Sequence[Weight]) -> str:
    """The type of most weights."""
    wide = [weight.kind for weight in found if len(weight.shape) > 1]
    return Counter(wide).most_common(1)[0][0]


def planned(model: Path, kind: str) -> list[Weight]:
    """The tensors that a file of a model will have. Raises `UserError` where llama.cpp would compute another model."""
    config = configuration(model)
    return weights(model, config, check(config), kind)


def write(model: Path, target: Path, name: str, found: Sequence[Weight], wrote: Callable[[int], None]) -> list[str]:
    """Write the file `target` of the tensors in `found`; `wrote` is told of bytes. Returns what a person should know.

    Raises `UserError` for a tokenizer that has no place in it, and `MachineError` where the disk is full.
    """
    import gguf

    config = configuration(model)
    family = check(config)
    size = next(weight.shape[0] for weight in found if weight.name == "token_embd.weight")
    vocabulary = vocabularies.read(model, size)
    writer = _writer()(target, family.arch)
    describe(writer, config, family, vocabularies.name_for(name, vocabulary), size)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[kind_of(found)]])
    vocabularies.write(vocabulary, writer)
    _write(writer, target, config, found, wrote)
    return [*limits(config, family), *vocabularies.limits(vocabulary)]


def _write(
    writer: Any, target: Path, config: Mapping[str, Any], found: Sequence[Weight], wrote: Callable[[int], None]
) -> None:
    import numpy as np

    family = check(config)
    extra = extra_tensors(config)
    for name, values in extra.items():
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    for weight in found:
        # with an element type that is none of bytes the shape is taken as it is
        writer.add_tensor_info(weight.name, weight.shape, np.float32, weight.size, raw_dtype=ggml_type(weight.kind))
    with explained(target):
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            (file,) = writer.fout
            writer.write_padding(file, file.tell())
            for values in extra.values():
                file.write(values.tobytes())
                writer.write_padding(file, values.nbytes)
            for weight in found:
                for part in rows(weight, config, family):
                    file.write(part.data)
                    wrote(part.nbytes)
                writer.write_padding(file, weight.size)
            file.flush()
            os.fsync(file.fileno())
        finally:
            _close(writer)


def _close(writer: Any) -> None:
    """Close the file; what a full disk has not taken is lost with the stage's folder."""
    for file in writer.fout or ():
        try:
            file.close()
        except OSError:
            continue
    writer.fout = None


def _writer() -> Any:
    """The package's writer, which also takes an empty list: llama.cpp wants merges even where there are none."""
    import gguf

    class Writer(gguf.GGUFWriter):
        def _pack_val(self, val: Any, vtype: Any, add_vtype: bool, sub_type: Any = None) -> bytes:
            if vtype == gguf.GGUFValueType.ARRAY and not val:
                return bytes(self._pack("I", vtype) + self._pack("I", sub_type) + self._pack("Q", 0))
            return bytes(super()._pack_val(val, vtype, add_vtype, sub_type))

    return Writer
