"""The served model is the trained one: its prompts have the token ids of training, and a real server answers."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from random_models import SHAPE, Reports, chat_row, make_rows, text_row, tokenizer, write_prepared, write_rows
from sft_runner.config.schema import Config
from sft_runner.data.template import Renderer
from sft_runner.disk import read_json
from sft_runner.errors import StageFailed
from sft_runner.model.prompts import check_prompts
from sft_runner.serving import address
from sft_runner.serving.server import server
from sft_runner.stages.exam import check_count, choose
from sft_runner.stages.serve import Serve

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


ENGINES = pytest.mark.parametrize(
    ("engine", "python"),
    [
        ("transformers", None),
        pytest.param(
            *("vllm", VLLM), marks=pytest.mark.skipif(not Path(VLLM).is_file(), reason="no SFT_TEST_VLLM_PYTHON")
        ),
    ],
)


@pytest.mark.slow
@ENGINES
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
    shorter = [row | {"prompt_length": row["prompt_length"] - 1} for row in rows]
    with pytest.raises(StageFailed, match=f"from token {length - 1} on"):
        check_prompts(tokenizer(), shorter)


def test_a_server_that_counts_other_tokens_is_told() -> None:
    exam = choose(tokenizer(), make_rows([("a", "b")]))
    check_count(exam, exam.prompt_tokens)
    with pytest.raises(StageFailed, match=rf"counted {exam.prompt_tokens + 1} prompt tokens"):
        check_count(exam, exam.prompt_tokens + 1)


# --- what is asked --------------------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "clock", "description": "The time.", "parameters": {}}}
CALL = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": {"zone": "UTC"}}}
PLAIN = chat_row("How are you?", "Well.", 1)
WITH_TOOLS = chat_row("What time is it?", "Noon.", 2, tools=[TOOL])
CALLED = chat_row("And now?", "Two.", 3, tools=[TOOL]) | {
    "messages": json.dumps(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "And now?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "14:00", "tool_call_id": "1", "name": "clock"},
            {"role": "assistant", "content": "Two."},
        ]
    )
}
TEXT = text_row("once upon a time", 4)
FILL = text_row("return 1", 5, prompt="def f():")


@pytest.mark.parametrize(
    ("rows", "source"),
    [
        ([TEXT, FILL, CALLED, WITH_TOOLS, PLAIN], 1),
        ([TEXT, CALLED, WITH_TOOLS], 2),
        ([TEXT, CALLED], 3),
        ([FILL, TEXT], 5),
        ([TEXT, FILL], 4),
    ],
)
def test_the_plainest_row_is_asked(rows: list[dict[str, Any]], source: int) -> None:
    assert choose(tokenizer(), rows).source == f"rows.jsonl:{source}"


def test_a_chat_is_asked_whole_and_one_with_calls_up_to_the_first() -> None:
    plain, tools, called = (choose(tokenizer(), [row]) for row in (PLAIN, WITH_TOOLS, CALLED))
    assert (plain.question.messages, plain.question.tools) == ([{"role": "user", "content": "How are you?"}], [])
    assert (plain.prompt_tokens, plain.expected) == (PLAIN["prompt_length"], "Well.")
    assert (tools.question.tools, tools.prompt_tokens) == ([TOOL], WITH_TOOLS["prompt_length"])
    assert [message["role"] for message in called.question.messages] == ["system", "user"]
    assert (called.question.tools, called.expected) == ([TOOL], "")


def test_a_text_is_asked_by_its_first_half_and_code_by_what_stands_before() -> None:
    text, fill = (choose(tokenizer(), [row]) for row in (TEXT, FILL))
    assert (text.question.text, text.prompt_tokens, text.expected) == ("once upon", 9, " a time")
    assert (fill.question.text, fill.prompt_tokens, fill.expected) == ("def f():", 8, "return 1")


def test_a_template_that_writes_the_date_is_compared_on_the_day_of_training() -> None:
    dated = copy.deepcopy(tokenizer())
    dated.chat_template = "{{ strftime_now('%A, %d %B %Y') }}\n" + str(tokenizer().chat_template)
    messages = json.loads(PLAIN["messages"])
    ids = Renderer(dated).prompt_ids(messages[:-1])
    row = PLAIN | {"input_ids": [*ids, 1, 2], "prompt_length": len(ids)}
    assert check_prompts(dated, [row]) == 1
    today = dated.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    assert today != ids
    assert choose(dated, [row]).prompt_tokens == len(today)
    with pytest.raises(StageFailed, match="from token 0 on"):
        check_prompts(tokenizer(), [row])


def test_only_chats_have_prompts_to_compare() -> None:
    assert check_prompts(tokenizer(), [TEXT, PLAIN, FILL, WITH_TOOLS]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("row", [WITH_TOOLS, CALLED, TEXT, FILL], ids=["tools", "calls", "text", "fill"])
@ENGINES
def test_every_kind_of_row_can_be_asked(
    folders: dict[str, Path], tmp_path: Path, row: dict[str, Any], engine: str, python: str | None
) -> None:
    only = {"prepare": write_rows(tmp_path / "prepare", [row])}
    (tmp_path / "serve").mkdir()
    if row is CALLED:  # written by hand, so its ids are not those of its messages
        exam = choose(tokenizer(), [row])
        made = config(engine, python)
        place = address.choose("127.0.0.1", 0)
        with server(made, folders["merge"] / "model", "tiny", place, tmp_path / "log") as running:
            check_count(exam, running.ask(exam.question, 4).prompt_tokens)
        return
    Serve().execute(config(engine, python), folders | only, tmp_path / "serve", Reports())
    check = read_json(tmp_path / "serve" / "check.json")
    assert (check["source"], check["prompts_checked"]) == (row["source"], int(row is WITH_TOOLS))
    assert check["completion_tokens"] >= 1


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
