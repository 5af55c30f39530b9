"""What proves that the model that ships is the one that was trained: merge's proofs and serve's check, as sentences."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sft_runner.disk import read_json
from sft_runner.report.course import counted, seconds
from sft_runner.report.record import Record
from sft_runner.tracking.numbers import flat, is_number


class Proof(NamedTuple):
    """One comparison and what came of it."""

    name: str
    """What was compared."""
    result: str
    """What was found, with its numbers."""


def proofs(record: Record) -> list[Proof]:
    """What merge and serve have proven. A proof that fails stops its run, so all of these were met."""
    merge, serve = record.metrics("merge"), record.metrics("serve")
    return [*(_merged(merge) if merge else ()), *(_served(record, serve) if serve else ())]


def missing(record: Record) -> list[str]:
    """Why proofs are missing, where they are."""
    reached = {"merge": "merging", "serve": "serving"}
    return [
        f"The proofs of {what} are missing: the stage {stage} has not completed in this run."
        for stage, what in reached.items()
        if not record.metrics(stage)
    ]


def asked(record: Record) -> Mapping[str, Any]:
    """Question and answer of the served model; empty where nothing was served."""
    check = read_json(record.place("serve") / "check.json") if record.metrics("serve") else None
    return check if isinstance(check, dict) else {}


def _merged(found: Mapping[str, Any]) -> Iterator[Proof]:
    rows, copied = found.get("rows"), found.get("how") == "copy"
    on = f" on {counted(rows, 'row')}" if is_number(rows) else ""
    if difference := _mapping(found.get("difference")):
        yield Proof("the merged model, read back from disk, beside the trained one", _logits(difference) + on)
    if trained := _mapping(found.get("trained")):
        yield Proof("what merge starts from, beside what training kept", _logits(trained))
    if weights := _mapping(found.get("weights")):
        beside = "those that training kept" if copied else "the base and PEFT's own delta"
        yield Proof(f"the weights, tensor by tensor, beside {beside}", _weights(weights, copied))
    if is_number(found.get("prompts_checked")):
        yield Proof(
            "the merged model's tokenizer and chat template",
            f"the same token ids as in training on {counted(found['prompts_checked'], 'prompt')}",
        )
    if candidates := _mapping(found.get("candidates")):
        losses = ", ".join(
            f"{name} {one['loss']:.4f}" for name, one in candidates.items() if is_number(_mapping(one).get("loss"))
        )
        chosen = f"; merged into the {found['base']} one" if found.get("base") else ""
        yield Proof("which base the adapter fits better: loss on held-out rows", losses + chosen)
    if told := ", ".join(_made(found)):
        yield Proof("how it was carried over" if copied else "how it was merged", told)


def _logits(found: Mapping[str, Any]) -> str:
    """Two models' logits beside each other."""
    parts = []
    if found.get("max") == 0:
        parts.append("the same logits, bit for bit")
    elif is_number(found.get("max")):
        mean = f", mean {found['mean']:.1e}" if is_number(found.get("mean")) else ""
        relative = f", {found['relative']:.1e} of the largest" if is_number(found.get("relative")) else ""
        parts.append(f"logits differ by at most {found['max']:.1e}{mean}{relative}")
    if is_number(found.get("kl")):
        parts.append(f"KL {_small(found['kl'])} nats a token")
    if is_number(found.get("equal_greedy")):
        parts.append(f"the same next token at {100 * found['equal_greedy']:.4g} % of positions")
    known = ("max", "mean", "relative", "kl", "equal_greedy", "same")
    rest = _numbers({key: value for key, value in found.items() if key not in known})
    return "; ".join([*parts, *([rest] if rest else [])])


def _weights(found: Mapping[str, Any], copied: bool) -> str:
    """How many tensors were compared, and how near they are to what they must be; `copied` of a model trained whole."""
    parts = []
    if is_number(found.get("tensors")):
        than = " other than the base's" if copied else " changed"
        changed = f", of which {found['changed']:,}{than}" if is_number(found.get("changed")) else ""
        parts.append(f"{counted(found['tensors'], 'tensor')}{changed}")
    if copied:
        parts.append("all as training kept them, bit for bit")
    elif is_number(found.get("steps")):
        parts.append(
            f"the others are the base's bit for bit, and these {found['steps']:.3g} rounding steps off at most"
        )
    if found.get("converted"):
        parts.append(f"{found['converted']:,} of them are proven by the logits alone")
    known = ("tensors", "changed", "steps", "converted")
    rest = _numbers({key: value for key, value in found.items() if key not in known})
    return "; ".join([*parts, *([rest] if rest else [])])


def _made(found: Mapping[str, Any]) -> Iterator[str]:
    if found.get("how"):
        yield _HOW.get(found["how"], str(found["how"]))
    adapted = is_number(found.get("changed_modules")) and is_number(found.get("adapted_modules"))
    if adapted and found.get("how") != "copy":
        yield f"{found['changed_modules']:,} of {found['adapted_modules']:,} adapted modules changed"
    if found.get("merged_into"):
        yield f"stored in {found['merged_into']}"
    if is_number(found.get("seconds")):
        speed = f" at {found['gb_per_second']:.2f} GB/s" if is_number(found.get("gb_per_second")) else ""
        yield f"{seconds(found['seconds'])}{speed}"


def _served(record: Record, found: Mapping[str, Any]) -> Iterator[Proof]:
    if found.get("prompts_checked"):
        yield Proof(
            "the prompts that the server reads",
            f"the same token ids as in training on {counted(found['prompts_checked'], 'row')}",
        )
    if is_number(found.get("prompt_tokens")):
        engine = " ".join(str(asked(record).get(key, "")) for key in ("engine", "engine_version")).strip()
        ready = f", ready after {found['seconds_to_ready']:.1f} s" if is_number(found.get("seconds_to_ready")) else ""
        yield Proof(
            "a real question to the real server",
            f"{found['prompt_tokens']:,} prompt tokens, as in training; {engine or 'the server'} answered{ready}",
        )


_HOW = {
    "stream": "in a stream, tensor by tensor",
    "peft": "by PEFT, in memory",
    "copy": "trained whole, so nothing was merged: the files are copied",
}


def _numbers(found: Mapping[str, Any]) -> str:
    """What was found as `name value`, in the order it stands in."""
    told = [f"{_words(key)} {_number(value)}" for key, value in flat(found).items()]
    truths = [f"{_words(key)}: {'yes' if value else 'no'}" for key, value in found.items() if isinstance(value, bool)]
    return ", ".join([*told, *truths])


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e12 else f"{value:.3g}"


def _small(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _words(key: str) -> str:
    return key.replace("_", " ").replace(".", " ")


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
