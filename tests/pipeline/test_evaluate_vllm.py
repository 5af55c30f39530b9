"""vLLM writes the answers that transformers writes: base, base with adapter, and a model that was trained whole."""

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from random_models import SHAPE, Reports, chat_row, rows_of, text_row, tokenizer, write_adapter
from sft_runner.config.schema import Config
from sft_runner.disk import read_json
from sft_runner.evaluation import engines
from sft_runner.evaluation.generation import answers
from sft_runner.model import loading
from sft_runner.model.rows import Rows

VLLM = os.environ.get("SFT_TEST_VLLM_PYTHON", "")
"""The interpreter of an environment that has vLLM."""
LONGEST = 12

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(VLLM).is_file(), reason="no SFT_TEST_VLLM_PYTHON"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with heads that vLLM's attention on the CPU knows, and generation settings that must not count."""
    folder = tmp_path_factory.mktemp("base")
    end = tokenizer().eos_token_id
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, head_dim=32, eos_token_id=end, pad_token_id=256))
    model.generation_config.update(repetition_penalty=3.0, do_sample=True, temperature=2.0, eos_token_id=[end, 65])
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def config(base: Path, adapter: str = "lora") -> Config:
    made = Config(adapter=adapter)
    made.model.name = str(base)
    made.lora.r, made.lora.lora_alpha = 4, 8
    made.quantization.bits = "none"
    made.data.max_length = SHAPE["max_position_embeddings"]
    made.evaluate.engine = "vllm"
    made.evaluate.max_new_tokens = LONGEST
    made.serve.engine, made.serve.python = "vllm", VLLM
    return made


def rows() -> Rows:
    """Short and long prompts, a text, and prompts that leave little room or none."""
    chats = [chat_row("Say it " * (i % 5), "abc", i + 1) for i in range(10)]
    full = SHAPE["max_position_embeddings"]
    texts = [text_row("x", 20 + i, prompt="y" * length) for i, length in enumerate((1, 30, full - 3, full - 2, full))]
    return rows_of([*chats, *texts])


def written(made: Config, folder: Path, trained: Path | None = None) -> tuple[list[Any], list[Any], Reports]:
    """The answers by transformers, and those by vLLM, which takes the weights."""
    model = loading.load_tuned(made, trained) if trained else loading.load_base(made)
    asked, said = rows(), Reports()
    expected = answers(model, tokenizer(), asked, LONGEST, 4, Reports())
    with engines.writer(made, folder, trained) as write:
        found = write(model, tokenizer(), asked, LONGEST, 4, said)
        assert sum(value.numel() for value in model.parameters()) == 0, "both engines would share a card"
        assert write(model, tokenizer(), asked.select([0]), LONGEST, 4, said) == found[:1]
    return expected, found, said


def test_base_adapter_and_whole_model_answer_as_with_transformers(base: Path, tmp_path: Path) -> None:
    before = set(psutil.pids())
    adapted = write_adapter(tmp_path / "trained" / "adapted", base, size=0.3)
    other = LlamaForCausalLM(LlamaConfig(**SHAPE, head_dim=32, eos_token_id=tokenizer().eos_token_id))
    other.save_pretrained(tmp_path / "trained" / "whole" / "model")
    texts = []
    cases = [("base", "lora", None), ("tuned", "lora", adapted), ("whole", "none", tmp_path / "trained" / "whole")]
    for name, adapter, trained in cases:
        (tmp_path / name).mkdir()
        made = config(base, adapter)
        assert not list(engines.misfits(made))
        expected, found, said = written(made, tmp_path / name, trained)
        assert found == expected, name
        assert said[-1]["steps"] == 1
        assert read_json(tmp_path / name / "engine.json")["version"].startswith("0.32")
        texts.append([answer.text for answer in found])
    assert texts[0] != texts[1] != texts[2], "the adapter has an effect"
    assert any(answer.stopped for answer in found) or any(texts[0])
    assert not [pid for pid in psutil.pids() if pid not in before and "vllm" in _name(pid)]


def _name(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""
