"""A data report as `prepare` writes it, with every part filled in and sums that are right."""

from collections.abc import Mapping
from typing import Any


def rows(train: int, held_out: int, dropped: Mapping[str, int], added: int = 0, truncated: int = 0) -> dict[str, Any]:
    """Numbers that add up."""
    return {
        "read": train + held_out + sum(dropped.values()) - added,
        "used": train + held_out,
        "train": train,
        "held_out": held_out,
        "added": added,
        "truncated": truncated,
        "dropped": dict(dropped),
    }


def source(name: str, format: str, counts: Mapping[str, Any], **besides: int) -> dict[str, Any]:
    """An entry of `sources`."""
    formats = {format: counts["used"]}
    return {"path": f"data/{name}", "formats": formats, "weight": 1.0, "rows": dict(counts), "besides": besides}


def report(**changes: Any) -> dict[str, Any]:
    """The report, with parts of it changed."""
    return {
        "rows": rows(1812, 200, {"empty_answer": 2, "duplicate": 102, "overlong": 18}, added=7, truncated=3),
        "sources": {
            "alpaca.json": source("alpaca.json", "alpaca", rows(897, 100, {"empty_answer": 2}), blank_lines=1),
            "docs": source("docs", "docs", rows(833, 91, {"duplicate": 102, "overlong": 18}, added=7, truncated=3)),
            "identity.json": source("identity.json", "alpaca", rows(82, 9, {})),
        },
        "tokens": {
            "train": 412_345,
            "trained": 201_234,
            "share_trained": 0.488,
            "longest": 1977,
            "mean": 227.6,
            "held_out": 45_678,
            "histogram": {"edges": [0, 500, 1000, 1500, 2000], "train": [900, 700, 0, 212], "trained": [1812, 0, 0, 0]},
        },
        "characters": {"total": 1_823_456, "mean": 906.3},
        "packing": {
            "rows": 1812,
            "rows_per_step": 16,
            "efficiency": 0.99996,
            "padded_efficiency": 0.412,
        },
        "duplicates": 102,
        "leaks": 0,
        "kinds": {"": 108, "unseen": 61, "reworded": 31},
        "warnings": [
            {"kind": "placeholder", "count": 86, "text": "a placeholder is left in", "examples": ["identity.json:1"]},
            {"kind": "small", "count": 1, "text": "few rows are held out", "examples": []},
        ],
        "dropped_examples": {"empty_answer": ["alpaca.json:7"], "duplicate": ["docs/a.md:7"]},
        "samples": [
            {
                "source": "alpaca.json:1",
                "tokens": 12,
                "trained": 5,
                "spans": [
                    ["<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", False],
                    ["  yes<|im_end|>", True],
                ],
                "special": ["<|im_start|>", "<|im_end|>"],
            }
        ],
        "template": {"name": "model", "kwargs": {}, "train_on": "assistant", "reasoning": "last"},
        "max_length": 2048,
        "overlong": "drop",
        "seconds": 1.94,
    } | changes
