"""Which stages would run again, and why."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sft_runner.review.diff.values import clean, pair, text

CAUSES = 3
"""Causes of a stage that are told."""
_ABSENT = object()


@dataclass(frozen=True)
class Again:
    """A stage whose output would be made anew."""

    stage: str
    """Its name."""
    why: str
    """The first cause: `train.learning_rate 0.0002 → 0.0001`, `because prepare runs`."""
    old: str | None = None
    """Its fingerprint before."""
    new: str | None = None
    """Its fingerprint after."""


def again(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Again]:
    """The stages of a case that would run again, each with its first cause."""
    was, now = old.get("stages", {}), new.get("stages", {})
    runs = [name for name in now if name not in was or was[name]["fingerprint"] != now[name]["fingerprint"]]
    for name in runs:
        after = str(now[name]["fingerprint"])
        if name not in was:
            yield Again(name, "was not asked for" if was else "", None, after)
            continue
        own = list(_causes(name, old, new))
        first = next((stage for stage in now[name]["inputs"] if stage in runs), None)
        why = _few(own) if own else f"because {first} runs" if first else ""
        yield Again(name, why, str(was[name]["fingerprint"]), after)


def _causes(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What a stage itself reads otherwise."""
    was, now = old["stages"][name], new["stages"][name]
    if was["version"] != now["version"]:
        yield f"version {was['version']} → {now['version']}"
    for key in sorted({*was["config"], *now["config"]}):
        if was["config"].get(key, _ABSENT) == now["config"].get(key, _ABSENT):
            continue
        before, after = _value(key, old, was["config"]), _value(key, new, now["config"])
        if before == after:
            yield f"{key} {'counts too' if key in now['config'] else 'counts no longer'}"
        elif isinstance(before, dict) or isinstance(after, dict):
            yield key
        else:
            yield f"{key} {' → '.join(pair(_told(key, before), _told(key, after)))}"
    if was["model"] != now["model"]:
        yield "the tokenizer differs" if name == "prepare" else "the model differs"
    if was["data"] != now["data"]:
        names = (old.get("data", {}), new.get("data", {}))
        every = {**names[0], **names[1]} if all(names) else {}
        files = [clean(path) for path in every if names[0].get(path) != names[1].get(path)]
        yield f"the bytes of {_few(files)}" if files else "the data differs"


def _value(key: str, case: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """The value of a key, whether it counts for the stage or is neutral."""
    return case["settings"][key][0] if key in case["settings"] else config.get(key, _ABSENT)


def _told(key: str, value: Any) -> str | None:
    return None if value is _ABSENT else text(key, value)


def _few(told: list[str]) -> str:
    return ", ".join(told[:CAUSES]) + (f" and {len(told) - CAUSES} more" if len(told) > CAUSES else "")
