"""The merge in a stream gives PEFT's own result, tensor by tensor, and leaves every other byte as it is."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

from random_models import SHAPE, random_model, write_adapter, write_model
from sft_runner.merging import arithmetic, loading, pieces, skeleton, stream, whole, writing
from sft_runner.merging.weights import verify_merged

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # PEFT says it of every adapter on a tied layer, and `merging` does what it asks for
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    # PEFT then stores the embedding beside the adapter
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
    # of GPT-2's transposed layers
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False but the target module is `Conv1D`"),
]
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 9}, "alpha_pattern": {"down_proj": 31}},
    "some layers": {"layers_to_transform": [1], "target_modules": ["q_proj", "gate_proj"]},
    "embedding": {"target_modules": ["embed_tokens", "k_proj"]},
    "embedding, dora": {"target_modules": ["embed_tokens", "k_proj"], "use_dora": True},
    "head": {"target_modules": ["lm_head"]},
    "both ends": {"target_modules": ["lm_head", "embed_tokens"]},
    "saved head": {"modules_to_save": ["lm_head"]},
    "saved norm": {"modules_to_save": ["norm"]},
}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder's files."""
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def merged_by_peft(base: Path, adapter: Path) -> Any:
    """PEFT's own merge, embedding and head apart where the adapter parts them, as `whole` does it."""
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), adapter)
    whole._untie(adapted)
    return adapted.merge_and_unload(safe_merge=True)


def learned(train: Path, base: Path, **settings: Any) -> Path:
    """An adapter whose whole modules have learned something too."""
    adapter = write_adapter(train, base, **settings) / "adapter"
    tensors = load_file(adapter / "adapter_model.safetensors")
    for name in tensors:
        if ".lora_" not in name and ".base_layer" not in name and "embed" not in name:
            tensors[name] = tensors[name] * 1.25
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    return adapter


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_is_pefts(tmp_path: Path, kind: str, dtype: torch.dtype, tied: bool) -> None:
    base = write_model(tmp_path / "base", tied=tied, dtype=dtype)
    adapter = learned(tmp_path / "train", base, **KINDS[kind])
    change = stream.merge(base, adapter, tmp_path / "out")
    assert (change.how, change.note) == ("stream", "")
    assert change.changed_modules == change.adapted_modules > 0
    assert change.merged_into == str(dtype).removeprefix("torch.")
    assert change.bytes == (tmp_path / "out/model.safetensors").stat().st_size
    expected = merged_by_peft(base, adapter)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert found.config.tie_word_embeddings == expected.config.tie_word_embeddings
    wanted = expected.state_dict()
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name
    plain = AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict()
    assert not all(torch.equal(tensor, wanted[name]) for name, tensor in plain.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_16_bits_it_is_within_a_rounding_step_of_pefts_and_nearer_to_the_sum(
    tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    base = write_model(tmp_path / "base", dtype=dtype)
    adapter = learned(tmp_path / "train", base, **KINDS[kind])
    stream.merge(base, adapter, tmp_path / "out")
    before, found, theirs = weights(base), weights(tmp_path / "out"), merged_by_peft(base, adapter).state_dict()
    exact = merged_by_peft_in_float32(base, adapter, tmp_path)
    assert found.keys() == before.keys()
    ours_off = theirs_off = 0.0
    for name, tensor in found.items():
        assert tensor.dtype == dtype
        size = torch.maximum(before[name].float().abs(), (exact[name] - before[name].float()).abs())
        step = torch.finfo(dtype).eps * 2.0 ** size.maximum(exact[name].abs()).clamp_min(1e-30).log2().floor()
        assert ((tensor.float() - theirs[name].float()).abs() <= step).all(), name
        ours_off += (tensor.float() - exact[name]).abs().sum().item()
        theirs_off += (theirs[name].float() - exact[name]).abs().sum().item()
    assert ours_off <= theirs_off


def merged_by_peft_in_float32(base: Path, adapter: Path, folder: Path) -> dict[str, torch.Tensor]:
    """What would come out if nothing were rounded."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged: Any = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
    return {name: value.float() for name, value in merged.state_dict().items()}


def test_rows_merge_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_model(tmp_path / "base", dtype=torch.bfloat16)
    adapter = learned(tmp_path / "train", base)
    stream.merge(base, adapter, tmp_path / "at once")
    monkeypatch.setattr(pieces, "PIECE", 7 * 64)  # seven rows of 32 values
    monkeypatch.setattr(pieces, "SPAN", 1000)
    stream.merge(base, adapter, tmp_path / "by rows")
    assert all(
        torch.equal(tensor, weights(tmp_path / "at once")[n]) for n, tensor in weights(tmp_path / "by rows").items()
    )


def test_whole_tensors_share_the_memory_of_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_model(tmp_path / "base")
    adapter = learned(tmp_path / "train", base)
    limit = 2 * 4 * 64 * 32  # bytes of two of the largest matrices
    monkeypatch.setattr(writing, "WHOLE", limit)
    monkeypatch.setattr(writing, "cores", lambda: 8)
    real, lock = arithmetic.whole, threading.Lock()
    there: list[int] = []
    most = [0, 0]

    def watched(edit: Any, weight: torch.Tensor, name: str) -> torch.Tensor:
        with lock:
            there.append(weight.nbytes)
            most[:] = max(most[0], sum(there)), max(most[1], len(there))
        time.sleep(0.02)
        with lock:
            there.remove(weight.nbytes)
        return real(edit, weight, name)

    monkeypatch.setattr(arithmetic, "whole", watched)
    stream.merge(base, adapter, tmp_path / "out")
    assert most[0] <= limit
    assert most[1] > 1
    monkeypatch.setattr(writing, "WHOLE", 1000)  # each is larger than all there is
    most[:] = 0, 0
    stream.merge(base, adapter, tmp_path / "other")
    assert most[1] == 1


# --- files ----------------------------------------------------------------------------------------------------------


def sharded(folder: Path, **of: Any) -> Path:
    """A model in many files, the first of which holds a tensor that no model has."""
    random_model(**of).save_pretrained(folder, max_shard_size="20KB")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    first = folder / min(index["weight_map"].values())
    save_file(load_file(first) | {"extra.inv_freq": torch.arange(5)}, first, metadata={"format": "pt", "by": "Zoë"})
    index["weight_map"]["extra.inv_freq"] = first.name
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_files_keep_their_names_their_order_and_all_other_bytes(tmp_path: Path) -> None:
    base = sharded(tmp_path / "base")
    adapter = learned(tmp_path / "train", base, target_modules=["q_proj"])
    change = stream.merge(base, adapter, tmp_path / "out")
    names = sorted(path.name for path in base.glob("*.safetensors*"))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors*")) == names
    assert len(names) > 4
    assert change.changed_modules == 2
    differing = set()
    for name in names:
        before, after = ((folder / name).read_bytes() for folder in (base, tmp_path / "out"))
        assert len(before) == len(after)
        if before != after:
            start = 8 + int.from_bytes(before[:8], "little")
            assert before[:start] == after[:start]  # the header
            one, two = load_file(base / name), load_file(tmp_path / "out" / name)
            differing |= {name for name in one if not torch.equal(one[name], two[name])}
    assert differing == {f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_file_without_a_byte_of_weights(tmp_path: Path) -> None:
    base = sharded(tmp_path / "base")
    index = json.loads((base / "model.safetensors.index.json").read_text())
    index["weight_map"]["extra.none"] = "model-00000-nothing.safetensors"
    save_file({"extra.none": torch.zeros(0, 3)}, base / "model-00000-nothing.safetensors")
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    stream.merge(base, learned(tmp_path / "train", base), tmp_path / "out")
    before, after = (folder / "model-00000-nothing.safetensors" for folder in (base, tmp_path / "out"))
    assert before.read_bytes() == after.read_bytes()


def test_an_adapter_of_zeros_changes_nothing(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    adapter = write_adapter(tmp_path / "train", base, size=0.0, target_modules=["embed_tokens", "q_proj"]) / "adapter"
    assert stream.merge(base, adapter, tmp_path / "out").changed_modules == 0
    assert (tmp_path / "out/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_a_head_that_gets_weights_of_its_own_is_in_the_index(tmp_path: Path) -> None:
    base = sharded(tmp_path / "base", tied=True)
    adapter = learned(tmp_path / "train", base, target_modules=["lm_head"])
    stream.merge(base, adapter, tmp_path / "out")
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    found = weights(tmp_path / "out")
    assert index["weight_map"].keys() == found.keys() == {*weights(base), "lm_head.weight"}
    assert index["metadata"]["total_size"] == sum(value.numel() * value.element_size() for value in found.values())
    assert torch.equal(found["model.embed_tokens.weight"], weights(base)["model.embed_tokens.weight"])
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is False
    model, told = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"]
    assert torch.equal(model.lm_head.weight, found["lm_head.weight"])
    first = min((tmp_path / "out").glob("*.safetensors"))
    assert "Zoë" in first.read_bytes()[:2000].decode(errors="ignore")


@pytest.mark.parametrize("kept", [["lm_head", "embed_tokens"], ["lm_head"], ["embed_tokens"]])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
# PEFT says so of a vocabulary that has grown
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True` as the embedding layer has been resized")
def test_modules_that_are_saved_with_a_vocabulary_that_has_grown(tmp_path: Path, tied: bool, kept: list[str]) -> None:
    base = write_model(tmp_path / "base", tied=tied)
    torch.manual_seed(0)
    grown = AutoModelForCausalLM.from_pretrained(base)
    grown.resize_token_embeddings(270, mean_resizing=False)
    model = get_peft_model(
        grown, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], modules_to_save=kept)
    )
    for name, value in model.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            value.data += 0.1 * torch.randn_like(value)
    model.save_pretrained(tmp_path / "adapter")
    names = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert {f"base_model.model.lm_head{part}.weight" for part in ("", ".modules_to_save")} & set(names)
    assert any(".original_module." in name for name in names)  # PEFT writes the wrappers too
    change = stream.merge(base, tmp_path / "adapter", tmp_path / "out")
    assert change.how == "stream"
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        expected = model.eval()(input_ids=ids).logits
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    proven = verify_merged(base, skeleton.adapted(base, tmp_path / "adapter"), tmp_path / "out")
    assert proven.steps == 0
    assert loading.load_adapted(base, tmp_path / "adapter").get_input_embeddings().weight.shape[0] == 270


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_vocabulary_that_has_grown(tmp_path: Path, tied: bool) -> None:
    base = write_model(tmp_path / "base", tied=tied)
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(0)
    model.resize_token_embeddings(267)
    model.save_pretrained(tmp_path / "grown")
    adapter = write_adapter(tmp_path / "train", tmp_path / "grown") / "adapter"
    grown = AutoModelForCausalLM.from_pretrained(tmp_path / "grown")
    saved = load_file(adapter / "adapter_model.safetensors")
    for part in ("model.embed_tokens", "lm_head"):  # as PEFT saves them of a model that was resized
        saved[f"base_model.model.{part}.weight"] = grown.get_submodule(part).weight.data.clone()
    save_file(saved, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    change = stream.merge(base, adapter, tmp_path / "out")
    assert change.how == "stream"
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert found.config.vocab_size == 267
    assert found.config.tie_word_embeddings is tied
    expected = PeftModel.from_pretrained(grown, adapter).merge_and_unload(safe_merge=True).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())
    beside = loading.load_adapted(base, adapter)
    assert beside.get_input_embeddings().weight.shape[0] == 267


# --- families -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_transposed_layers_and_names_without_a_prefix(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=260, n_embd=32, n_layer=2, n_head=4)).save_pretrained(tmp_path / "base")
    stored = load_file(tmp_path / "base/model.safetensors")
    bare = {name.removeprefix("transformer."): value for name, value in stored.items()}
    save_file(bare, tmp_path / "base/model.safetensors", metadata={"format": "pt"})
    base = tmp_path / "base"
    adapter = write_adapter(tmp_path / "train", base, target_modules=["c_attn", "c_proj"], **KINDS[kind]) / "adapter"
    assert stream.merge(base, adapter, tmp_path / "out").how == "stream"
    assert weights(tmp_path / "out").keys() == bare.keys()
    expected = merged_by_peft(base, adapter).state_dict()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def moe(folder: Path) -> Path:
    torch.manual_seed(0)
    shape = SHAPE | {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}
    Qwen3MoeForCausalLM(Qwen3MoeConfig(**shape, eos_token_id=257, pad_token_id=256)).save_pretrained(folder)
    return folder


def test_experts_stream_by_where_no_adapter_reaches_them(tmp_path: Path) -> None:
    base = moe(tmp_path / "base")
    adapter = write_adapter(tmp_path / "train", base, target_modules=["q_proj", "v_proj"]) / "adapter"
    assert stream.merge(base, adapter, tmp_path / "out").how == "stream"
    expected = merged_by_peft(base, adapter).state_dict()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("target", ["gate.weight", "experts.down_proj"])
def test_what_the_stream_cannot_do_peft_does_and_says_so(tmp_path: Path, target: str) -> None:
    base = moe(tmp_path / "base")
    adapter = write_adapter(tmp_path / "train", base, target_modules=[], target_parameters=[target]) / "adapter"
    change = stream.merge(base, adapter, tmp_path / "out")
    alone = target == "gate.weight"  # the files hold it as the model does; the experts they hold one by one
    assert change.how == ("stream" if alone else "peft")
    assert ("experts.down_proj otherwise than transformers does" in change.note) is not alone
    assert change.changed_modules == change.adapted_modules == 2
    expected = merged_by_peft(base, adapter).state_dict()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("settings", [{"trainable_token_indices": [3, 7]}, {"init_lora_weights": "pissa"}])
def test_other_kinds_of_adapters_go_to_peft(tmp_path: Path, settings: dict[str, Any]) -> None:
    base = write_model(tmp_path / "base")
    adapter = write_adapter(tmp_path / "train", base, **settings) / "adapter"
    change = stream.merge(base, adapter, tmp_path / "out")
    assert change.how == "peft"
    assert next(iter(settings)) in change.note
    assert (tmp_path / "out/LICENSE").is_file()


# --- a base that training saw rounded -------------------------------------------------------------------------------


class Halves:
    """Rounds the weights of linear layers to multiples of 1/2."""

    def covers(self, name: str) -> bool:
        return "_proj" in name

    def round(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        assert self.covers(name)
        return (2 * weight).round() / 2


@pytest.mark.parametrize("settings", [{}, {"init_lora_weights": "pissa"}], ids=["stream", "peft"])
def test_a_rounded_base(tmp_path: Path, settings: dict[str, Any]) -> None:
    base = write_model(tmp_path / "base")
    adapter = write_adapter(tmp_path / "train", base, target_modules=["q_proj"]) / "adapter"
    if settings:  # a start that PEFT would repeat, if the factors were not given
        config = json.loads((adapter / "adapter_config.json").read_text()) | {
            "layer_replication": None,
            "lora_bias": False,
        }
        (adapter / "adapter_config.json").write_text(json.dumps(config | {"trainable_token_indices": None}))
        found = whole.merge(loading.load_adapted(base, adapter), base, tmp_path / "out", Halves())
    else:
        found = stream.merge(base, adapter, tmp_path / "out", Halves())
    assert found.changed_modules == 2
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    for name, value in adapted.get_base_model().named_parameters():
        if "_proj" in name and ".lora_" not in name:
            value.data = (2 * value.data).round() / 2
    expected = adapted.merge_and_unload(safe_merge=True).state_dict()
    for name, tensor in weights(tmp_path / "out").items():
        assert torch.equal(tensor, expected[name]), name


def test_it_reports_and_leaves_torchs_threads_alone(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    adapter = write_adapter(tmp_path / "train", base) / "adapter"
    torch.set_num_threads(2)
    said: list[dict[str, Any]] = []
    stream.merge(base, adapter, tmp_path / "out", report=lambda **values: said.append(values))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    assert said
    assert "GB" in said[-1]["message"]
