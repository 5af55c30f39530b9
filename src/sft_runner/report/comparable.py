"""Which scores of several runs can be compared: those of the same rows, and of tokens those of the same tokens."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sft_runner.report import scores
from sft_runner.report.record import Record
from sft_runner.report.verdict import verdict
from sft_runner.tracking.numbers import is_number

BY_TOKENS = ("loss", "perplexity", "token_accuracy")
"""Metrics of tokens: those of two tokenizers say nothing about each other."""
ROWS = "predictions"
"""How the files begin that say which rows were scored; in them a set's name follows."""


class Comparable:
    """What can be compared, and why the rest cannot."""

    def __init__(self, runs: Sequence[Record]) -> None:
        self.runs = runs
        self.refused: dict[str, str] = {scores.ALL: ""}
        """Part -> why no score on its rows can be compared; empty where they can. `""` are the held-out rows."""
        found: dict[str, set[str]] = {}
        for run in runs:
            for part, digest in _rows(run):
                found.setdefault(part, set()).add(digest)
                if not digest:
                    whose = f"the rows of {part}" if part else "the held-out rows"
                    self.refused[part] = f"{run.label}: {whose} could not be compared: their file is missing or damaged"
        for part, digests in found.items():
            if len(digests) > 1 and not self.refused.get(part):
                whose = f"the rows of {part}" if part else "the held-out rows"
                self.refused[part] = f"{whose} differ: scores on them cannot be compared"
            self.refused.setdefault(part, "")
        counts = {scores.rests_on(run.scores).get("tokens") for run in runs}
        self.tokens = len(counts - {None}) < 2
        """Whether the rows are the same tokens in all runs: another tokenizer makes another number of them."""

    def __call__(self, part: str, metric: str) -> bool:
        """Whether a metric of a part can be compared."""
        refused = self.refused.get(part.partition(":")[0], self.refused[scores.ALL])
        return not refused and (self.tokens or metric not in BY_TOKENS)

    def doubts(self) -> Iterator[str]:
        """Why some numbers cannot be compared."""
        yield from filter(None, self.refused.values())
        if not self.tokens and not self.refused[scores.ALL]:
            names = ", ".join(scores.words(name) for name in BY_TOKENS)
            yield f"the same rows are other tokens in some runs: {names} cannot be compared, bits per byte can"
        for run in self.runs:
            if not run.scores.get("tuned"):
                yield f"{run.label} has no scores of a tuned model: {verdict(run).title.lower()}"
            elif "evaluate" not in run.manifests:
                yield f"{run.label}: its stage folders are gone, so its rows cannot be checked"


def _rows(run: Record) -> Iterator[tuple[str, str]]:
    """Each part that was scored, and what tells its rows from others; empty where that cannot be read any more."""
    stage = next((stage for stage in ("evaluate", "baseline") if stage in run.manifests), None)
    if stage is None:
        return
    kept = run.manifests[stage].get("files")
    sizes = {
        str(name): facts.get("size")
        for name, facts in (kept.items() if isinstance(kept, Mapping) else ())
        if isinstance(facts, Mapping) and str(name).startswith(ROWS) and str(name).endswith(".jsonl")
    }
    folder = run.place(stage)
    names = {*sizes, *(path.name for path in folder.glob(f"{ROWS}*.jsonl"))}
    names |= {f"{ROWS}.jsonl"} if stage == "evaluate" else set()
    for name in sorted(names):
        part = name.removeprefix(ROWS).removesuffix("jsonl").strip(".")
        yield part, _digest(folder / name, sizes.get(name))


def _digest(path: Path, size: object) -> str:
    """Hash of the prompts and the expected answers of a `predictions.jsonl`, in their order; empty where it is missing
    or not whole."""
    digest = hashlib.sha256()
    try:
        if is_number(size) and path.stat().st_size != size:
            return ""
        with open(path, encoding="utf-8", errors="surrogatepass") as file:
            for line in file:
                row = json.loads(line)
                pair = json.dumps([row.get("prompt"), row.get("expected")], sort_keys=True)
                digest.update(pair.encode() + b"\n")
    except (OSError, ValueError, AttributeError):
        return ""
    return digest.hexdigest()
