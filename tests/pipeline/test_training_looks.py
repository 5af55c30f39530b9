"""Looks at held-out rows while training: they change nothing, they end it in time, and the best one is kept."""

import math
from pathlib import Path
from typing import Any

import pytest

from random_models import Reports, write_rows
from sft_runner.errors import DataError, UserError
from sft_runner.evaluation.scoring import score
from sft_runner.model import loading
from sft_runner.model.rows import held_out
from sft_runner.stages.stage import Result
from sft_runner.training.figures import final_loss
from sft_runner.training.looks import best, eval_steps, without_improvement
from trainings import digest, finish, killed, sealed, settings, train, written
from trainings import processes as forked

pytestmark = pytest.mark.usefixtures("one_thread")

STOPS: dict[str, Any] = {
    "train__eval_steps": 2,
    "train__early_stopping__patience": 2,
    "train__lr_scheduler_type": "constant",
    "train__learning_rate": 3e-2,
    "train__num_train_epochs": 12,
    "train__save_steps": 5,
    "lora__lora_dropout": 0.1,
}
"""A rate at which held-out rows soon get worse; looks and checkpoints fall on different steps."""


@pytest.fixture(scope="module")
def stopped(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Reports]:
    """A training that ended early, with the best look's weights."""
    folder, reports = tmp_path_factory.mktemp("stopped"), Reports()
    return folder, train(world, folder, reports, train__load_best_model_at_end=True, **STOPS), reports


def test_looks_change_nothing(world: Path, tmp_path: Path) -> None:
    train(world, tmp_path / "plain")
    reports = Reports()
    result = train(world, tmp_path / "looked", reports, train__eval_steps=0.25)
    assert digest(tmp_path / "plain") == digest(tmp_path / "looked")
    looks = written(tmp_path / "looked")["evaluated"]
    assert [entry["step"] for entry in looks] == [5, 10, 15, 20]
    told = [(event["step"], event["eval_loss"]) for event in reports if "eval_loss" in event]
    assert told == [(entry["step"], entry["eval_loss"]) for entry in looks]
    assert result.metrics["best"] == {"step": 20, "loss": looks[-1]["eval_loss"]}


def test_the_last_look_is_what_the_evaluate_stage_finds(world: Path, tmp_path: Path) -> None:
    config = settings(world)
    train(world, tmp_path / "train", train__eval_steps=0.5, train__eval_rows=4)
    model, tokenizer = loading.load_tuned(config, tmp_path / "train"), loading.load_tokenizer(world / "base")
    found = score(model, tokenizer, held_out(world / "prepare", 4), [], 8, 16, Reports())
    assert written(tmp_path / "train")["evaluated"][-1]["eval_loss"] == pytest.approx(found.metrics["loss"], abs=1e-6)


def test_a_generated_metric_is_measured_where_it_is_watched(world: Path, tmp_path: Path) -> None:
    changes = {"train__early_stopping__metric": "exact_match", "evaluate__max_new_tokens": 4, "train__max_steps": 2}
    result = train(world, tmp_path / "train", train__eval_steps=2, **changes)
    (look,) = written(tmp_path / "train")["evaluated"]
    assert look["eval_exact_match"] == result.metrics["best"]["exact_match"] == 0.0
    assert look["eval_loss"] > 0


def test_early_stopping_and_the_best_look(stopped: tuple[Path, Result, Reports]) -> None:
    folder, result, _ = stopped
    looks, metrics = written(folder)["evaluated"], result.metrics
    lowest = min(looks, key=lambda entry: entry["eval_loss"])
    assert metrics["stopped_by"] == "early stopping"
    assert metrics["steps"] == looks[-1]["step"] == lowest["step"] + 4 < 60
    assert metrics["kept_step"] == metrics["best"]["step"] == lowest["step"]
    assert metrics["loss"] == pytest.approx(final_loss(written(folder)["logged"], lowest["step"], 6))
    assert result.notes == [
        f"stopped at step {metrics['steps']} of 60: no better loss on held-out rows in the last 2 looks",
        f"the weights are those of step {lowest['step']}, the best look at held-out rows by loss",
    ]
    assert not (folder / "checkpoints").exists()
    assert not (folder / "attempts.json").exists()


def test_the_kept_weights_are_the_best_looks(world: Path, stopped: tuple[Path, Result, Reports]) -> None:
    folder, result, _ = stopped
    model, tokenizer = loading.load_tuned(settings(world), folder), loading.load_tokenizer(world / "base")
    found = score(model, tokenizer, held_out(world / "prepare", 100), [], 8, 16, Reports())
    assert found.metrics["loss"] == pytest.approx(result.metrics["best"]["loss"], abs=1e-6)


def test_without_load_best_model_the_last_weights_are_kept(
    world: Path, stopped: tuple[Path, Result, Reports], tmp_path: Path
) -> None:
    result = train(world, tmp_path / "train", **STOPS)
    assert result.metrics["steps"] == result.metrics["kept_step"] == stopped[1].metrics["steps"]
    assert digest(tmp_path / "train") != digest(stopped[0])


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["best", "next", "last", "written", "end"])
def test_killed_at_a_look(world: Path, stopped: tuple[Path, Result, Reports], tmp_path: Path, moment: str) -> None:
    """At the best look, at the one after it, at the one that ends it, and when the weights were written."""
    whole, result, _ = stopped
    kept, last = result.metrics["kept_step"], result.metrics["steps"]
    places = {"best": f"look:{kept}", "next": f"look:{kept + 2}", "last": f"look:{last}"}
    context, changes = forked(), {"train__load_best_model_at_end": True, **STOPS}
    killed(context, world, tmp_path / "train", places.get(moment, moment), **changes)
    saved = sealed(tmp_path / "train")
    if moment in ("next", "last", "written"):
        assert kept in saved
    finish(context, world, tmp_path / "train", saved[-1] if saved else None, **changes)
    assert digest(tmp_path / "train") == digest(whole)
    assert written(tmp_path / "train")["evaluated"] == written(whole)["evaluated"]
    assert written(tmp_path / "train")["metrics"]["kept_step"] == kept


@pytest.mark.slow
def test_a_damaged_best_checkpoint_is_made_again(
    world: Path, stopped: tuple[Path, Result, Reports], tmp_path: Path
) -> None:
    whole, result, _ = stopped
    kept, context = result.metrics["kept_step"], forked()
    changes = {"train__load_best_model_at_end": True, **STOPS}
    killed(context, world, tmp_path / "train", f"look:{result.metrics['steps']}", **changes)
    weights = tmp_path / "train" / "checkpoints" / f"checkpoint-{kept}" / "adapter_model.safetensors"
    weights.write_bytes(bytes(len(weights.read_bytes())))
    earlier = [step for step in sealed(tmp_path / "train") if step < kept]
    finish(context, world, tmp_path / "train", max(earlier) if earlier else None, **changes)
    assert digest(tmp_path / "train") == digest(whole)


@pytest.mark.slow
def test_killed_after_the_look_that_ends_it_and_is_best(world: Path, tmp_path: Path) -> None:
    """Each look is better than the one before, but by less than asked for."""
    context, folder = forked(), tmp_path / "train"
    changes = {**STOPS, "train__load_best_model_at_end": True, "train__early_stopping__min_delta": 50.0}
    killed(context, world, folder, "written", **changes)
    assert sealed(folder)[-1] == 6
    finish(context, world, folder, 6, **changes)
    metrics = written(folder)["metrics"]
    assert (metrics["steps"], metrics["stopped_by"]) == (6, "early stopping")
    train(world, tmp_path / "whole", **changes)
    assert digest(folder) == digest(tmp_path / "whole")


@pytest.mark.slow
def test_the_next_attempt_saves_as_often_as_it_is_told(world: Path, tmp_path: Path) -> None:
    context, folder = forked(), tmp_path / "train"
    killed(context, world, folder, "save:9", train__save_steps=3)
    killed(context, world, folder, "save:10", train__save_steps=5)
    assert sealed(folder)[-1] == 6


def test_the_loss_is_that_of_the_last_tenth_however_often_it_is_logged() -> None:
    single = [{"step": step, "loss": float(step)} for step in range(1, 41)]
    fours = [{"step": step, "loss": step - 1.5} for step in range(4, 41, 4)]
    for until in (40, 20, 4):
        assert final_loss(single, until, 4) == final_loss(fours, until, 4) == until - 1.5
    assert math.isnan(final_loss([], 40, 4))


# --- what follows from looks, without a model -----------------------------------------------------------------------


def entries(*losses: float, metric: str = "loss") -> list[dict[str, Any]]:
    return [{"step": 10 * place, f"eval_{metric}": loss} for place, loss in enumerate(losses, 1)]


@pytest.mark.parametrize(
    ("looks", "metric", "min_delta", "count"),
    [
        ((), "loss", 0.0, 0),
        ((3.0, 2.0, 1.0), "loss", 0.0, 0),
        ((3.0, 3.0, 3.0), "loss", 0.0, 2),
        ((1.0, 2.0, 1.5), "loss", 0.0, 2),
        ((1.0, 0.95, 0.9, 0.85), "loss", 0.12, 0),  # small steps add up
        ((1.0, 0.95, 0.95), "loss", 0.1, 2),
        ((0.1, 0.5, 0.4), "exact_match", 0.0, 1),
    ],
)
def test_looks_without_improvement(looks: tuple[float, ...], metric: str, min_delta: float, count: int) -> None:
    assert without_improvement(entries(*looks, metric=metric), metric, min_delta) == count


@pytest.mark.parametrize(
    ("looks", "metric", "step"), [((3.0, 1.0, 1.0), "loss", 20), ((0.1, 0.5, 0.5), "exact_match", 30)]
)
def test_of_the_best_the_one_with_the_lowest_loss_then_the_first(
    looks: tuple[float, ...], metric: str, step: int
) -> None:
    found = best([{"eval_loss": 1 / entry["step"], **entry} for entry in entries(*looks, metric=metric)], metric)
    assert found is not None
    assert found["step"] == step


def test_how_often(world: Path) -> None:
    assert eval_steps(settings(world).train) == 0
    assert eval_steps(settings(world, train__load_best_model_at_end=True).train) == 0.1
    assert eval_steps(settings(world, train__early_stopping__patience=3).train) == 0.1
    assert eval_steps(settings(world, train__early_stopping__patience=3, train__eval_steps=7).train) == 7
    with pytest.raises(UserError, match=r"train\.load_best_model_at_end needs looks"):
        eval_steps(settings(world, train__load_best_model_at_end=True, train__eval_steps=0.0).train)


def test_no_held_out_rows(world: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "prepare", [])
    (tmp_path / "base").symlink_to(world / "base")
    with pytest.raises(DataError, match=r"train\.eval_steps") as raised:
        train(tmp_path, tmp_path / "train", train__eval_steps=2)
    assert "data.held_out" in raised.value.hint
