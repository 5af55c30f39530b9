"""The commands of the first page, for real: the quickstart learns, and the served model writes dates as ISO dates."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from command import actions, manifest, sft, start
from sft_runner.disk import read_json

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart")
    ended = sft("recipe=quickstart", cwd=folder, timeout=1800)
    assert ended.code == 0, ended.said
    assert "exact match" in ended.out
    return folder


def test_the_base_cannot_do_it_and_the_tuned_model_can(finished: Path) -> None:
    scores = manifest(finished, "evaluate")["metrics"]
    assert scores["base"]["exact_match"] <= 0.05
    assert scores["tuned"]["exact_match"] >= 0.95


def test_the_merged_model_is_the_trained_one(finished: Path) -> None:
    proof = manifest(finished, "merge")["metrics"]
    assert proof["difference"]["relative"] < 1e-4
    assert proof["difference"]["equal_greedy"] == 1.0
    assert proof["changed_modules"] == proof["adapted_modules"] > 0


def test_again_is_cached(finished: Path) -> None:
    ended = sft("recipe=quickstart", cwd=finished)
    assert set(actions(ended.out).values()) == {"cached"}


def test_mlflow_holds_the_whole_run(finished: Path) -> None:
    from sft_runner.tracking.mlflow import open_store

    client = open_store(f"sqlite:///{finished}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("sft_runner")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (folder,) = (finished / "outputs" / "runs" / "quickstart").iterdir()
    parent = client.get_run(read_json(folder / "run.json")["mlflow_run_id"])
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert parent.data.params["lora.r"] == "8"
    assert parent.data.metrics["tuned.exact_match"] >= 0.95
    train = next(run for run in children if run.info.run_name == "train")
    assert len(client.get_metric_history(train.info.run_id, "loss")) > 10
    assert any(run.inputs.dataset_inputs for run in children)


def test_the_server_stays_up_answers_the_readmes_curl_and_leaves_nothing(finished: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start("recipe=quickstart", "stage=serve", f"serve.port={port}", cwd=finished)
    try:
        screen = finished / "screen.log"
        deadline = time.monotonic() + 300
        while "Ctrl-C stops it" not in screen.read_text():
            assert process.poll() is None, screen.read_text()
            assert time.monotonic() < deadline, screen.read_text()
            time.sleep(0.2)
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        right = [ask(port, day) for day in ("3 March 2021", "December 24, 1999", "17 Aug 2050", "1st of May 2004")]
        expected = ["2021-03-03", "1999-12-24", "2050-08-17", "2004-05-01"]
        assert sum(a == b for a, b in zip(right, expected, strict=True)) >= 3, right
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def ask(port: int, day: str) -> str:
    """The README's own curl line, with another port and another day."""
    line = re.search(r"^curl .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert line
    words = shlex.split(line.group().replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("3 March 2021", day))
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    reply: dict[str, Any] = json.loads(ended.stdout)
    return str(reply["choices"][0]["message"]["content"])


def test_data_that_nobody_here_wrote(shared_data: Path, tmp_path: Path) -> None:
    words = ["recipe=qa", "model=tiny", "hardware=cpu", f"data.path={shared_data / 'gsm8k_train.jsonl'}"]
    ended = sft(*words, "data.limit=400", "train.max_steps=4", "evaluate.limit=8", cwd=tmp_path, timeout=1800)
    assert ended.code == 0, ended.said
    rows = manifest(tmp_path, "prepare")["metrics"]["rows"]
    assert rows["read"] == 400 == rows["train"] + rows["held_out"] + sum(rows["dropped"].values())


def test_a_disk_that_is_full_is_told_in_a_line(tmp_path: Path) -> None:
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path]).returncode:
        pytest.skip("a small disk can only be made by root")
    try:
        ended = sft("recipe=quickstart", "tracking=none", "stage=prepare", "data.held_out=10", cwd=tmp_path)
        full = sft("recipe=quickstart", "tracking=none", "stage=train", "train.max_steps=4", cwd=tmp_path)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
    for command in (ended, full):
        if command.code:
            assert command.code == 3, command.said
            assert "no space left" in command.err
            assert "Traceback" not in command.said
    assert full.code == 3
