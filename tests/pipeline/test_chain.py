"""One command goes the whole way, and no command does anything twice."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command import SMALL, actions, manifest, sft
from sft_runner import load, plan
from sft_runner.disk import read_json
from sft_runner.launcher import Workers
from sft_runner.runner import execute

STAGES = ["prepare", "baseline", "train", "merge", "evaluate", "serve"]


def test_every_stage_ran_and_left_a_manifest(small: Path) -> None:
    for stage in STAGES:
        found = manifest(small, stage)
        assert found["stage"] == stage
        assert found["seconds"] > 0
        assert found["versions"]["torch"]
        folder = small / "outputs" / "stages" / stage / found["fingerprint"]
        for name, facts in found["files"].items():
            assert (folder / name).stat().st_size == facts["size"]
    assert not list((small / "outputs").rglob("*.partial"))
    assert not list((small / "outputs").rglob("*.tmp"))


def test_nothing_is_written_outside_outputs(small: Path) -> None:
    assert sorted(path.name for path in small.iterdir()) == ["outputs", "screen.txt"]


def test_the_screen_shows_plan_scores_proof_and_the_next_command(small: Path) -> None:
    screen = (small / "screen.txt").read_text()
    assert actions(screen) == dict.fromkeys(STAGES, "run")
    for text in ("exact match", "→", "merged logits differ", "model: ", "stage=serve", "mlflow ui"):
        assert text in screen


def test_rows_are_accounted_for(small: Path) -> None:
    rows = manifest(small, "prepare")["metrics"]["rows"]
    assert rows["read"] == 80
    assert rows["read"] == rows["train"] + rows["held_out"] + sum(rows["dropped"].values())


def test_the_run_folder_holds_config_plan_state_and_links(small: Path) -> None:
    (folder,) = (small / "outputs" / "runs" / "quickstart").iterdir()
    state = read_json(folder / "run.json")
    assert state["state"] == "completed"
    assert set(state["stages"]) == set(STAGES)
    assert "r: 8" in (folder / "config.yaml").read_text()
    assert (folder / "model" / "model.safetensors").is_file()
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert len(read_json(folder / "plan.json")["steps"]) == len(STAGES)


def test_the_merged_model_loads_anywhere(small: Path) -> None:
    (folder,) = (small / "outputs" / "runs" / "quickstart").iterdir()
    program = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer;"
        "AutoTokenizer.from_pretrained(sys.argv[1]).chat_template;"
        "print(type(AutoModelForCausalLM.from_pretrained(sys.argv[1])).__name__)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(folder / "model")], capture_output=True, text=True)
    assert "LlamaForCausalLM" in ended.stdout, ended.stderr


def test_the_same_command_again_does_nothing(copied: Path) -> None:
    runs = list((copied / "outputs" / "runs" / "quickstart").iterdir())
    ended = sft(*SMALL, cwd=copied)
    assert ended.code == 0, ended.said
    assert actions(ended.out) == dict.fromkeys(STAGES, "cached")
    assert "nothing to do" in ended.out
    assert runs[0].name in ended.out
    assert list((copied / "outputs" / "runs" / "quickstart").iterdir()) == runs


@pytest.mark.parametrize(
    ("change", "runs", "why"),
    [
        (["lora.r=4"], {"train", "merge", "evaluate", "serve"}, "lora.r 8 → 4"),
        (["evaluate.max_new_tokens=8"], {"baseline", "evaluate"}, "evaluate.max_new_tokens 16 → 8"),
        (["serve.max_tokens=9"], {"serve"}, "serve.max_tokens 64 → 9"),
        (["data.seed=7"], set(STAGES), "data.seed 42 → 7"),
        (["tracking=none"], set(), ""),
        (["train.save_steps=3", "train.logging_steps=1"], set(), ""),
        (["name=other"], set(), ""),
        (["hardware.per_device_train_batch_size=2"], set(), ""),
        (["force=[evaluate]"], {"evaluate"}, "force"),
        (["force=[train]"], {"train", "merge", "evaluate", "serve"}, "train runs again"),
    ],
)
def test_only_what_depends_on_a_change_runs(small: Path, change: list[str], runs: set[str], why: str) -> None:
    ended = sft(*SMALL, *change, "dry_run=true", cwd=small)
    assert ended.code == 0, ended.said
    assert {stage for stage, action in actions(ended.out).items() if action == "run"} == runs
    assert why in ended.out


def test_a_changed_byte_in_the_data_runs_everything(
    copied: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(20)]
    file = copied / "my.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["recipe=qa", "model=tiny", "hardware=cpu", f"data.path={file}", "stage=prepare"]
    monkeypatch.chdir(copied)
    assert execute(plan(load(*words, "tracking=none")), workers).state == "completed"
    assert actions(sft(*words, "dry_run=true", cwd=copied).out) == {"prepare": "cached"}
    file.write_text(file.read_text().replace("What is 3 + 1?", "What is 3 + 9?"))
    ended = sft(*words, "stage=all", "dry_run=true", cwd=copied)
    assert set(actions(ended.out).values()) == {"run"}
    assert "data changed" in ended.out


def test_moved_outputs_are_still_cached(copied: Path) -> None:
    shutil.move(copied / "outputs", copied / "elsewhere")
    ended = sft(*SMALL, "output_dir=elsewhere", cwd=copied)
    assert ended.code == 0
    assert set(actions(ended.out).values()) == {"cached"}
    assert "elsewhere" in ended.out.split("model: ")[1]


def test_force_runs_a_stage_again_and_keeps_the_others(
    copied: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifest(copied, "evaluate")["created"]
    monkeypatch.chdir(copied)
    planned = plan(load(*SMALL, "force=[evaluate]", "stage=evaluate", "tracking=none"))
    assert {step.stage for step in planned.steps if step.action != "cached"} == {"evaluate"}
    outcome = execute(planned, workers)
    assert outcome.state == "completed", outcome.error
    assert manifest(copied, "evaluate")["created"] > before


def test_a_forced_stage_that_fails_fails_and_loses_nothing(copied: Path) -> None:
    before = manifest(copied, "evaluate")
    (weights,) = (copied / "outputs" / "stages" / "train").glob("*/adapter/adapter_model.safetensors")
    weights.write_bytes(b"\0" * weights.stat().st_size)
    ended = sft(*SMALL, "force=[evaluate]", "stage=evaluate", "tracking=none", cwd=copied)
    assert ended.code == 1, ended.said
    assert "evaluate" in ended.err
    assert "stage.log" in ended.err
    assert "the same command goes on" in ended.err
    assert manifest(copied, "evaluate") == before


def test_a_missing_file_is_said_and_made_again(copied: Path) -> None:
    (path,) = (copied / "outputs" / "stages" / "evaluate").glob("*/scores.json")
    path.unlink()
    ended = sft(*SMALL, "dry_run=true", cwd=copied)
    assert actions(ended.out)["evaluate"] == "run"
    assert "damaged or missing" in ended.out


def test_a_moved_run_folder_does_not_matter(copied: Path) -> None:
    shutil.rmtree(copied / "outputs" / "runs")
    ended = sft(*SMALL, cwd=copied)
    assert ended.code == 0
    assert "model: " in ended.out


def test_from_python_without_a_main_guard(copied: Path) -> None:
    script = copied / "script.py"
    script.write_text(
        "from sft_runner import load, run\n"
        f"outcome = run(load(*{SMALL!r}, 'force=[baseline]', 'stage=evaluate'))\n"
        "print(outcome.state, sorted(outcome.manifests), outcome.metrics['base.loss'] > 0)\n"
    )
    ended = subprocess.run([sys.executable, script], cwd=copied, capture_output=True, text=True, timeout=300)
    assert "completed ['baseline', 'evaluate', 'prepare', 'train'] True" in ended.stdout, ended.stderr
