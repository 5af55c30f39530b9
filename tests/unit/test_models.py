"""What is known of a model without loading it: the shipped files, folders on this machine, and code of its own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config

from random_models import write_model
from sft_runner import load
from sft_runner.config import sources
from sft_runner.config.schema import Config, Model
from sft_runner.errors import UserError
from sft_runner.fingerprint import Hashes, gather
from sft_runner.model import architecture as shapes
from sft_runner.model import files, loading, weights
from sft_runner.model.architecture import architecture
from sft_runner.model.family import built_in, family
from sft_runner.stages import STAGES

CONF = Path(__file__).parents[2] / "conf" / "model"
PUBLISHED = {
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-Coder-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-Coder-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen2.5-Coder-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-4B-Instruct-2507": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "allenai/OLMoE-1B-7B-0924-Instruct": 6_919_161_856,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "google/gemma-2-2b-it": 2_614_341_888,
    "google/gemma-2-9b-it": 9_241_705_984,
    "google/gemma-3-270m-it": 268_098_176,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-4b-it": 4_300_079_472,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "microsoft/Phi-3.5-mini-instruct": 3_821_079_552,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "microsoft/phi-4": 14_659_507_200,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
}
"""Parameters as the hub's pages have them; Qwen3 0.6B and 1.7B without the head that their files repeat."""
SHIPPED = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "tiny")
TINY = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub cache of the test's own, where code of a model is copied too."""
    monkeypatch.setattr(files.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def on_meta(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def parameters(model: Any) -> int:
    return sum(weights.numel() for weights in model.parameters())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_has_the_published_shape(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text()
    settings = yaml.safe_load(text)["architecture"]
    found = architecture(load("recipe=quickstart", f"model={name}", "hardware=cpu").config.model)
    assert found is not None
    given = {key: value for key, value in settings.items() if key not in ("_name_or_path", "num_parameters")}
    assert all(getattr(found, key) == value for key, value in given.items())
    published = PUBLISHED[settings["_name_or_path"]]
    assert found.num_parameters == published
    config = AutoConfig.for_model(given.pop("model_type"), **given, pad_token_id=None)
    if name == "gemma3-4b":  # its file has the numbers of the part that reads text
        seeing = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
        seeing |= {"patch_size": 14, "image_size": 896, "model_type": "siglip_vision_model", "vision_use_head": False}
        config = Gemma3Config(text_config=config.to_dict(), vision_config=seeing)
    model = on_meta(config)
    assert parameters(model) == published
    if found.is_moe:
        experts = sum(value.numel() for key, value in model.named_parameters() if ".experts." in key)
        assert found.num_expert_parameters == experts
    first = text.splitlines()[0]
    assert f"{found.num_hidden_layers} layers" in first
    assert f"context {found.max_position_embeddings:,}" in first
    size = float(first.removeprefix("# ").split()[0]) * {"M": 1e6, "B": 1e9}[first.split()[2]]
    assert size == pytest.approx(published, rel=0.06)


def test_every_model_is_chosen_by_its_file() -> None:
    assert set(SHIPPED) | {"tiny"} == set(sources.options("model"))
    assert {yaml.safe_load((CONF / f"{name}.yaml").read_text())["name"] for name in SHIPPED} == set(PUBLISHED)
    assert load("recipe=quickstart", "model=qwen2.5-7b").config.model.name == "Qwen/Qwen2.5-7B-Instruct"
    with pytest.raises(UserError) as raised:
        load("recipe=quickstart", "model=qwen2.5-7b-instruct")
    assert "did you mean 'qwen2.5-7b'" in raised.value.show()


def test_the_shape_of_another_model_is_not_taken() -> None:
    assert architecture(load("recipe=quickstart", "model=qwen2.5-7b", "model.name=Someone/Other").config.model) is None


FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": (TINY, {"head_dim": 8, "num_experts": 0}),
    "qwen3": (TINY, {"head_dim": 128, "tie_word_embeddings": False}),  # the class's own default, not 32 / 4
    "gemma2": (TINY | {"head_dim": 8}, {"tie_word_embeddings": True, "head_dim": 8}),
    "gpt2": (
        {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
        {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "max_position_embeddings": 64},
    ),
    "mixtral": (
        TINY | {"num_local_experts": 4},
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "is_moe": True},
    ),
    "qwen3_moe": (
        TINY | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "is_moe": True},
    ),
    "olmoe": (TINY | {"num_experts": 4}, {"num_experts": 4, "num_experts_per_tok": 8, "moe_intermediate_size": 64}),
}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_folder_tells_its_own_shape(model_type: str, tmp_path: Path) -> None:
    settings, expected = FAMILIES[model_type]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings, pad_token_id=None))
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    whole = architecture(Model(name=str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, **settings}))  # defaults left out
    found = architecture(Model(name=str(tmp_path)))
    assert found is not None
    assert found == whole
    assert found.num_parameters == parameters(model)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert {key: getattr(found, key) for key in expected} == expected


def test_a_model_that_also_sees_tells_the_shape_of_its_language_part(tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 2560}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = shapes._read(config, {})
    assert found is not None
    assert (found.model_type, found.hidden_size, found.head_dim, found.vocab_size) == ("gemma3_text", 2560, 256, 262208)


def test_a_head_that_is_stored_again_is_counted_once(tmp_path: Path) -> None:
    write_model(tmp_path, tied=True)
    alone = architecture(Model(name=str(tmp_path)))
    tensors = {"lm_head.weight": torch.zeros(260, 32)}
    from safetensors.torch import load_file, save_file

    save_file(load_file(tmp_path / "model.safetensors") | tensors, tmp_path / "model.safetensors")
    assert "lm_head.weight" in weights.sizes(tmp_path)
    assert architecture(Model(name=str(tmp_path))) == alone


def test_packed_or_damaged_weights_are_not_counted(tmp_path: Path) -> None:
    write_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"load_in_4bit": True}}))
    packed = architecture(Model(name=str(tmp_path)))
    assert packed is not None
    assert packed.num_parameters is None
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    assert weights.sizes(tmp_path) == {}
    assert architecture(Model(name=str(tmp_path))) == replace(packed, stored_bits=0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hiden_size": 5}, "did you mean 'hidden_size'"),
        ({"hidden_size": "wide"}, "hidden_size=wide is not a whole number"),
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1 is not"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings=1 is not true or false"),
        ({"vocab_size": None}, "vocab_size=None is not"),
    ],
)
def test_bad_keys_are_named(changes: dict[str, Any], expected: str) -> None:
    given = yaml.safe_load((CONF / "qwen2.5-7b.yaml").read_text())["architecture"]
    with pytest.raises(UserError) as raised:
        architecture(Model(name=given["_name_or_path"], architecture=given | changes))
    assert expected in raised.value.show()


def test_missing_keys_are_named() -> None:
    with pytest.raises(UserError, match="lacks .*num_hidden_layers"):
        architecture(Model(name="A/B", architecture={"model_type": "llama", "hidden_size": 8}))


def test_what_quantisation_does_not_reach() -> None:
    words = ("recipe=quickstart", "method=qlora", "hardware=rtx4090")
    config = load(*words, "model=olmoe-1b-7b").config
    mixture = architecture(config.model)
    assert mixture is not None
    told = shapes.unquantised(config, mixture)
    assert told is not None
    assert "quantization.bits=4 does not reach the experts, 93% of the weights" in told
    dense = architecture(load(*words, "model=qwen2.5-7b").config.model)
    assert dense is not None
    assert shapes.unquantised(config, dense) is None


def test_bitsandbytes_leaves_experts_alone(tmp_path: Path) -> None:
    """The fact behind `unquantised`, in the installed libraries."""
    settings = FAMILIES["qwen3_moe"][0]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3_moe", **settings, pad_token_id=None))
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    config = load("recipe=quickstart", f"model.name={tmp_path}", "method=qlora", "hardware=cpu").config
    base = loading.load_base(config)
    assert {value.dtype for value in base.parameters() if value.dim() == 3} == {torch.float32}
    assert base.model.layers[0].self_attn.q_proj.weight.dtype == torch.uint8


def test_families_are_read_from_the_source_of_transformers() -> None:
    gemma = family("gemma3_text")
    assert gemma is not None
    assert gemma.defaults["head_dim"] == 256
    mixtral = family("mixtral")
    assert mixtral is not None
    assert mixtral.defaults["max_position_embeddings"] == 131072
    assert mixtral.renamed == {"num_experts": "num_local_experts"}
    assert family("nobody-has-this") is None
    assert built_in("phi3")
    assert not built_in("nobody-has-this")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, to be damaged."""
    write_model(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": None}, "config.json does not say a model_type"),
        ({"model_type": 5}, "config.json does not say a model_type"),
        ({"model_type": "/x"}, "no language model of the family '/x'"),
        ({"model_type": "**"}, "no language model of the family"),
        ({"hidden_size": "64"}, 'config.json: hidden_size is "64", not a whole number'),
        ({"num_attention_heads": 0}, "num_attention_heads is 0, not a whole number"),
        ({"vocab_size": True}, "vocab_size is true, not a whole number"),
        ([1, 2], "config.json does not say a model_type"),
        (b"[" * 5000, "config.json is not JSON"),
        (b"\xff\xfe", "config.json is not JSON"),
    ],
)
def test_a_config_that_is_not_right_is_told(changes: Any, expected: str, folder: Path) -> None:
    file = folder / "config.json"
    if isinstance(changes, dict):
        changes = {**json.loads(file.read_text()), **changes}
    file.write_bytes(changes if isinstance(changes, bytes) else json.dumps(changes).encode())
    with pytest.raises(UserError) as raised:
        architecture(Model(name=str(folder)))
    assert expected in raised.value.show()
    assert str(folder) in raised.value.show()


def test_layers_of_different_widths_are_not_known(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for key in ("intermediate_size", "hidden_size"):
        (folder / "config.json").write_text(json.dumps({**config, key: [64, 32]}))
        assert architecture(Model(name=str(folder))) is None


HEADERS = (
    '{"a": {"dtype": "F32", "shape": [-2]}}',
    '{"a": {"dtype": "F32"}}',
    '{"a": 5}',
    '{"a": {"dtype": [1], "shape": ["x"]}}',
    '{"a": ' + "[" * 5000,
)


@pytest.mark.parametrize("header", HEADERS)
def test_a_damaged_header_means_not_known(header: str, folder: Path) -> None:
    whole = architecture(Model(name=str(folder)))
    assert whole is not None
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode())
    assert weights.sizes(folder) == {}
    found = architecture(Model(name=str(folder)))
    assert found is not None
    assert (found.hidden_size, found.num_parameters) == (whole.hidden_size, None)


@pytest.mark.parametrize("index", [5, {"weight_map": 5}, {"weight_map": {"a": 5}}, {"weight_map": {"a": "../x"}}])
def test_a_damaged_index_means_not_known(index: Any, folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weights.sizes(folder) == {}
    assert not files._fetched(folder, with_code=False)
    assert architecture(Model(name=str(folder))) is not None


def test_a_tokenizer_with_code_of_its_own_is_told_while_planning(folder: Path) -> None:
    own = {"auto_map": {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]}, "tokenizer_class": "OwnTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    with pytest.raises(UserError, match="asks for a tokenizer with code of its own"):
        files.locate(Model(name=str(folder)))
    for usable in (own | {"tokenizer_class": "GPT2Tokenizer"}, own | {"auto_map": {"AutoProcessor": "a.B"}}):
        (folder / "tokenizer_config.json").write_text(json.dumps(usable))
        assert files.locate(Model(name=str(folder))).folder == folder
    (folder / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(UserError, match="is not about a tokenizer"):
        files.locate(Model(name=str(folder)))


# code of a model's own -----------------------------------------------------------------------------------------------

MODELING = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
    ran_own_code = True
"""
AUTO_MAP = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}


def write_own(folder: Path, model_type: str = "own", auto_map: dict[str, Any] = AUTO_MAP) -> Path:
    """A model's folder that asks for code of its own."""
    folder.mkdir(parents=True)
    write_model(folder)
    (folder / "modeling_own.py").write_text(MODELING)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type, "auto_map": auto_map}))
    return folder


def in_cache(tmp_path: Path, **options: Any) -> Path:
    return write_own(tmp_path / "hub" / "models--someone--own" / "snapshots" / COMMIT, **options)


def own(**changes: Any) -> Model:
    return Model(**{"name": "someone/own", "revision": COMMIT, "trust_remote_code": f"someone/own@{COMMIT}"} | changes)


@pytest.mark.filterwarnings("ignore")
def test_allowed_code_runs(tmp_path: Path) -> None:
    in_cache(tmp_path)
    config = load("recipe=quickstart", "hardware=cpu").config
    config.model = own()
    assert files.locate(config.model).own_code
    assert type(loading.load_base(config)).ran_own_code  # type: ignore[attr-defined]
    config.adapter = "none"
    assert type(loading.load_trainable(config)).ran_own_code  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trust_remote_code": None}, f"model.trust_remote_code=someone/own@{COMMIT}"),
        ({"trust_remote_code": "true"}, "unless you allow it by name and commit"),
        ({"trust_remote_code": f"someone/other@{COMMIT}"}, "unless you allow it by name and commit"),
        ({"trust_remote_code": f"someone/own@{COMMIT[:-1]}0"}, "unless you allow it by name and commit"),
        ({"revision": "main", "trust_remote_code": "someone/own@main"}, "model.revision=COMMIT"),
        ({"revision": None}, "model.revision=COMMIT"),
    ],
)
def test_all_other_code_is_refused(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    in_cache(tmp_path)
    references = tmp_path / "hub" / "models--someone--own" / "refs"
    references.mkdir()
    (references / "main").write_text(COMMIT)
    with pytest.raises(UserError, match="code of its own") as raised:
        files.locate(own(**changes))
    assert expected in raised.value.show()
    assert not (tmp_path / "modules").exists()


@pytest.mark.parametrize("reference", ["someone/else--modeling.Model", "../escape.Model", "a.b.Model"])
def test_code_from_elsewhere_is_refused_although_it_was_allowed(reference: str, tmp_path: Path) -> None:
    in_cache(tmp_path, auto_map={"AutoModelForCausalLM": reference})
    with pytest.raises(UserError, match="from another repository"):
        files.locate(own())


def test_code_in_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_own(tmp_path / "someone" / "own")
    monkeypatch.chdir(tmp_path)
    for name in ("someone/own", str(tmp_path / "someone" / "own")):
        with pytest.raises(UserError, match="never run from a folder"):
            files.locate(own(name=name, trust_remote_code=f"{name}@{COMMIT}"))


def test_code_that_was_not_fetched_is_fetched_first(tmp_path: Path) -> None:
    (in_cache(tmp_path) / "modeling_own.py").unlink()
    assert files.locate(own()).folder is None


def test_code_is_not_run_where_transformers_has_the_family(tmp_path: Path) -> None:
    in_cache(tmp_path, model_type="llama")
    config = load("recipe=quickstart", "hardware=cpu").config
    config.model = own(trust_remote_code=None)
    assert not files.locate(config.model).own_code
    assert type(loading.load_base(config)).__module__.startswith("transformers.models.llama")
    assert not (tmp_path / "modules").exists()


def test_the_same_commit_with_and_without_its_code_is_not_the_same(tmp_path: Path) -> None:
    in_cache(tmp_path, model_type="llama")
    hashes = Hashes(tmp_path / "memory.json")
    found = [
        gather(STAGES["baseline"], Config(model=model), {"prepare": "ab"}, {"sets": ""}, hashes).model
        for model in (own(trust_remote_code=None), own())
    ]
    assert found == [COMMIT, f"{COMMIT} with its own code"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("stage=all",), "end with stage=evaluate"),
        (("stage=merge",), "is not merged or served"),
        (("stage=evaluate", "method=full"), "adapter=none writes a whole model"),
        (("stage=evaluate",), None),
    ],
)
def test_what_code_of_its_own_cannot_have_is_said_before_anything_runs(
    words: tuple[str, ...], expected: str | None
) -> None:
    trusted = (
        "recipe=quickstart",
        "hardware=cpu",
        "model.name=someone/own",
        f"model.revision={COMMIT}",
        f"model.trust_remote_code=someone/own@{COMMIT}",
    )
    if expected is None:
        assert load(*trusted, *words).config.model == own()
        return
    with pytest.raises(UserError) as raised:
        load(*trusted, *words)
    assert expected in raised.value.show()
