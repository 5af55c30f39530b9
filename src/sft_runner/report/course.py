"""The plan against what happened: stage by stage, and each estimate beside what was measured."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sft_runner.cost.duration import told
from sft_runner.evaluation import gates
from sft_runner.report.record import Record, moment
from sft_runner.store import LOG
from sft_runner.tracking.numbers import is_number

PAGES = {"prepare": "the data in full", "train": "the training in full"}
"""Stages that leave a `report.html` of their own, and what a link to it says."""


@dataclass(frozen=True)
class Stage:
    """One stage of a run."""

    name: str
    """Its name."""
    planned: str
    """`run`, `cached` or `resume`."""
    why: str
    """The plan's reason."""
    state: str
    """What came of it, in words."""
    seconds: str
    """How long the work took, as text; empty where it was not done."""
    fingerprint: str
    """What identifies its output."""
    link: str
    """Its own page or, where it failed, its log: relative to the run folder; empty where there is none."""
    text: str
    """What the link says."""
    notes: list[str]
    """Sentences that the stage left for people."""


def stages(record: Record) -> list[Stage]:
    """Every stage of the plan."""
    steps = record.plan.get("steps") or [{"stage": name} for name in record.stages]
    missing = [step["stage"] for step in steps if step["stage"] not in record.manifests]
    return [_stage(record, step, bool(missing) and step["stage"] == missing[0]) for step in steps]


def figures(record: Record) -> list[tuple[str, str, str]]:
    """What was planned, and what was measured: name, the plan's words, and the measured ones."""
    planned = _planned(record)
    measured = {
        "rows": _rows(record),
        "batch": _batch(record),
        "memory": _memory(record),
        "disk": _disk(record),
        "time": _time(record),
    }
    names = [
        name for name in ("base", "rows", "batch", "memory", "disk", "time") if name in planned or name in measured
    ]
    found = [(name, planned.get(name, ""), measured.get(name, "")) for name in names]
    return [line for line in found if line[1] or line[2]]


def _stage(record: Record, step: Mapping[str, Any], next_one: bool) -> Stage:
    name, planned = str(step["stage"]), str(step.get("action", ""))
    manifest = record.manifests.get(name)
    state = _state(record, name, planned) if manifest else _unfinished(record, name, next_one)
    page, log = record.place(name) / "report.html", record.place(name) / LOG
    link, text = (page, PAGES.get(name, "its page")) if manifest else (log, "its log")
    there = link.is_file() and (bool(manifest) or next_one)
    return Stage(
        name,
        planned,
        str(step.get("why", "")),
        state,
        seconds(manifest.get("seconds")) if manifest else "",
        str(step.get("fingerprint") or (record.known.get("stages") or {}).get(name, "")),
        os.path.relpath(link, record.folder) if there else "",
        text if there else "",
        [str(note) for note in manifest.get("notes") or ()] if manifest else [],
    )


def _state(record: Record, name: str, planned: str) -> str:
    """What came of a stage that is complete. What began before the run was made by another one."""
    if planned == "cached":
        return "cached"
    began, made = moment(record.known.get("started")), moment(record.manifests[name].get("created"))
    if began and made and made < began:
        return "made by another run meanwhile"
    return "done, after it went on" if planned == "resume" else "done"


def _unfinished(record: Record, name: str, next_one: bool) -> str:
    if name in gates.held_back(gates.read({"gates": record.gates}), record.config.get("force") or ()):
        return "not run: a gate failed"
    if not next_one:
        return "not reached"
    return {"failed": "failed", "cancelled": "stopped", "killed": "killed"}.get(record.state, "not complete")


def seconds(value: Any) -> str:
    """A duration as people say it."""
    if not is_number(value):
        return ""
    return f"{value:.1f} s" if value < 60 else told(value)


def counted(number: float, noun: str) -> str:
    """`1 row`, `2,001 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _planned(record: Record) -> dict[str, str]:
    """The plan's lines by the word in front of their colon."""
    lines = (str(fact).partition(":") for fact in record.plan.get("facts") or () if not str(fact).startswith(" "))
    return {name: text.strip() for name, _, text in lines if text.strip()}


def _rows(record: Record) -> str:
    """What was learned."""
    train = record.metrics("train")
    parts = []
    if is_number(train.get("steps")):
        parts.append(counted(train["steps"], "step"))
    if is_number(train.get("tokens")):
        epochs = f" in {train['epochs']:.3g} epochs" if is_number(train.get("epochs")) else ""
        parts.append(f"{counted(train['tokens'], 'token')}{epochs}")
    if (why := train.get("stopped_by", "steps")) != "steps":
        parts.append(f"ended by {why}")
    return ", ".join(parts)


def _batch(record: Record) -> str:
    train = record.metrics("train")
    if not is_number(train.get("micro_batch")):
        return ""
    passes = f"passes of up to {train['micro_batch']} rows, checkpointing {train.get('activation_checkpointing')}"
    out = train.get("out_of_memory")
    return passes + (f"; memory ran out {out} times and it went on in smaller pieces" if out else "")


def _memory(record: Record) -> str:
    peak = record.metrics("train").get("peak_memory_gb")
    return f"{peak:.2f} GB at most while training" if is_number(peak) else ""


def _disk(record: Record) -> str:
    sizes = {stage: sum(file.get("size", 0) for file in files_of(one)) for stage, one in record.manifests.items()}
    parts = ", ".join(f"{stage} {size_of(size)}" for stage, size in sizes.items() if size)
    return f"{size_of(sum(sizes.values()))} kept ({parts})" if parts else ""


def _time(record: Record) -> str:
    """The whole command, and the stages that did work."""
    worked = {stage.name: stage.seconds for stage in stages(record) if stage.state.startswith("done")}
    parts = ", ".join(f"{name} {took}" for name, took in worked.items() if took)
    whole = seconds(record.seconds)
    return f"{whole}: {parts}" if whole and parts else whole


def files_of(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Size and hash of every file of a stage."""
    files = manifest.get("files")
    yield from (file for file in (files.values() if isinstance(files, Mapping) else ()) if isinstance(file, Mapping))


def size_of(size: float) -> str:
    """Bytes as people say them."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= 0.95 * one:
            return f"{size / one:.1f} {unit}"
    return f"{size:.0f} bytes"
