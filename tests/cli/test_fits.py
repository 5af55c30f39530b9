"""`sft-runner fits`: every shipped method on every card with every model; and the same pairs through the pipeline."""

import json
from pathlib import Path

import pytest
from tests.command import sft

from sft_runner import load, plan
from sft_runner.config.choices import choices
from sft_runner.cost.survey import Pair, survey
from sft_runner.errors import SftError


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return list(survey([], [], []))


def test_no_pair_crashes_and_each_refusal_has_a_reason(pairs: list[Pair]) -> None:
    assert len(pairs) == len(choices("model")) * len(choices("hardware")) * len(choices("method"))
    for pair in pairs:
        if pair.fits:
            assert pair.reason == ""
            assert pair.micro_batch is not None
            assert 16 % pair.micro_batch == 0
            assert pair.checkpointing in ("none", "selective", "full")
        else:
            assert pair.reason in ("memory", "conflict", "model")
            assert pair.micro_batch is None
        memory = choices("hardware")[pair.hardware].get("memory_gb", 0)
        if memory and pair.gb is not None:  # rounded to 0.1
            assert pair.gb <= memory * 0.95 + 0.05 if pair.fits else pair.gb >= memory * 0.95 - 0.05


def test_every_shipped_model_is_planned_offline(pairs: list[Pair]) -> None:
    assert {pair.reason for pair in pairs} <= {"", "memory", "conflict"}
    fitting = {pair.model for pair in pairs if pair.fits and pair.hardware != "cpu"}
    assert fitting == set(choices("model"))


def test_the_pipeline_agrees(pairs: list[Pair]) -> None:
    """The same pairs through Hydra."""
    for pair in pairs[:: max(1, len(pairs) // 40)]:
        assert through_hydra(pair) == ((pair.micro_batch, pair.checkpointing) if pair.fits else None), pair


def through_hydra(pair: Pair) -> tuple[int | None, str] | None:
    """Micro-batch and checkpointing of a pair as a plan settles them; None where it is refused."""
    words = [f"{group}={getattr(pair, group)}" for group in ("model", "hardware", "method")]
    try:
        hardware = plan(load("data.path=embedded:dates", *words)).run.config.hardware
    except SftError:
        return None
    return hardware.per_device_train_batch_size, hardware.activation_checkpointing


def test_the_command(tmp_path: Path) -> None:
    shown = sft("fits", "qwen2.5-7b", "tiny", "--hardware", "rtx3060", "--hardware", "h200", cwd=tmp_path)
    assert shown.code == 0, shown.said
    lines = shown.out.splitlines()
    assert [line.split()[0] for line in lines if line.split()[1:] == ["rtx3060", "h200"]] == sorted(choices("method"))
    assert any(line.startswith("qwen2.5-7b") and "no, " in line for line in lines)


def test_as_json(tmp_path: Path) -> None:
    words = ["fits", "qwen2.5-7b", "--hardware", "rtx3060", "--method", "full", "--method", "qlora", "--json"]
    shown = sft(*words, cwd=tmp_path)
    found = json.loads(shown.out)
    assert [(pair["method"], pair["fits"], pair["reason"]) for pair in found] == [
        ("full", False, "memory"),
        ("qlora", True, ""),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["qwen2.5-7"], "qwen2.5-7b"),
        (["--hardware", "rtx3061"], "rtx3060"),
        (["--method", "qlor"], "qlora"),
    ],
)
def test_a_misspelt_name(tmp_path: Path, words: list[str], said: str) -> None:
    shown = sft("fits", *words, cwd=tmp_path)
    assert shown.code == 2
    assert said in shown.err


def test_a_refusal_in_the_pipeline(tmp_path: Path) -> None:
    words = ["recipe=quickstart", "hardware=rtx3060", "model=qwen2.5-7b", "method=full", "dry_run=true"]
    shown = sft(*words, cwd=tmp_path)
    assert shown.code == 2
    assert "does not fit hardware=rtx3060" in shown.err
    assert "what would fit:" in shown.err
    assert "method=qlora" in shown.err
    assert not (tmp_path / "outputs").exists()
