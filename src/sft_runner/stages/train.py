"""Train with TRL's `SFTTrainer` on prepared rows.

Killed at any moment, the next attempt goes on from the newest whole checkpoint and ends with the same bits on the CPU.
Where memory runs out, the same rows are fed in smaller pieces; where training goes wrong, it ends and says where.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config
from sft_runner.config.schema_train import Train as Settings
from sft_runner.disk import read_json, write_json
from sft_runner.errors import MachineError
from sft_runner.hardware import fit
from sft_runner.stages.stage import Report, Result
from sft_runner.training import checkpoints
from sft_runner.training.attempts import Attempts, load
from sft_runner.training.divergence import Diverged, Divergence
from sft_runner.training.ending import BUDGET, DIVERGENCE, after_divergence, conclude
from sft_runner.training.looks import best, evaluated
from sft_runner.training.memory import Descent, OutOfMemory, Rung, first_line, free, ran_out, remedies, watched
from sft_runner.training.output import ADAPTER, MODEL, trained, write_trained

if TYPE_CHECKING:
    from sft_runner.training.assembly import Assembly

CHECKPOINTS, ATTEMPTS, TRAINING = "checkpoints", "attempts.json", "training.json"


class Train:
    """A PEFT adapter in `adapter/`, or a whole model in `model/`; in `training.json` what happened step by step."""

    name = "train"
    version = 1
    reads: tuple[str, ...] = ("adapter", "quantization", "lora", "train", "hardware")
    inputs: tuple[str, ...] = ("prepare",)
    model = "weights"
    data = False
    gpu = True
    keeps: tuple[str, ...] = (CHECKPOINTS, ATTEMPTS, ADAPTER, MODEL, TRAINING)

    def execute(self, config: Config, inputs: Mapping[str, Path], folder: Path, report: Report) -> Result:
        """Train, or go on with what an earlier attempt left; weights that are already complete are kept."""
        from sft_runner.training import report as page

        done = _finished(folder, trained(config))
        if done is None:
            shutil.rmtree(folder / trained(config), ignore_errors=True)
            _use_one_card(config, report)
            attempts = load(folder / ATTEMPTS)
            done = _until_it_fits(_Job(config, inputs["prepare"], folder, attempts, report))
        told = done["metrics"] | {
            "descents": [one["step"] for one in done["out_of_memory"]],
            "resumed": done["resumed"],
        }
        pages = page.write(folder, config, told, done["logged"], done["evaluated"], done["story"])
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        (folder / ATTEMPTS).unlink(missing_ok=True)
        small = [] if config.adapter == "none" else [ADAPTER]
        return Result(done["metrics"], notes=done["notes"], artifacts=[*small, TRAINING, *pages])


@dataclass(frozen=True)
class _Job:
    """What all attempts at one training have in common."""

    config: Config
    prepared: Path
    folder: Path
    attempts: Attempts
    report: Report

    @property
    def size(self) -> int:
        """Rows in a step."""
        return self.config.train.batch_size


def _until_it_fits(job: _Job) -> dict[str, Any]:
    """Attempts that take less memory each time, until one has brought trained weights to the disk."""
    from sft_runner.training.story import warnings

    hardware, attempts = job.config.hardware, job.attempts
    level = "none" if hardware.activation_checkpointing == "auto" else hardware.activation_checkpointing
    top = Rung(fit(job.size, hardware.per_device_train_batch_size or job.size).micro_batch, level)
    rung = attempts.rung(hardware.name, top)
    for sentence in warnings(attempts, job.size):
        job.report(message=sentence)
    while True:
        settled = replace(
            hardware,
            per_device_train_batch_size=rung.micro_batch,
            activation_checkpointing=rung.activation_checkpointing,
        )
        here = replace(job, config=replace(job.config, hardware=settled))
        try:
            return _attempt(here)
        except OutOfMemory as full:
            lower = rung.lower(job.size)
            if lower is None:
                raise _no_memory(here.config, "while training", full.error) from full
            descent = Descent(hardware.name, top, rung, lower, full.step, full.error)
        attempts.descents.append(descent)
        attempts.write()
        job.report(message=descent.told(job.size))
        rung = lower
        free()


def _attempt(job: _Job) -> dict[str, Any]:
    """One attempt: build, train, choose whose weights are kept, write them; returns what `training.json` says.

    Raises `OutOfMemory` where the same rows may still fit in smaller pieces.
    """
    from sft_runner.model import adapters
    from sft_runner.training import figures, story
    from sft_runner.training.assembly import build

    config, attempts, taken = job.config, job.attempts, job.folder / CHECKPOINTS
    batch = fit(job.size, config.hardware.per_device_train_batch_size or job.size)
    newest = _newest(taken, config.train)
    with _loading_explained(config):
        made = build(config, batch, job.prepared, taken, attempts, job.report)
    trainer = made.trainer
    job.report(message=figures.told(figures.sizes(trainer, config)))
    with watched(trainer):
        if trainer.layout.packing and trainer.layout.flat and newest is None:
            _check_packs(made, config, job.report)
        diverged = _run(made, newest, attempts, job.report)
    if diverged:
        after_divergence(diverged, config, taken, attempts, trainer.state.max_steps)
    ending = conclude(trainer, config, taken, made.stopping.reason, diverged)
    metrics = figures.metrics(made, config, attempts, ending, batch)
    looks = evaluated(trainer.state.log_history)
    notes = [*adapters.notes(trainer.model), *story.notes(config.train, attempts, ending, job.size)]
    write_trained(trainer, config, job.folder)
    done = {
        "metrics": metrics,
        "logged": figures.losses(trainer),
        "evaluated": looks,
        "out_of_memory": [asdict(descent) for descent in attempts.descents],
        "resumed": attempts.resumed,
        "notes": notes,
        "story": story.story(config.train, attempts, notes, best(looks, config.train.early_stopping.metric)),
        "files": checkpoints.settle(job.folder / trained(config)),
    }
    write_json(job.folder / TRAINING, done)
    return done


def _run(made: "Assembly", newest: tuple[int, Path] | None, attempts: Attempts, report: Report) -> Divergence | None:
    """Train to the end, from the newest checkpoint where there is one; returns what went wrong, if anything did."""
    if newest is None:
        checkpoint = None
    else:
        step, checkpoint = newest
        report(message=f"goes on from step {step}")
        attempts.resumed.append(step)
        attempts.write()
        if made.stopping.out_of_time:  # an earlier attempt stopped there, and was killed before it could write
            made.restore(checkpoint)
            made.stopping.reason = BUDGET
            return None
    try:
        made.trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Diverged as error:
        attempts.tick()
        made.stopping.reason = DIVERGENCE
        return error.found
    return None


def _newest(folder: Path, train: Settings) -> tuple[int, Path] | None:
    """The checkpoint to go on from: the newest whole one, from which the best look's weights can still be had."""
    newest = checkpoints.clean(folder)
    while newest and train.load_best_model_at_end:
        state = read_json(newest[1] / "trainer_state.json") or {}
        found = best(evaluated(state.get("log_history", [])), train.early_stopping.metric)
        if found is None or checkpoints.whole(folder, found["step"]):
            break
        checkpoints.discard(folder, after=found["step"] - 1)
        newest = checkpoints.clean(folder)
    return newest


def _finished(folder: Path, name: str) -> dict[str, Any] | None:
    """What `training.json` says where an earlier attempt completed its weights before it was killed."""
    found = read_json(folder / TRAINING)
    if isinstance(found, dict) and checkpoints.fits(folder / name, found.get("files", {})):
        return found
    return None


def _check_packs(made: "Assembly", config: Config, report: Report) -> None:
    """Rows in one flat row must not see each other."""
    from sft_runner.training.isolation import CHECKED, check_isolated

    exact = config.hardware.dtype == "float32" and config.quantization.bits == "none"
    rows: Any = made.trainer.train_dataset
    batch = made.trainer.data_collator(rows.select(range(min(CHECKED, len(rows)))).to_list())
    difference = check_isolated(made.trainer.model, batch, exact)
    report(message=f"packed rows are the same as alone, logits differ by at most {difference:.1e}")


def _use_one_card(config: Config, report: Report) -> None:
    """One process trains on one card; `SFTTrainer` refuses to see several."""
    import torch

    count = torch.cuda.device_count() if config.hardware.memory_gb > 0 else 0
    if count > 1:
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        os.environ["CUDA_VISIBLE_DEVICES"] = first
        report(message=f"{count} cards are visible, card {first} is used")


@contextmanager
def _loading_explained(config: Config) -> Iterator[None]:
    """Smaller pieces of a step make no room for a model that does not fit by itself."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise _no_memory(config, "while the model was loaded", first_line(error)) from error


def _no_memory(config: Config, when: str, error: str) -> MachineError:
    """What is left to try, in the order that costs least."""
    return MachineError(f"out of memory {when}: {error}", f"try, one after the other: {', '.join(remedies(config))}")
