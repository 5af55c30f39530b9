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
from sft_runner.errors import MachineError, NotFinite
from sft_runner.hardware import fit
from sft_runner.merging.proof import KEPT
from sft_runner.model.memory import first_line, ran_out
from sft_runner.stages.stage import Report, Result
from sft_runner.training import checkpoints
from sft_runner.training.attempts import Attempts, load
from sft_runner.training.divergence import Diverged, Divergence
from sft_runner.training.ending import DIVERGENCE, after_divergence, conclude
from sft_runner.training.looks import best, evaluated
from sft_runner.training.memory import Ladder, OutOfMemory, Rung, free, remedies, watched
from sft_runner.training.output import ADAPTER, MODEL, keep_logits, trained, write_trained

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
    data = ""
    gpu = True
    keeps: tuple[str, ...] = (CHECKPOINTS, ATTEMPTS, ADAPTER, MODEL, KEPT, TRAINING)

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
    rows = fit(job.size, hardware.per_device_train_batch_size or job.size).micro_batch
    ladder = Ladder(
        hardware.name, Rung(rows, level, hardware.per_device_eval_batch_size), job.size, attempts, job.report
    )
    for sentence in warnings(attempts, job.size):
        job.report(message=sentence)
    first = True
    while True:
        rung = ladder.rung
        settled = replace(
            hardware,
            per_device_train_batch_size=rung.micro_batch,
            activation_checkpointing=rung.activation_checkpointing,
        )
        here = replace(job, config=replace(job.config, hardware=settled))
        try:
            return _attempt(here, ladder, first)
        except OutOfMemory as full:
            rung = ladder.rung  # a look may have taken a step down
            lower, step, error = rung.lower(job.size, full.largest), full.step, full.error
            if lower is None:
                raise _no_memory(here.config, "while training", error) from full
        ladder.descend(lower, step, error)
        first = False
        free()


def _attempt(job: _Job, ladder: Ladder, first: bool) -> dict[str, Any]:
    """One attempt: build, train, choose whose weights are kept, write them; returns what `training.json` says.

    `first` says that it is the first one of this process. Raises `OutOfMemory` where the same rows may still fit in
    smaller pieces.
    """
    from sft_runner.model import adapters
    from sft_runner.training import figures, isolation, story
    from sft_runner.training.assembly import build

    config, attempts, taken = job.config, job.attempts, job.folder / CHECKPOINTS
    batch = fit(job.size, config.hardware.per_device_train_batch_size or job.size)
    newest = _newest(taken, config.train)
    with _loading_explained(config):
        made = build(config, batch, job.prepared, taken, ladder)
    trainer = made.trainer
    job.report(message=figures.told(figures.sizes(trainer, config)))
    if newest and first:
        attempts.resumed.append(newest[0])
        attempts.write()
    with watched(trainer, newest[0] if newest else 0):
        remarks = isolation.keep_rows_apart(trainer, config)
        diverged = _run(made, newest, job.report)
    if diverged:
        after_divergence(diverged, config, taken, attempts, trainer.state.max_steps)
    ending = conclude(trainer, config, taken, made.stopping.reason, diverged)
    metrics = figures.metrics(made, config, attempts, ending, batch)
    looks = evaluated(trainer.state.log_history)
    if attempts.descents and config.hardware.memory_gb <= 0:
        del metrics["peak_memory_gb"]  # on the CPU it is that of the process, so of what did not fit
    remarks += [*adapters.notes(trainer.model), *story.notes(config.train, attempts, ending)]
    keep_logits(trainer, config, job.prepared, job.folder)
    write_trained(trainer, config, job.folder)
    done = {
        "metrics": metrics,
        "logged": figures.losses(trainer),
        "evaluated": looks,
        "out_of_memory": [asdict(descent) for descent in attempts.descents],
        "resumed": attempts.resumed,
        "notes": [*story.descents(attempts, job.size), *remarks],
        "story": story.story(config.train, attempts, job.size, remarks, looks),
        "files": checkpoints.settle(job.folder / trained(config)),
    }
    write_json(job.folder / TRAINING, done)
    return done


def _run(made: "Assembly", newest: tuple[int, Path] | None, report: Report) -> Divergence | None:
    """Train to the end, from the newest checkpoint where there is one; returns what went wrong, if anything did."""
    if newest is None:
        checkpoint = None
    else:
        step, checkpoint = newest
        report(message=f"goes on from step {step}")
        state = read_json(checkpoint / "trainer_state.json") or {}
        if made.stopping.over(state.get("log_history", [])):  # an attempt ended there, and was killed before it wrote
            made.restore(checkpoint)
            return None
    try:
        made.trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Diverged as error:
        found = error.found
    except NotFinite as error:
        found = made.stopping.diverged_at_look(made.trainer.state, error.message)
    else:
        return None
    made.stopping.attempts.tick()
    made.stopping.reason = DIVERGENCE
    return found


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
