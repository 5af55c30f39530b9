"""Servers: nothing survives its owner, nothing is open to the network, and what is missing is said before the start.

The engines here are small real processes; the real engines are in `pipeline/test_serve.py`.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sft_runner.config.schema import Config
from sft_runner.errors import MachineError, StageFailed, UserError
from sft_runner.serving import guard, transformers, vllm
from sft_runner.serving.address import Address, choose
from sft_runner.serving.completion import curl
from sft_runner.serving.engine import Engine, Package
from sft_runner.serving.server import Server, check, server
from sft_runner.serving.stay import stay

FAMILY = '''
import os, socket, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
orphan = """
import subprocess, sys
print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdout=subprocess.DEVNULL).pid, flush=True)
"""
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
found = [os.getpid(), subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]
found.append(int(subprocess.run([sys.executable, "-c", orphan, *sleep], stdout=subprocess.PIPE, check=True).stdout))
if sys.argv[3] == "stubborn":
    found.append(subprocess.Popen([sys.executable, "-c", stubborn]).pid)
    time.sleep(1)
with open(sys.argv[2] + ".tmp", "w") as file:
    file.write(" ".join(map(str, found)))
os.rename(sys.argv[2] + ".tmp", sys.argv[2])
time.sleep(600)
'''
"""A child, a child with a session of its own, an orphan whose parent has ended, and one that ignores SIGTERM."""

OWNER = """
import subprocess, sys, time
guard = subprocess.Popen([sys.executable, "-m", "sft_runner.serving.guard", "--", *sys.argv[1:]],
                         stdin=subprocess.PIPE, start_new_session=True)
time.sleep(600)
"""

ENGINE = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

port, behaviour = int(sys.argv[1]), sys.argv[2]
print("loading the weights", flush=True)
if behaviour == "dies":
    sys.exit("out of luck")
seen = 0

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        global seen
        seen += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = {"loads": 200 if seen > 2 else 503, "refuses": 400}.get(behaviour, 200)
        text = f"{body['model']} heard {body['messages'][-1]['content']}"
        reply = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}],
                 "usage": {"prompt_tokens": 3, "completion_tokens": seen}}
        if behaviour == "babbles":
            reply = {"status": "ok"}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

if behaviour == "never":
    import time
    time.sleep(600)
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Callable[..., tuple["subprocess.Popen[bytes]", list[int], int]]]:
    """Starts a command that starts a family; gives the process, the pids of the family and its port."""
    found: list[int] = []
    started: list[subprocess.Popen[bytes]] = []

    def begin(command: list[str], temper: str = "calm") -> tuple["subprocess.Popen[bytes]", list[int], int]:
        port = choose("127.0.0.1", 0).port
        pids = tmp_path / "pids"
        words = [sys.executable, "-c", FAMILY, str(port), str(pids), temper]
        started.append(subprocess.Popen([*command, *words], stdin=subprocess.PIPE))
        assert until(pids.exists)
        found.extend(int(pid) for pid in pids.read_text().split())
        assert not gone(found)
        assert not free(port)
        return started[0], found, port

    yield begin
    for process in started:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
    for pid in found:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def test_the_guard_ends_the_whole_family_when_its_owner_is_killed(family: Callable[..., tuple]) -> None:
    owner, pids, port = family([sys.executable, "-c", OWNER])
    owner.kill()
    owner.wait()
    assert until(lambda: gone(pids)), [pid for pid in pids if psutil.pid_exists(pid)]
    assert free(port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_guard_ends_the_whole_family_on_a_signal(family: Callable[..., tuple], number: signal.Signals) -> None:
    process, pids, port = family([sys.executable, "-m", "sft_runner.serving.guard", "--"])
    process.send_signal(number)
    assert process.wait(60) == 128 + signal.SIGTERM, "the exit code is the program's"
    assert gone(pids)
    assert free(port)


def test_a_guard_that_is_killed_takes_the_engine_with_it(family: Callable[..., tuple]) -> None:
    process, pids, port = family([sys.executable, "-m", "sft_runner.serving.guard", "--"])
    process.kill()
    assert until(lambda: gone(pids[:1])), "its other descendants are the engine's own to end"
    assert free(port)


@pytest.mark.slow
def test_the_guard_kills_what_ignores_sigterm(family: Callable[..., tuple]) -> None:
    process, pids, _ = family([sys.executable, "-m", "sft_runner.serving.guard", "--"], "stubborn")
    assert len(pids) == 5
    began = time.monotonic()
    process.stdin.close()
    process.wait(guard.GRACE_SECONDS + 60)
    assert time.monotonic() - began >= guard.GRACE_SECONDS
    assert gone(pids)


@pytest.mark.parametrize(
    ("program", "code"), [("", 0), ("import sys; sys.exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_guard_ends_with_the_program_and_its_code(program: str, code: int) -> None:
    command = [sys.executable, "-m", "sft_runner.serving.guard", "--", sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait(60) == code


def test_the_guard_says_what_cannot_be_started() -> None:
    command = [sys.executable, "-m", "sft_runner.serving.guard", "--", "/no/such/program"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 127
    assert "/no/such/program" in ended.stderr


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=rf"serve\.port={port} .*already in use"):
            choose("127.0.0.1", port)
    assert choose("127.0.0.1", port) == Address("127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
def test_a_host_that_is_open_to_the_network_is_refused(host: str) -> None:
    with pytest.raises(UserError, match="serve.host"):
        choose(host, 0)


def test_names_and_ipv6_of_loopback() -> None:
    assert choose("localhost", 0).host == "127.0.0.1"
    assert Address("::1", 80).url == "http://[::1]:80"
    with pytest.raises(UserError, match="serve.port=70000"):
        choose("127.0.0.1", 70000)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}))
    return folder


@pytest.fixture
def engine(model: Path) -> Callable[[int, str], Engine]:
    def make(port: int, behaviour: str) -> Engine:
        arguments = ("-c", ENGINE, str(port), behaviour)
        return Engine(Package("pip", ("pip",), "install it"), sys.executable, arguments, model, "tiny")

    return make


def running(engine: Callable[[int, str], Engine], behaviour: str, log: Path, timeout: float = 30) -> Server:
    place = choose("127.0.0.1", 0)
    return Server(engine(place.port, behaviour), place, log, timeout)


@pytest.mark.parametrize("behaviour", ["answers", "loads"])
def test_a_server_answers_inside_its_context_and_is_gone_after_it(
    engine: Callable[[int, str], Engine], tmp_path: Path, behaviour: str
) -> None:
    with running(engine, behaviour, tmp_path / "log") as inside:
        answer = inside.ask([{"role": "user", "content": "you"}], 5)
        family = [inside.process.pid, *(p.pid for p in psutil.Process(inside.process.pid).children(recursive=True))]
        link = inside.folder / "tiny"
        assert link.resolve() == (tmp_path / "model").resolve()
    assert answer.text == "tiny heard you"
    assert answer.completion_tokens == {"answers": 2, "loads": 4}[behaviour], "it was ready once it had answered"
    assert inside.seconds_to_ready > 0
    assert inside.version
    assert len(family) == 2
    assert gone(family)
    assert free(inside.address.port)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "model"]


@pytest.mark.parametrize(
    ("behaviour", "timeout", "message"),
    [
        ("dies", 30, r"pip ended before its first answer \(exit code 1\)"),
        ("never", 1, r"serve\.startup_timeout: pip gave no answer within 1 s"),
        ("refuses", 30, "the server answered 400"),
        ("babbles", 30, "not a chat completion"),
    ],
)
def test_a_server_that_does_not_come_up_says_why(
    engine: Callable[[int, str], Engine], tmp_path: Path, behaviour: str, timeout: float, message: str
) -> None:
    planned = running(engine, behaviour, tmp_path / "log", timeout)
    with pytest.raises(StageFailed, match=message) as caught, planned:
        pass
    assert str(tmp_path / "log") in caught.value.hint
    if behaviour != "never":  # which may not have got that far within a second
        assert "loading the weights" in caught.value.hint
    assert ("out of luck" in caught.value.hint) == (behaviour == "dies")
    assert free(planned.address.port)
    assert not psutil.pid_exists(planned.process.pid)


def test_a_stranger_on_the_port_is_not_taken_for_the_server(
    engine: Callable[[int, str], Engine], tmp_path: Path
) -> None:
    place = choose("127.0.0.1", 0)
    stranger = subprocess.Popen([sys.executable, "-c", ENGINE, str(place.port), "answers"])
    try:
        assert until(lambda: not free(place.port))
        with (
            pytest.raises(StageFailed, match="no answer within 2 s"),
            Server(engine(place.port, "never"), place, tmp_path / "log", 2),
        ):
            pass
    finally:
        stranger.kill()
        stranger.wait()


def test_the_death_of_a_running_server_is_told(engine: Callable[[int, str], Engine], tmp_path: Path) -> None:
    with running(engine, "answers", tmp_path / "log") as inside:
        for process in psutil.Process(inside.process.pid).children():
            process.kill()
        with pytest.raises(StageFailed, match="pip has ended"):
            inside.wait()
        with pytest.raises(StageFailed, match="gave no answer"):
            inside.ask([{"role": "user", "content": "you"}], 5)


def config(**serve: object) -> Config:
    made = Config(name="tiny")
    for key, value in serve.items():
        setattr(made.serve, key, value)
    return made


def test_an_engine_that_is_not_installed_is_said_before_the_start(model: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    asked = config(engine="vllm", python=str(tmp_path / "bare/bin/python"))
    planned = server(asked, model, "tiny", choose("127.0.0.1", 0), tmp_path / "log")
    with pytest.raises(MachineError, match=r"serve\.engine=vllm: .*bare.* has no package vllm") as caught, planned:
        pass
    with pytest.raises(MachineError, match="has no package vllm"):
        check(asked)
    check(config())
    assert "sft-runner[vllm]" in caught.value.hint
    assert "serve.python" in caught.value.hint
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("python", ["/no/such/python", __file__, "/bin/false"])
def test_serve_python_has_to_be_an_interpreter(python: str) -> None:
    with pytest.raises(MachineError, match=r"serve\.python"):
        check(config(python=python))


@pytest.mark.parametrize("name", ["--trust-remote-code", "a b", "org/model", "v1@main", ""])
def test_a_name_that_an_engine_would_misread_is_refused(model: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="name="):
        server(config(), model, name, Address("127.0.0.1", 8000), tmp_path / "log")


def test_vllm_is_told_of_cards_only_where_there_are_some(model: Path) -> None:
    asked = config(tensor_parallel_size=2)
    on_cpu = vllm.engine(asked, model, "tiny", Address("127.0.0.1", 8000))
    assert "--tensor-parallel-size" not in on_cpu.arguments
    assert "--gpu-memory-utilization" not in on_cpu.arguments
    assert "--enforce-eager" in on_cpu.arguments
    assert on_cpu.variables()["VLLM_CPU_KVCACHE_SPACE"] == "1"
    asked.hardware.memory_gb = 24
    on_gpu = vllm.engine(asked, model, "tiny", Address("127.0.0.1", 8000))
    words = " ".join(on_gpu.arguments)
    assert "--tensor-parallel-size 2" in words
    assert "--gpu-memory-utilization 0.9" in words
    assert "--enforce-eager" not in words
    assert "cuda" in transformers.engine(asked, model, "tiny", Address("127.0.0.1", 8000)).arguments


def test_the_context_of_vllm_fits_training_and_model(model: Path) -> None:
    asked = config()
    assert vllm.max_model_len(asked, model) == 2048 + 256
    asked.data.max_length = 8192
    assert vllm.max_model_len(asked, model) == 4096
    asked.serve.max_model_len = 512
    assert vllm.max_model_len(asked, model) == 512


def test_an_engine_is_offline_silent_and_has_no_secrets(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    monkeypatch.setenv("PYTHONPATH", "/packages/of/this/interpreter")
    own = transformers.engine(config(), model, "tiny", Address("127.0.0.1", 8000))
    foreign = vllm.engine(config(python="/bin/sh"), model, "tiny", Address("127.0.0.1", 8000))
    for made in (own, foreign):
        variables = made.variables()
        assert variables["HF_HUB_OFFLINE"] == variables["DO_NOT_TRACK"] == "1"
        assert "hf_secret" not in variables.values()
        assert "VLLM_SERVER_DEV_MODE" not in variables
        assert "--trust-remote-code" not in made.arguments
    assert "PYTHONPATH" in own.variables()
    assert "PYTHONPATH" not in foreign.variables()


def test_curl_survives_quotes() -> None:
    command = curl(Address("127.0.0.1", 8000), "tiny", 'it\'s "so" `much`\n$HOME', 5)
    words = shlex.split(command)
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:8000/v1/chat/completions"]
    assert json.loads(words[-1])["messages"][0]["content"] == 'it\'s "so" `much`\n$HOME'


def test_staying_refuses_a_taken_port_at_once(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        asked = config(port=taken.getsockname()[1])
        asked.output_dir = str(tmp_path)
        with pytest.raises(MachineError, match="serve.port"):
            stay(asked, model, "tiny", print)
