"""GGUF files: what is written is read back by transformers, by its own reader, and answers as the model does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import export_tokenizers
from export_tokenizers import SAID
from random_models import SHAPE, make_rows, tokenizer
from sft_runner.errors import StageFailed, UserError
from sft_runner.exporting.gguf import families, file, metadata, proof, tokenizing, vocabulary
from sft_runner.exporting.gguf.cutting import PRE_TOKENIZERS

LAYERS = ["sliding_attention", "full_attention"]
LLAMA_3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA_3["original_max_position_embeddings"] = 64
OWN: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"head_dim": 16, "sliding_window": None},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 16},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8, "layer_types": LAYERS},
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8, "layer_types": LAYERS[:1] * 2},
    "phi3": {"sliding_window": None},
}
"""What the families' models have besides a small shape."""
ROWS = make_rows([("What is it? " * (i + 1), "abc" * (i + 1)) for i in range(3)])


def write_model(folder: Path, model_type: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """A random model of a family; norms differ from 1, or nothing would show where they go."""
    torch.manual_seed(0)
    tied = model_type.startswith("gemma")
    values = {**SHAPE, "tie_word_embeddings": tied, "eos_token_id": 259, "pad_token_id": 256, "bos_token_id": None}
    config = AutoConfig.for_model(model_type, **{**values, **OWN[model_type], **changes})
    model: Any = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter.data, mean=0.0 if tied else 1.0, std=0.3)
    model.to(dtype).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def export(folder: Path, kind: str = "auto") -> tuple[Path, str]:
    """The file made of a model, and the type of its weights."""
    found = file.planned(folder, kind)
    path = folder / "made.gguf"
    file.write(folder, path, "made", found, lambda _: None)
    return path, file.kind_of(found)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([ROWS[2]["input_ids"]])).logits
    return found


@pytest.mark.parametrize("model_type", OWN)
def test_each_family_is_proven(tmp_path: Path, model_type: str) -> None:
    path, kind = export(write_model(tmp_path, model_type))
    found = proof.prove(path, tmp_path, kind, ROWS, lambda _: None)
    assert kind == "f32"
    assert found.weights <= (1 if model_type.startswith("gemma") else 0)
    assert found.logits <= 1e-5
    assert found.equal_greedy == 1
    assert found.prompts == len(ROWS) + 3


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "phi3"])
def test_transformers_loads_it_as_a_model_of_its_own(tmp_path: Path, model_type: str) -> None:
    """Here the shape, too, comes from the file alone."""
    # of what transformers does not read from such files it takes its defaults
    unread = {"llama": {"attention_bias": False, "mlp_bias": False}, "qwen3": {"head_dim": 128}}
    path, _ = export(write_model(tmp_path, model_type, **unread.get(model_type, {})))
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name)
    expected = logits(AutoModelForCausalLM.from_pretrained(tmp_path))
    assert torch.allclose(logits(read), expected, atol=1e-4)
    text = "<|im_start|>user\nZürich<|im_end|>\n"
    from_file = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    assert from_file(text)["input_ids"] == tokenizer()(text)["input_ids"]


@pytest.mark.parametrize(("kind", "bytes_per_weight"), [("f16", 2), ("bf16", 2), ("q8_0", 34 / 32)])
def test_other_types_are_smaller_and_near(tmp_path: Path, kind: str, bytes_per_weight: float) -> None:
    full = export(write_model(tmp_path, "llama"))[0].stat().st_size
    path, found = export(tmp_path, kind)
    proven = proof.prove(path, tmp_path, found, ROWS, lambda _: None)
    assert found == kind
    assert 0.5 < proven.weights <= 1
    assert path.stat().st_size < full * (bytes_per_weight / 4 + 0.25)  # the vocabulary and norms stay whole


def test_auto_keeps_sixteen_bits_exactly(tmp_path: Path) -> None:
    path, kind = export(write_model(tmp_path, "llama", torch.bfloat16))
    assert kind == "bf16"
    assert proof.prove(path, tmp_path, kind, ROWS, lambda _: None).weights == 0


def test_a_changed_weight_is_found(tmp_path: Path) -> None:
    path, kind = export(write_model(tmp_path, "llama"))
    tensor = next(one for one in GGUFReader(path).tensors if one.name == "blk.1.ffn_up.weight")
    content = bytearray(path.read_bytes())
    values = torch.frombuffer(content, dtype=torch.float32, count=tensor.n_elements, offset=int(tensor.data_offset))
    values *= 1.01
    path.write_bytes(content)
    with pytest.raises(StageFailed, match=r"blk\.1\.ffn_up\.weight .* is not model\.layers\.1\.mlp\.up_proj\.weight"):
        proof.prove(path, tmp_path, kind, ROWS, lambda _: None)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_small_weights_are_found_beside_a_large_one(tmp_path: Path, kind: str) -> None:
    folder = write_model(tmp_path, "llama")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = 100
    model.save_pretrained(folder)
    path, kind = export(folder, kind)
    tensor = next(one for one in GGUFReader(path).tensors if one.name == "blk.1.ffn_up.weight")
    content = bytearray(path.read_bytes())
    row = tensor.n_bytes // len(tensor.data)
    content[tensor.data_offset + row : tensor.data_offset + tensor.n_bytes] = bytes(tensor.n_bytes - row)
    path.write_bytes(content)
    with pytest.raises(StageFailed, match=rf"blk\.1\.ffn_up\.weight .* times what rounding to {kind} allows"):
        proof.prove(path, tmp_path, kind, ROWS, lambda _: None)


def test_another_tokenizer_is_found(tmp_path: Path) -> None:
    path, kind = export(write_model(tmp_path, "llama"))
    text = (tmp_path / "tokenizer.json").read_text()
    values = json.loads(text)
    vocab = values["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(StageFailed, match="llama.cpp would read other tokens than training did"):
        proof.prove(path, tmp_path, kind, ROWS, lambda _: None)


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "llama")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers[0].mlp.up_proj.weight.data[3, 4] = 1e5
    model.save_pretrained(folder)
    with pytest.raises(StageFailed, match="up_proj.weight has values that float16 cannot hold") as failed:
        export(folder, "f16")
    assert "bf16" in failed.value.hint


@pytest.mark.parametrize(
    ("model_type", "changes", "why"),
    [
        ("gemma2", {"query_pre_attn_scalar": 256}, "query_pre_attn_scalar=256, not 8"),
        ("gemma2", {"tie_word_embeddings": False}, "its head has weights of its own"),
        ("gemma2", {"layer_types": LAYERS[::-1]}, "not every 2. layer"),
        ("llama", {"hidden_act": "gelu"}, "its activation is gelu"),
        (
            "qwen2",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "of the kind dynamic",
        ),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8}, "sliding window"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    tmp_path: Path, model_type: str, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(UserError, match="gguf cannot hold this model") as failed:
        export(write_model(tmp_path, model_type, **changes))
    assert why in failed.value.message
    assert "convert_hf_to_gguf.py" in failed.value.hint


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="family 'gpt2', only llama, mistral, qwen2") as failed:
        families.family("gpt2")
    assert "convert_hf_to_gguf.py" in failed.value.hint


def test_llama_3_positions_are_those_of_transformers(tmp_path: Path) -> None:
    path, _ = export(write_model(tmp_path, "llama", rope_parameters=LLAMA_3, head_dim=32))
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    plain = 1e4 ** -(torch.arange(0, 32, 2) / 32)
    factors = next(tensor for tensor in GGUFReader(path).tensors if tensor.name == "rope_freqs.weight")
    found = plain / torch.from_numpy(factors.data.copy())
    assert torch.allclose(found, model.model.rotary_emb.inv_freq, rtol=1e-5)


def test_a_sliding_window_shortens_the_context(tmp_path: Path) -> None:
    path, _ = export(write_model(tmp_path, "mistral", sliding_window=64))
    assert GGUFReader(path).fields["llama.context_length"].contents() == 64
    config = file.configuration(tmp_path)
    assert "up to 64 tokens" in next(iter(metadata.limits(config, families.check(config))))


@pytest.mark.parametrize("pre", PRE_TOKENIZERS.values())
def test_byte_level_tokenizers_are_recognised_by_how_they_cut(tmp_path: Path, pre: str) -> None:
    made = export_tokenizers.byte_level(pre)
    found = vocabulary.read(export_tokenizers.write(tmp_path, made), len(made) + 3)
    assert found.pre == pre
    assert found.kinds[-3:] == [vocabulary.UNUSED] * 3
    assert found.kinds[made.convert_tokens_to_ids("<|im_end|>")] == vocabulary.CONTROL
    assert found.kinds[made.convert_tokens_to_ids("<think>")] == vocabulary.USER_DEFINED
    same_ids(found, made)


@pytest.mark.parametrize("scheme", ["never", "first", "always"])
def test_sentencepiece_ids_are_those_of_the_tokenizer(tmp_path: Path, scheme: str) -> None:
    made = export_tokenizers.sentencepiece(scheme)
    found = vocabulary.read(export_tokenizers.write(tmp_path, made), len(made))
    assert found.model == vocabulary.SENTENCEPIECE
    assert found.space_prefix is (scheme == "always")
    same_ids(found, made)


def test_gemmas_way_to_write_spaces(tmp_path: Path) -> None:
    made = export_tokenizers.gemma_like()
    same_ids(vocabulary.read(export_tokenizers.write(tmp_path, made), len(made)), made)


def test_a_tokenizer_that_cuts_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    made = export_tokenizers.byte_level("qwen2")
    folder = export_tokenizers.write(tmp_path, made)
    values = json.loads((folder / "tokenizer.json").read_text())
    values["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\s+"}
    (folder / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="cuts text in a way that is not known here"):
        vocabulary.read(folder, len(made))


def test_more_tokens_than_rows_are_refused(tmp_path: Path) -> None:
    made = export_tokenizers.byte_level("qwen2")
    with pytest.raises(UserError, match="its embedding 10 rows"):
        vocabulary.read(export_tokenizers.write(tmp_path, made), 10)


def test_names_that_llama_cpp_takes_for_a_kind_of_tokenizer(tmp_path: Path) -> None:
    made = export_tokenizers.byte_level("qwen2")
    found = vocabulary.read(export_tokenizers.write(tmp_path, made), len(made))
    assert vocabulary.name_for("My-Phi-3-mini", found) == "My-phi-_3-mini"
    assert vocabulary.name_for("dates", found) == "dates"


def same_ids(found: vocabulary.Vocabulary, made: Any) -> None:
    """That a file's vocabulary gives the tokenizer's own ids in chats."""
    ids = tokenizing.tokenizer(found)
    for said in SAID:
        text = made.apply_chat_template([{"role": "user", "content": said}], tokenize=False, add_generation_prompt=True)
        assert ids(text) == made(text, add_special_tokens=False)["input_ids"]
