"""Several rows in one: speed here, and another size of a step there."""

from collections.abc import Iterator
from typing import Any

from sft_runner.importing.draft import Draft
from sft_runner.importing.rows import first_rows

CHARACTERS = 4
"""Characters of a token, about, in English."""


def packs(draft: Draft) -> bool:
    """Whether a row of a batch is a pack of rows there."""
    said = any(draft.flag(key) for key in ("sample_packing", "packing", "neat_packing"))
    return said or bool(draft.settings.get("train.packing"))


def packing(draft: Draft, *keys: str) -> None:
    """Several rows in one."""
    for key in keys:
        if draft.has(key):
            note = "speed only: each step has the same rows, and none sees another"
            draft.changed(key, "train.packing", packs(draft), note)


def packed(draft: Draft) -> None:
    """A step takes packs there and rows here: what counts in steps means something else."""
    steps = ("train.max_steps", "train.warmup_steps", "train.eval_steps", "train.save_steps")
    said = [f"{key}={draft.settings[key]}" for key in steps if draft.settings.get(key, 0) >= 1]
    longest = draft.settings.get("data.max_length", 2048)
    named: dict[str, Any] = draft.settings.get("data.sources", {})
    path = draft.settings.get("data.path") or next((entry["path"] for entry in named.values()), "")
    sizes = [sum(map(len, _texts(row))) / CHARACTERS for row in first_rows(str(path))]
    fit = int(longest * len(sizes) / sum(sizes)) if sum(sizes) else 0
    about = f" (about {fit}, at {CHARACTERS} characters a token)" if fit > 1 else ""
    also = f", so that {', '.join(said)} {'mean' if len(said) > 1 else 'means'} as much as there" if said else ""
    draft.to_do(
        f"a row of a batch is a pack of rows there: multiply train.batch_size={draft.settings.get('train.batch_size')}"
        f" by the rows that fit in {longest} tokens{about}{also}"
    )


def _texts(value: Any) -> Iterator[str]:
    """All texts in a row."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
