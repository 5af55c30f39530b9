"""A sweep prepares once, trains each job, and ends with a ranking."""

import json
from pathlib import Path

import pytest

from command import SMALL, sft
from sft_runner.disk import read_json


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("sweep")
    ended = sft("-m", *SMALL, "lora.r=2,4", cwd=folder)
    assert ended.code == 0, ended.said
    return folder, ended.out


def test_it_prepares_once_and_trains_each(swept: tuple[Path, str]) -> None:
    stages = swept[0] / "outputs" / "stages"
    made = {folder.name: len([p for p in folder.iterdir() if p.is_dir()]) for folder in stages.iterdir()}
    assert made == {"prepare": 1, "baseline": 1, "train": 2, "evaluate": 2}


def test_it_ends_with_a_ranked_table(swept: tuple[Path, str]) -> None:
    folder, screen = swept
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    ranked = read_json(sweep / "sweep.json")
    assert len(ranked["jobs"]) == 2
    assert (sweep / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "lora.r=2" in screen
    assert "lora.r=4" in screen
    assert str(sweep / "sweep.png") in screen or "sweep.png" in screen


def test_its_runs_share_one_tag(swept: tuple[Path, str]) -> None:
    from sft_runner.tracking.mlflow import open_store

    folder, _ = swept
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    client = open_store(f"sqlite:///{folder}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("sft_runner")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`sft.sweep` = '{sweep.name}'")
    assert len(found) == 2


def test_a_failing_job_does_not_end_a_sweep(tmp_path: Path) -> None:
    rows = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(20)]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["recipe=qa", "model=tiny", "hardware=cpu", "data.path=my.jsonl", "train.max_steps=3", "evaluate.limit=2"]
    words += ["train.logging_steps=1", "train.warmup_steps=0", "train.max_grad_norm=0", "evaluate.max_new_tokens=2"]
    ended = sft("-m", *words, "train.learning_rate=1e30,1e-3", cwd=tmp_path)
    assert ended.code != 0
    assert "training has diverged" in ended.err
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert [job["state"] for job in read_json(sweep / "sweep.json")["jobs"]] == ["completed", "failed"]
