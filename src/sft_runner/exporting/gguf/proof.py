"""The proof that a GGUF file holds the merged model: read back, its weights, logits and token ids are compared.

The weights are turned back by transformers' own reader of such files, not by the code that wrote them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.errors import StageFailed
from sft_runner.exporting.gguf import tokenizing, vocabulary
from sft_runner.exporting.gguf.weights import BLOCK
from sft_runner.model.rows import Rows, answer_positions

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = {"F32": (2**-23, 2**-126), "F16": (2**-11, 2**-14), "BF16": (2**-8, 2**-126)}
"""Largest error of a value as a share of itself, and the size below which it does not shrink: half a rounding step of
the 16-bit types, one of float32, in which Gemma's norms are shifted by 1."""
SCALE = 127
"""Steps from zero to the largest value of a block of q8_0, whose scale is stored in float16."""
LOGITS = {"f32": 1e-3, "f16": 0.02, "bf16": 0.05, "q8_0": 0.1}
"""Largest difference of logits, relative to the largest logit."""
POSITIONS = 64
"""Answer positions compared in one row."""


@dataclass(frozen=True)
class Proof:
    """How far the file is from the merged model."""

    tensors: int
    """Tensors compared."""
    weights: float
    """Largest error of a weight, as a share of what rounding to its type allows."""
    logits: float
    """Largest difference of logits, relative to the largest."""
    equal_greedy: float
    """Share of positions at which both would choose the same token."""
    prompts: int
    """Texts whose token ids are equal."""


def prove(path: Path, model: Path, kind: str, rows: Rows, read: Callable[[int], None]) -> Proof:
    """Compare a file with the model it was made from. Raises `StageFailed` where they differ; `read` is told of bytes.

    One model is in memory: its logits are taken first, then its weights are replaced by those of the file.
    """
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM

    reader: Any = GGUFReader(path)
    prompts = _same_ids(reader.fields, model, rows)
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    loaded.eval()
    expected = _logits(loaded, rows)
    with torch.no_grad():
        tensors, error = _replace(loaded, reader, path, read)
    found = _logits(loaded, rows)
    largest = max(float(one.abs().max()) for one in expected)
    relative = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True)) / largest
    same = [(a.argmax(-1) == b.argmax(-1)).float() for a, b in zip(expected, found, strict=True)]
    if not relative <= LOGITS[kind]:
        raise StageFailed(
            f"proof of the GGUF file: its logits differ from the merged model's by {relative:.2g} of the largest, "
            f"allowed for {kind} are {LOGITS[kind]:.2g}",
            "take another gguf.type, such as bf16",
        )
    return Proof(tensors, error, relative, float(torch.cat(same).mean()), prompts)


def _replace(loaded: Any, reader: Any, path: Path, read: Callable[[int], None]) -> tuple[int, float]:
    """Put the file's weights into the model; how many tensors, and their largest error as a share of what may be."""
    import torch
    from gguf import dequantize
    from transformers import modeling_gguf_pytorch_utils as reading

    arch = reader.fields["general.architecture"].contents()
    heads = {f"num_{whose}_heads": f"{arch}.attention.head_count{end}" for whose, end in _HEADS}
    config = {name: reader.fields[key].contents() for name, key in heads.items()}
    made: Any = reading.TENSOR_PROCESSORS.get(arch, reading.TensorProcessor)
    processor = made(config=config)
    names = reading.get_gguf_hf_weights_map(loaded, processor, model_type=arch)
    left = dict(loaded.named_parameters())
    worst = 0.0
    for tensor in reader.tensors:
        if tensor.name not in names:
            continue  # factors of positions, which are no weights
        values = dequantize(tensor.data, tensor.tensor_type)
        one = torch.from_numpy(processor.process(weights=values, name=tensor.name).weights.copy())
        parameter = left.pop(names[tensor.name])
        shifted = arch.startswith("gemma") and parameter.dim() == 1
        stored = tensor.tensor_type.name
        error = _error(one, parameter, stored, shifted)
        worst = max(worst, error)
        if not error <= 1:  # so that nan fails too
            raise StageFailed(
                f"proof of the GGUF file: {tensor.name} in {path.name} is not {names[tensor.name]} of the merged "
                f"model: a value differs by {error:.3g} times what rounding to {stored.lower()} allows",
                "this is a defect of the export; take gguf out of export",
            )
        parameter.copy_(one)
        read(tensor.n_bytes)
    if left:
        raise StageFailed(f"proof of the GGUF file: {path.name} lacks {', '.join(sorted(left)[:3])}")
    return len(reader.tensors), worst


_HEADS = (("attention", ""), ("key_value", "_kv"))


def _error(one: "Tensor", parameter: Any, kind: str, shifted: bool) -> float:
    """The largest difference as a share of what is allowed, in rows that stay below 100 MB."""
    import torch

    wide = parameter if parameter.dim() > 1 else parameter.unsqueeze(0)
    step = max(1, (1 << 24) // wide.shape[-1])
    given: Any = one.reshape(wide.shape)
    worst = [
        ((a.float() - b).abs() / _allowed(a.float(), kind, shifted)).max()
        for a, b in zip(wide.split(step), given.split(step), strict=True)
    ]
    return float(torch.stack(worst).max())


def _allowed(values: "Tensor", kind: str, shifted: bool) -> "Tensor":
    """How far each value may be off once it was rounded to a type; `shifted` ones had 1 added meanwhile."""
    size = values.abs()
    if kind == "Q8_0":
        step = size.reshape(-1, BLOCK).amax(1, keepdim=True) / SCALE
        share, smallest = ROUNDING["F16"]
        off = 0.501 * step + SCALE * share * step.clamp(min=smallest)  # of the value, and of the block's scale
        return off.expand(-1, BLOCK).reshape(values.shape)
    if shifted:
        size = size.maximum((values + 1).abs())
    share, smallest = ROUNDING[kind]
    return share * size.clamp(min=smallest)


def _logits(model: Any, rows: Rows) -> "list[Tensor]":
    import torch

    found = []
    for row in rows:
        keep = torch.tensor(answer_positions(row["labels"])[:POSITIONS])
        ids = torch.tensor([row["input_ids"]])
        with torch.inference_mode():
            found.append(model(input_ids=ids, logits_to_keep=keep, use_cache=False).logits[0].float())
    return found


def _same_ids(fields: Any, model: Path, rows: Rows) -> int:
    """The number of texts of which llama.cpp makes the ids that transformers makes. Raises `StageFailed`."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    written = vocabulary.read_back(fields)
    ids = tokenizing.tokenizer(written)
    texts = [str(tokenizer.decode(row["input_ids"], clean_up_tokenization_spaces=False)) for row in rows]
    texts += _hard(tokenizer)
    for text in texts:
        expected: Sequence[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        found = ids(text)
        if found != list(expected):
            place = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), len(found))
            raise StageFailed(
                f"proof of the GGUF file: llama.cpp would read other tokens than training did: token {place} of "
                f"{text[:60]!r} is {found[place : place + 1]}, not {list(expected[place : place + 1])}",
                "take gguf out of export",
            )
    return len(texts)


def _hard(tokenizer: Any) -> list[str]:
    """Chats of what tokenizers cut differently: digits, spaces, line ends, scripts, contractions, code."""
    contents = (
        "It's 3.14159, 1,000,000 and 2024-07-26; WE'LL see  what\n\n\n  happens\ttoday...\r\n",
        "Zürich, Ελλάδα, Москва, 日本語のテキスト, العربية, हिन्दी, 🙂👩‍👩‍👧",
        "def f(x):\n    return {'a': [x ** 2, \"b\"]}  # <tag> || && !=\n\t\tpass",
    )
    if not tokenizer.chat_template:
        return list(contents)
    chats = [[{"role": "user", "content": content}] for content in contents]
    return [tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in chats]
