"""The served model is the trained one: its prompts have the token ids of training, and a real server answers."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from random_models import SHAPE, Reports, make_rows, tokenizer, write_prepared
from sft_runner.config.schema import Config
from sft_runner.disk import read_json
from sft_runner.errors import StageFailed
from sft_runner.stages.serve import Serve, check_count, check_prompts

VLLM = os.environ.get("SFT_TEST_VLLM_PYTHON", "")
"""The interpreter of an environment that has vLLM."""
HELD_OUT = 4

STAY = """
import sys
from pathlib import Path
from sft_runner.config.schema import Config
from sft_runner.serving.stay import stay
config = Config(name="tiny", output_dir=sys.argv[2])
config.serve.port = 0
config.serve.max_tokens = 4
stay(config, Path(sys.argv[1]), config.name, lambda line: print(line, flush=True), "What's up?")
assert not {"torch", "transformers"} & set(sys.modules), "the runner's process stays light"
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The output of merge and prepare, by hand. vLLM's attention on the CPU knows no heads below 32 dimensions."""
    root = tmp_path_factory.mktemp("serve")
    end = tokenizer().eos_token_id
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, head_dim=32, eos_token_id=end, pad_token_id=256))
    model.save_pretrained(root / "merge" / "model")
    tokenizer().save_pretrained(root / "merge" / "model")
    write_prepared(root / "prepare", HELD_OUT)
    return {"merge": root / "merge", "prepare": root / "prepare"}


def config(engine: str = "transformers", python: str | None = None) -> Config:
    made = Config(name="tiny")
    made.data.max_length = 256
    made.serve.engine = engine
    made.serve.python = python
    made.serve.max_tokens = 8
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "python"),
    [
        ("transformers", None),
        pytest.param(
            *("vllm", VLLM), marks=pytest.mark.skipif(not Path(VLLM).is_file(), reason="no SFT_TEST_VLLM_PYTHON")
        ),
    ],
)
def test_the_check_asks_a_real_server(
    folders: dict[str, Path], tmp_path: Path, engine: str, python: str | None
) -> None:
    before = set(psutil.pids())
    result = Serve().execute(config(engine, python), folders, tmp_path, Reports())
    check = read_json(tmp_path / "check.json")
    row = make_rows([("", "abc")])[0]
    assert check["expected"] == "abc"
    assert check["prompt_tokens"] == row["prompt_length"]
    assert check["prompts_checked"] == HELD_OUT
    assert 1 <= check["completion_tokens"] <= 8
    assert check["engine"] == engine
    assert check["engine_version"]
    assert result.metrics["seconds_to_ready"] > 0
    left = [p for p in psutil.process_iter() if p.pid not in before and str(tmp_path) in " ".join(_words(p))]
    assert not left
    assert not [p for p in psutil.Process().children(recursive=True) if p.pid not in before]


def test_another_chat_template_in_the_served_folder_is_found(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["merge"], tmp_path / "merge")
    template = tmp_path / "merge" / "model" / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant\\n", "Assistant\\n"))
    with pytest.raises(StageFailed, match=r"row rows\.jsonl:1: the served prompt is not the trained one") as caught:
        Serve().execute(config(), folders | {"merge": tmp_path / "merge"}, tmp_path, Reports())
    length = make_rows([("", "abc")])[0]["prompt_length"]
    assert f"from token {length - len('assistant') - 1} on" in caught.value.message
    assert "trained: '<|im_start|>user" in caught.value.message
    assert "Assistant" in caught.value.message.split("served: ")[1]
    assert not (tmp_path / "server.log").exists(), "no server was started for it"


def test_a_template_that_is_missing_or_fails_is_told(folders: dict[str, Path]) -> None:
    rows = make_rows([("a", "b")])
    for template, said in ((None, "chat_template"), ("{{ raise_exception('no such role') }}", "no such role")):
        served = type(tokenizer()).from_pretrained(folders["merge"] / "model")
        served.chat_template = template
        with pytest.raises(StageFailed, match=rf"row rows\.jsonl:1: .*{said}"):
            check_prompts(served, rows)


def test_a_prompt_that_only_goes_on_is_another_prompt() -> None:
    rows = make_rows([("a", "b")])
    length = rows[0]["prompt_length"]
    shorter = rows.map(lambda row: {"prompt_length": row["prompt_length"] - 1})
    with pytest.raises(StageFailed, match=f"from token {length - 1} on"):
        check_prompts(tokenizer(), shorter)


def test_a_server_that_counts_other_tokens_is_told() -> None:
    row = make_rows([("a", "b")])[0]
    check_count(row, row["prompt_length"])
    with pytest.raises(StageFailed, match=rf"counted {row['prompt_length'] + 1} prompt tokens"):
        check_count(row, row["prompt_length"] + 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_server_that_stays_answers_curl_and_leaves_nothing(
    folders: dict[str, Path], tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", STAY, str(folders["merge"] / "model"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        said = [owner.stdout.readline().strip() for _ in range(4)]
        assert said[3] == "Ctrl-C stops it", said
        reply = subprocess.run(said[2], shell=True, capture_output=True, check=True, timeout=60)
        assert json.loads(reply.stdout)["choices"][0]["message"]["role"] == "assistant"
        family = psutil.Process(owner.pid).children(recursive=True)
        assert len(family) >= 2
        owner.send_signal(number)
        code = owner.wait(60)
        assert code == (0 if number == signal.SIGINT else -number)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
