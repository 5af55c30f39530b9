"""When memory runs out: the same rows in smaller pieces, said and remembered, and an end that says what is left."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from random_models import Reports, chat_row, write_model, write_rows
from sft_runner.errors import MachineError
from sft_runner.model.memory import ran_out
from sft_runner.training.attempts import load
from sft_runner.training.memory import Rung
from sft_runner.training.passes import Layout
from trainings import LONGEST, digest, finish, killed, messages, run_out, train, written
from trainings import processes as forked

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN: dict[str, Any] = {"lora__lora_dropout": 0.0, "train__logging_steps": 1}
"""Dropout draws its random numbers for each micro-batch, so only without it curves can be compared."""
WIDE = {**PLAIN, "hardware__per_device_train_batch_size": 8}
DOWN = "goes on with micro-batch 4, the same 8 rows in a step"


def out_of_memory(monkeypatch: pytest.MonkeyPatch, *how: Any, **more: Any) -> None:
    from sft_runner.training.trainer import Trainer

    monkeypatch.setattr(Trainer, "compute_loss", run_out(*how, **more))


def test_the_same_curve_in_smaller_pieces(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(world, tmp_path / "whole", **WIDE)
    out_of_memory(monkeypatch, 400, 17)
    reports = Reports()
    result = train(world, tmp_path / "train", reports, **WIDE)
    metrics, found = result.metrics, written(tmp_path / "train")
    assert (metrics["micro_batch"], metrics["accumulation"], metrics["steps"]) == (2, 4, 20)
    assert (metrics["out_of_memory"], metrics["stopped_by"]) == (2, "steps")
    one, other = (written(tmp_path / name)["logged"] for name in ("train", "whole"))
    for entry, expected in zip(one, other, strict=True):
        assert entry["step"] == expected["step"]
        assert entry["num_input_tokens_seen"] == expected["num_input_tokens_seen"]  # the same rows in each step
        assert entry["loss"] == pytest.approx(expected["loss"], abs=1e-4)
    first = f"out of memory at step 18 with micro-batch 8: {DOWN}"
    assert result.notes[0] == first
    assert first in messages(reports)
    assert messages(reports).count("goes on from step 15") == 2
    assert found["out_of_memory"][0] == {
        "hardware": "",
        "top": {"micro_batch": 8, "activation_checkpointing": "none", "eval_batch": 16},
        "left": {"micro_batch": 8, "activation_checkpointing": "none", "eval_batch": 16},
        "taken": {"micro_batch": 4, "activation_checkpointing": "none", "eval_batch": 16},
        "step": 17,
        "error": "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "resumed": 0,
    }
    assert found["resumed"] == []  # nobody interrupted it
    assert not [sentence for sentence in found["story"] if "interrupted" in sentence]
    assert "peak_memory_gb" not in metrics  # of the process, so of what did not fit
    page = (tmp_path / "train" / "report.html").read_text()
    assert "out of memory at step 18 with micro-batch 8" in page


def test_before_the_first_checkpoint_it_starts_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(world, tmp_path / "half", **{**PLAIN, "hardware__per_device_train_batch_size": 4})
    out_of_memory(monkeypatch, 4 * LONGEST)
    result = train(world, tmp_path / "train", **WIDE)
    assert result.metrics["micro_batch"] == 4
    assert digest(tmp_path / "train") == digest(tmp_path / "half")


def test_padded_too(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    padded = {**WIDE, "train__packing": False, "train__max_steps": 8}
    train(world, tmp_path / "whole", **padded)
    out_of_memory(monkeypatch, 2 * LONGEST, 4)
    result = train(world, tmp_path / "train", **padded)
    assert (result.metrics["micro_batch"], result.metrics["accumulation"]) == (2, 4)
    one, other = (written(tmp_path / name)["logged"] for name in ("train", "whole"))
    assert [entry["loss"] for entry in one] == pytest.approx([entry["loss"] for entry in other], abs=1e-4)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")  # TRL's selective one
def test_checkpointing_comes_after_a_micro_batch_of_one(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory(monkeypatch, 0, unless="full")
    changes = {**PLAIN, "hardware__per_device_train_batch_size": 2, "train__max_steps": 2}
    result = train(world, tmp_path / "train", **changes)
    assert (result.metrics["micro_batch"], result.metrics["activation_checkpointing"]) == (1, "full")
    assert [note.partition("goes on with ")[2] for note in result.notes] == [
        "micro-batch 1, the same 8 rows in a step",
        "micro-batch 1 and selective activation checkpointing, the same 8 rows in a step",
        "micro-batch 1 and full activation checkpointing, the same 8 rows in a step",
    ]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_the_end_of_the_ladder_names_what_is_left(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory(monkeypatch, 0)
    changes = {"hardware__per_device_train_batch_size": 1, "lora__r": 16, "data__max_length": 512}
    with pytest.raises(MachineError, match="out of memory while training: CUDA out of memory") as raised:
        train(world, tmp_path / "train", **changes)
    options = [
        option.split(" ")[0] for option in raised.value.hint.removeprefix("try, one after the other: ").split(", ")
    ]
    assert options == ["quantization.bits=4", "data.max_length=256", "lora.r=4"]  # the other two were taken already
    assert "saves about" in raised.value.hint
    assert not (tmp_path / "train" / "adapter").exists()


def test_a_model_that_does_not_fit_is_not_loaded_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_runner.training import assembly

    loads = []

    def full(_: Any) -> None:
        loads.append(1)
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(assembly, "load_trainable", full)
    with pytest.raises(MachineError, match="out of memory while the model was loaded") as raised:
        train(world, tmp_path / "train", data__max_length=512)
    assert "quantization.bits=4" in raised.value.hint
    assert len(loads) == 1


def narrow(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Memory for so many held-out rows at once; returns how many were tried, time after time."""
    from sft_runner.training.trainer import Trainer

    tried: list[int] = []
    evaluate = Trainer.evaluate

    def full(_: Any, __: Any, given: dict[str, Any]) -> None:
        tried.append(len(given["input_ids"]))
        if tried[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def evaluating(self: Any) -> Any:
        handle = self.model.register_forward_pre_hook(full, with_kwargs=True)
        try:
            return evaluate(self)
        finally:
            handle.remove()

    monkeypatch.setattr(Trainer, "evaluate", lambda self, *_, **__: evaluating(self))
    return tried


def test_held_out_rows_are_scored_in_smaller_pieces(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, reports = narrow(monkeypatch, 2), Reports()
    changes = {"train__eval_steps": 0.5, "train__max_steps": 2, "hardware__per_device_eval_batch_size": 6}
    result = train(world, tmp_path / "train", reports, **changes)
    told = "out of memory at the held-out rows after step 1 with 6 at once: goes on with 3"
    assert tried[:2] == [6, 3]
    assert max(tried[3:]) <= 2  # the second look does not begin at the top
    assert told in messages(reports)
    assert result.notes[0] == told
    assert written(tmp_path / "train")["story"][0] == told
    assert result.metrics["out_of_memory"] == 2


def test_one_held_out_row_that_does_not_fit_ends_it_at_once(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch, 0)
    changes = {"train__eval_steps": 0.5, "train__max_steps": 2, "hardware__per_device_eval_batch_size": 2}
    reports = Reports()
    with pytest.raises(MachineError, match="out of memory while scoring held-out rows: CUDA out of memory"):
        train(world, tmp_path / "train", reports, **changes)
    assert not [told for told in messages(reports) if "micro-batch" in told]


def test_out_of_memory_before_the_checkpoint_is_read(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_runner.training.trainer import Trainer

    out_of_memory(monkeypatch, 400, 17)
    load_from, loads = Trainer._load_from_checkpoint, []

    def loading(self: Any, *some: Any) -> None:
        loads.append(1)
        if len(loads) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        load_from(self, *some)

    monkeypatch.setattr(Trainer, "_load_from_checkpoint", loading)
    train(world, tmp_path / "train", **WIDE)
    assert [one["step"] for one in written(tmp_path / "train")["out_of_memory"]] == [17, 15]


@pytest.mark.slow
def test_killed_on_the_ladder(world: Path, tmp_path: Path) -> None:
    """The next attempt does not begin at the top; another plan for the machine does."""
    context, folder = forked(), tmp_path / "train"
    train(world, tmp_path / "whole", **WIDE)
    killed(context, world, folder, "descent:1", out_of_memory=(4 * LONGEST, 7), **WIDE)
    assert load(folder / "attempts.json").descents[0].taken == Rung(4, "none", 16)
    finish(context, world, folder, 15, out_of_memory=(4 * LONGEST, 0), **WIDE)  # one more descent would be seen
    found = written(folder)
    assert (found["metrics"]["micro_batch"], found["metrics"]["out_of_memory"]) == (4, 1)
    assert found["notes"][0].endswith(DOWN)
    assert found["story"] == [found["notes"][0], "training was interrupted and went on from step 15"]
    for entry, expected in zip(found["logged"], written(tmp_path / "whole")["logged"], strict=True):
        assert entry["loss"] == pytest.approx(expected["loss"], abs=1e-4)


def cramped(world: str, folder: str, spare: int) -> None:
    """A training in a process that gets at most `spare` bytes more than it has when its first step begins."""
    from sft_runner.training.trainer import Trainer

    torch.set_num_threads(1)
    real = Trainer.training_step

    def training_step(self: Any, *more: Any) -> Any:
        if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))
        return real(self, *more)

    Trainer.training_step = training_step  # type: ignore[method-assign]
    train(Path(world), Path(folder), **LONG)


LONG: dict[str, Any] = {
    **PLAIN,
    "train__batch_size": 64,
    "hardware__per_device_train_batch_size": 64,
    "train__max_steps": 3,
}


@pytest.mark.slow
def test_a_machine_that_really_has_no_more(tmp_path: Path) -> None:
    write_model(tmp_path / "base")
    write_rows(tmp_path / "prepare", [chat_row(f"Say {i}", "abcdef" * 35, i) for i in range(96)])
    train(tmp_path, tmp_path / "whole", **LONG)
    process = forked().Process(target=cramped, args=(str(tmp_path), str(tmp_path / "train"), 48 * 2**20))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    found = written(tmp_path / "train")
    assert found["metrics"]["out_of_memory"] >= 1
    assert found["metrics"]["micro_batch"] < 64
    assert any(sign in found["out_of_memory"][0]["error"] for sign in ("can't allocate memory", "MemoryError", "alloc"))
    one, other = found["logged"], written(tmp_path / "whole")["logged"]
    assert [entry["loss"] for entry in one] == pytest.approx([entry["loss"] for entry in other], abs=1e-4)


def test_a_lesson_holds_for_the_same_plan_only(tmp_path: Path) -> None:
    attempts = load(tmp_path / "attempts.json")
    (tmp_path / "attempts.json").write_text(
        json.dumps(
            {
                "seconds": 12.5,
                "resumed": [6],
                "descents": [
                    {
                        "hardware": "rtx3060",
                        "top": {"micro_batch": 8, "activation_checkpointing": "none"},
                        "left": {"micro_batch": 8, "activation_checkpointing": "none"},
                        "taken": {"micro_batch": 4, "activation_checkpointing": "none"},
                        "step": 0,
                        "error": "full",
                    }
                ],
                "divergences": [{"step": 3, "what": "the loss is nan", "good": 0}],
            }
        )
    )
    attempts = load(tmp_path / "attempts.json")
    assert (attempts.seconds, attempts.resumed, attempts.divergences[0].step) == (12.5, [6], 3)
    assert attempts.rung("rtx3060", Rung(8, "none")) == Rung(4, "none")
    assert attempts.rung("a100", Rung(8, "none")) == Rung(8, "none")
    assert attempts.rung("rtx3060", Rung(2, "full")) == Rung(2, "full")
    attempts.write()
    assert load(tmp_path / "attempts.json") == attempts
    (tmp_path / "attempts.json").write_text('{"descents": [{"no": 1}]}')
    assert load(tmp_path / "attempts.json").descents == []


@pytest.mark.parametrize(
    ("rung", "size", "lower"),
    [
        (Rung(16, "none"), 16, Rung(8, "none")),
        (Rung(5, "none"), 15, Rung(1, "none")),  # a divisor of the step's rows
        (Rung(6, "full"), 12, Rung(3, "full")),
        (Rung(1, "none"), 8, Rung(1, "selective")),
        (Rung(1, "selective"), 8, Rung(1, "full")),
        (Rung(1, "full"), 8, None),
    ],
)
def test_rungs(rung: Rung, size: int, lower: Rung | None) -> None:
    assert rung.lower(size) == lower


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([154] * 8, [4, 2, 1]),
        ([40] * 8, [2, 1]),  # 4 rows of full length have more positions than all of these
        ([154, *[40] * 7], [1]),  # and so have 2
        ([154, *[5] * 7], []),  # the long row by itself is the largest pass on every rung
    ],
)
def test_a_rung_that_makes_no_pass_smaller_is_left_out(lengths: list[int], expected: list[int]) -> None:
    def largest(rows: int) -> int:
        return Layout(rows=rows, length=154, packing=True).largest(lengths)

    rung, found = Rung(8, "none"), []
    while rung.activation_checkpointing == "none":
        lower = rung.lower(8, largest)
        assert lower is not None
        rung = lower
        found += [rung.micro_batch] if rung.activation_checkpointing == "none" else []
    assert found == expected
    assert rung == Rung(1, "selective")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error: Exception, expected: bool) -> None:
    assert ran_out(error) is expected
