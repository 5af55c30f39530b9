"""Training that goes wrong ends, says where, and leaves a checkpoint from before it began."""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from random_models import Reports
from sft_runner.errors import NotFinite, StageFailed
from sft_runner.training import checkpoints
from sft_runner.training.divergence import divergence, good_until
from trainings import digest, messages, train, written

pytestmark = pytest.mark.usefixtures("one_thread")

LEAP: dict[str, Any] = {
    "train__logging_steps": 1,
    "train__save_steps": 2,
    "train__lr_scheduler_type": "constant",
}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are thrown far off from step 12 on, as too high a rate does."""
    from sft_runner.training.trainer import Trainer

    real = Trainer.training_step

    def training_step(self: Any, *more: Any) -> Any:
        if self.state.global_step >= 12:
            for weights in self.model.parameters():
                if weights.requires_grad:
                    weights.data.copy_(torch.linspace(-6, 6, weights.numel()).reshape(weights.shape))
        return real(self, *more)

    monkeypatch.setattr(Trainer, "training_step", training_step)


def test_a_loss_that_is_not_a_number_stops(world: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"the (loss|grad_norm) is (nan|inf) at step \d+ of 20") as raised:
        train(world, tmp_path / "train", train__learning_rate=1e30, train__max_grad_norm=0.0, train__logging_steps=1)
    assert "no checkpoint was taken before it began" in raised.value.message
    assert raised.value.hint.startswith("lower train.learning_rate")
    assert "goes on from the start and is likely to end here again" in raised.value.hint
    assert "hardware.dtype" not in raised.value.hint  # it is float32 already
    assert checkpoints.latest(tmp_path / "train" / "checkpoints") is None


@pytest.mark.usefixtures("broken")
def test_a_leap_stops_and_the_same_command_says_so(world: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"the loss leapt from .* at step 17 of 20") as raised:
        train(world, tmp_path / "train", **LEAP)
    assert "the last good checkpoint is that of step 10" in raised.value.message
    assert "train.on_divergence=keep" in raised.value.hint
    left = checkpoints.latest(tmp_path / "train" / "checkpoints")
    assert left is not None
    assert left[0] == 10
    reports = Reports()
    with pytest.raises(StageFailed, match="at step 17 of 20"):
        train(world, tmp_path / "train", reports, **LEAP)
    assert any("diverged once already with these settings, last at step 17" in told for told in messages(reports))
    assert "goes on from step 10" in messages(reports)
    with pytest.raises(StageFailed, match="at step 17 of 20"):
        train(world, tmp_path / "train", reports, **LEAP)
    assert any("diverged 2 times already" in told for told in messages(reports))


@pytest.mark.usefixtures("broken")
def test_keep_ends_with_the_last_good_checkpoint(world: Path, tmp_path: Path) -> None:
    result = train(world, tmp_path / "train", train__on_divergence="keep", **LEAP)
    metrics = result.metrics
    assert (metrics["stopped_by"], metrics["steps"], metrics["kept_step"]) == ("divergence", 17, 12)
    assert result.notes[0].startswith("training diverged at step 17 of 20: the loss leapt from")
    assert result.notes[1] == "the weights are those of step 12, the last good one"
    last = [entry["loss"] for entry in written(tmp_path / "train")["logged"] if entry["step"] in (11, 12)]
    assert metrics["loss"] == pytest.approx(sum(last) / 2)  # a tenth of the steps
    train(world, tmp_path / "twelve", **{**LEAP, "train__max_steps": 12})
    assert digest(tmp_path / "train") == digest(tmp_path / "twelve")


@pytest.mark.usefixtures("broken")
def test_what_is_kept_hangs_on_no_setting_that_does_not_count(world: Path, tmp_path: Path) -> None:
    changes = {**LEAP, "train__save_steps": 5, "train__logging_steps": 7}
    metrics = train(world, tmp_path / "train", train__on_divergence="keep", **changes).metrics
    assert (metrics["stopped_by"], metrics["kept_step"]) == ("divergence", 12)
    other = train(world, tmp_path / "other", train__on_divergence="keep", **LEAP).metrics
    assert digest(tmp_path / "train") == digest(tmp_path / "other")
    assert metrics["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.usefixtures("broken")
def test_a_good_checkpoint_outlives_the_limit(world: Path, tmp_path: Path) -> None:
    """One checkpoint is kept and one is taken at each step: three bad ones would replace the good one."""
    changes = {**LEAP, "train__save_steps": 1, "train__save_total_limit": 1}
    result = train(world, tmp_path / "train", train__on_divergence="keep", **changes)
    assert result.metrics["kept_step"] == 12


def test_held_out_rows_whose_loss_is_not_a_number(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sft_runner.training import assembly

    kind: type[StageFailed] = NotFinite

    def overflows(*_: Any) -> Any:
        def look(*_: Any) -> dict[str, float]:
            raise kind("the loss on the held-out row rows.jsonl:1 is nan", "other words")

        return look

    monkeypatch.setattr(assembly, "look", overflows)
    with pytest.raises(StageFailed, match="the loss on the held-out row .* is nan at step 10 of 20") as raised:
        train(world, tmp_path / "train", train__eval_steps=0.5)
    assert "the last good checkpoint is that of step 3" in raised.value.message
    assert raised.value.hint.startswith("lower train.learning_rate")
    kind = StageFailed  # such as a tokenizer without an end: no word of divergence
    with pytest.raises(StageFailed, match="^the loss on the held-out row rows.jsonl:1 is nan$"):
        train(world, tmp_path / "other", train__eval_steps=0.5)


# --- from the curve alone -------------------------------------------------------------------------------------------


def logged(losses: Sequence[float]) -> list[dict[str, Any]]:
    return [{"step": 10 * place, "loss": loss, "grad_norm": 1.0} for place, loss in enumerate(losses, 1)]


def seen(losses: Sequence[float]) -> tuple[int, int] | None:
    """Where a divergence is seen first, and the last step that was still good."""
    entries = logged(losses)
    for count in range(1, len(entries) + 1):
        found = divergence(entries[:count])
        if found:
            return found.step, found.good
    return None


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0, 1.5, 1.0, 0.9, 0.8, 0.7], None),
        ([0.5, 0.4, 0.3, 9.0, 9.0, 0.3, 9.0, 0.3], None),  # hard batches, or rows that make no sense
        ([2.0, 1.0, 0.5, 2.4, 0.5, 0.5, 0.5], None),  # a hard batch
        ([0.02, 0.01, 0.01, 0.2, 0.4, 0.3], None),  # 30 times as much, but near zero
        ([0.5] * 20 + [6.0] * 20, (250, 200)),
        ([0.5] * 20 + [6.0] * 4 + [3.0, 1.2, 0.6] + [0.5] * 20, None),  # it recovers
        ([4.0] * 3 + [0.5] * 20 + [3.0] * 20, (350, 230)),  # not above the start, so it takes longer
        ([1.0] * 12 + [1.5, 2.2, 3.1, 3.8, 4.5, 5.0, 5.5], (180, 130)),  # a slow climb
        ([9.0] * 20 + [2.0] * 20, None),
        ([2.0, 1.0, math.nan], (30, 20)),
        ([2.0, 1.0, 1.0, 8.0, math.nan], (50, 30)),
        ([math.inf], (10, 0)),
    ],
)
def test_what_is_a_divergence(losses: list[float], expected: tuple[int, int] | None) -> None:
    assert seen(losses) == expected


def test_a_gradient_that_is_not_a_number() -> None:
    entries = [*logged([1.0, 1.0]), {"step": 30, "loss": 1.0, "grad_norm": math.inf}]
    found = divergence(entries)
    assert found is not None
    assert (found.what, found.good) == ("the grad_norm is inf", 20)
    assert divergence(entries, overflows=True) is None


@pytest.mark.parametrize(("start", "end", "noise"), [(6.0, 0.05, 0.3), (2.0, 1.2, 0.4), (1.0, 1.0, 0.3)])
def test_noise_is_no_divergence(start: float, end: float, noise: float) -> None:
    """Each loss is that of one step."""
    source = random.Random(0)
    for _ in range(20):
        curve = (end + (start - end) * math.exp(-step / 40) for step in range(300))
        assert seen([max(loss + source.gauss(0, noise), 0.001) for loss in curve]) is None


def lognormal(source: random.Random, spread: float) -> float:
    return source.lognormvariate(0, spread)


def two_kinds(source: random.Random, hard: float) -> float:
    return source.gauss(2.0, 0.3) if source.random() < hard else abs(source.gauss(0.25, 0.1))


@pytest.mark.parametrize(("draw", "value"), [(lognormal, 0.5), (lognormal, 0.9), (two_kinds, 0.3), (two_kinds, 0.15)])
def test_single_rows_of_mixed_sources_are_no_divergence(
    draw: Callable[[random.Random, float], float], value: float
) -> None:
    for seed in range(40):
        source = random.Random(seed)
        assert seen([draw(source, value) for _ in range(200)]) is None
    assert seen([draw(source, value) for _ in range(100)] + [source.gauss(6, 0.5) for _ in range(20)]) is not None


def test_stretches_have_the_same_loss_however_often_it_is_logged() -> None:
    losses = [0.5] * 40 + [6.0] * 20
    single = [{"step": step, "loss": loss} for step, loss in enumerate(losses, 1)]
    pairs = [{"step": step, "loss": losses[step - 1]} for step in range(2, 61, 2)]
    found = [divergence(entries, span=2) for entries in (single, pairs)]
    assert found[0] == found[1]
    assert good_until(single, span=2) == good_until(pairs, span=2)


def test_what_is_kept_is_never_after_what_is_found() -> None:
    source = random.Random(1)
    for _ in range(200):
        losses = [3 * math.exp(-step / 10) + abs(source.gauss(0, 0.3)) for step in range(source.randrange(12, 30))]
        losses += [losses[-1] * source.uniform(1.0, 2.0) ** place for place in range(12)]
        found = seen(losses)
        if found:
            before = logged(losses)[: found[0] // 10 - 1]
            assert good_until(before) <= found[1]
