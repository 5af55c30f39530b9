"""Run folders as a real run leaves them, made by hand in a moment: for tests of the report and of comparisons."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import yaml

EXACT = {"base": {"low": 0.0, "high": 0.02}, "tuned": {"low": 0.34, "high": 0.48}, "gain": {"low": 0.33, "high": 0.48}}
LOSS = {"base": {"low": 7.5, "high": 7.8}, "tuned": {"low": 0.55, "high": 0.65}, "gain": {"low": 6.9, "high": 7.2}}


def side(exact_match: float, loss: float, **more: Any) -> dict[str, Any]:
    return {"loss": loss, "perplexity": 2.718281828**loss, "exact_match": exact_match, "rows": 4, "tokens": 44, **more}


def gain(exact_match: float, loss: float, **more: Any) -> dict[str, Any]:
    return {"loss": loss, "exact_match": exact_match, **more}


SCORES: dict[str, Any] = {
    "base": side(
        0.0,
        7.66,
        by={"unseen": side(0.0, 7.9)},
        sets={"general": side(0.22, 2.31)},
        benchmarks={"gsm8k": {"exact_match": 0.11, "exact_match_stderr": 0.02}},
    ),
    "tuned": side(
        0.41,
        0.6,
        by={"unseen": side(0.31, 0.7)},
        sets={"general": side(0.2, 2.35)},
        benchmarks={"gsm8k": {"exact_match": 0.21, "exact_match_stderr": 0.025}},
    ),
    "gain": gain(
        0.41,
        7.06,
        by={"unseen": gain(0.31, 7.2)},
        sets={"general": gain(-0.02, -0.04)},
        benchmarks={"gsm8k": {"exact_match": 0.1}},
    ),
    "intervals": {
        "exact_match": EXACT,
        "loss": LOSS,
        "by": {"unseen": {"exact_match": {"gain": {"low": 0.2, "high": 0.4}}}},
        "sets": {"general": {"exact_match": {"gain": {"low": -0.05, "high": 0.01}}}},
    },
}
PREDICTIONS: list[dict[str, Any]] = [
    {
        "source": f"dates.jsonl:{number}",
        "prompt": [{"role": "user", "content": f"Write day {number} as an ISO date."}],
        "expected": f"2021-03-{number:02}",
        "tokens": 11,
        "base": {
            "loss": 7.0 + number,
            "answer": base,
            "stopped": True,
            "exact_match": float(base[-2:] == f"{number:02}"),
        },
        "tuned": {"loss": 0.5, "answer": tuned, "stopped": True, "exact_match": float(tuned[-2:] == f"{number:02}")},
    }
    for number, base, tuned in [
        (1, "no idea", "2021-03-01"),
        (2, "2021-03-02", "2021-04-20"),
        (3, "what", "2021-05-33"),
        (4, "2021-03-04", "2021-03-04"),
    ]
]
METRICS: dict[str, dict[str, Any]] = {
    "prepare": {
        "rows": {"read": 100, "added": 0, "train": 90, "held_out": 4, "used": 94, "dropped": {"duplicate": 6}},
        "tokens": {"trained": 990, "train": 5000},
    },
    "baseline": {"base": SCORES["base"]},
    "train": {
        "loss": 0.7098,
        "steps": 20,
        "kept_step": 20,
        "stopped_by": "steps",
        "epochs": 0.5,
        "tokens": 22199,
        "seconds": 9.7,
        "peak_memory_gb": 0.687,
        "tokens_per_second": 2294.3,
        "trainable_parameters": 116736,
        "micro_batch": 16,
        "activation_checkpointing": "none",
    },
    "merge": {
        "difference": {"max": 1.5e-05, "mean": 1.8e-06, "relative": 8e-07, "kl": 3e-08, "equal_greedy": 1.0},
        "trained": {"max": 0.0, "mean": 0.0, "equal_greedy": 1.0},
        "weights": {"tensors": 38, "changed": 28},
        "candidates": {"original": {"loss": 0.61}, "quantized": {"loss": 0.598}},
        "base": "quantized",
        "prompts_checked": 8,
        "how": "stream",
        "rows": 8,
        "seconds": 0.4,
        "gb_per_second": 1.21,
        "merged_into": "float32",
    },
    "evaluate": SCORES,
    "export": {},
    "serve": {"seconds_to_ready": 6.39, "prompt_tokens": 51, "prompts_checked": 100},
}
FILES = {"export": {"gguf/dates-q8_0.gguf": {"size": 2_000_000, "sha256": "ab" * 32}}}
FACTS = [
    "base: not quantised, float32",
    "rows: up to 2,048 tokens; at most 90 to learn from",
    "memory: ≈ 3.3 of 25.3 GB of this machine",
    "time: ≈ 40 s: train 12 s (rough)",
    "filled in:",
    "  lora.r=8                default",
]
CURVE = '<svg role="img" aria-label="loss from 7 to 0.7"><path d="M0,0 L1,1"/></svg>'
STAGES = ("prepare", "baseline", "train", "merge", "evaluate", "serve")


def run_folder(
    output_dir: Path,
    name: str = "dates",
    time: str = "20260301-120000-ab12",
    stages: tuple[str, ...] = STAGES,
    done: tuple[str, ...] | None = None,
    metrics: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    predictions: list[dict[str, Any]] | None = None,
    **state: Any,
) -> Path:
    """A run and its stage folders; `done` are the stages that are complete, `metrics` what some measured otherwise."""
    folder = output_dir / "runs" / name / time
    folder.mkdir(parents=True)
    fingerprints = {stage: f"{stage[:4]}{crc32(f'{name}{time}'.encode()):08x}" for stage in stages}
    settings = {
        "name": name,
        "model": {"name": "embedded:tiny"},
        "hardware": {"name": "cpu"},
        "lora": {"r": 8},
        "evaluate": {"metrics": ["exact_match"], "headline": "exact_match"},
        "data": {"seed": 42},
        "train": {"seed": 42, "learning_rate": 2e-4},
    }
    for key, value in (config or {}).items():
        part, _, key = key.rpartition(".")
        (settings.setdefault(part, {}) if part else settings)[key] = value  # type: ignore[attr-defined, index]
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    steps = [
        {"stage": stage, "action": "run", "fingerprint": fingerprints[stage], "why": "first time"} for stage in stages
    ]
    decisions = [
        {"key": "lora.r", "value": 8, "reason": "default", "approximates": False},
        {"key": "quantization.bits", "value": "8", "reason": "hardware=rtx3060", "approximates": True},
    ]
    (folder / "recipe.yaml").write_text("# goal: from nothing to a served model in two minutes\n")
    title = f"{name} · embedded:tiny · lora r=8 · cpu"
    plan = {"title": title, "steps": steps, "decisions": decisions, "facts": FACTS, "warnings": []}
    (folder / "plan.json").write_text(json.dumps(plan))
    known = {
        "name": name,
        "state": "completed",
        "started": "2026-03-01T12:00:00+00:00",
        "ended": "2026-03-01T12:00:43+00:00",
        "overrides": ["recipe=quickstart", "train.max_steps=20"],
        "choices": {"recipe": "quickstart"},
        "recipe": {"file": "recipes/quickstart.yaml", "commit": "5eed" * 10, "changed": True},
        "stages": fingerprints,
        "gates": [],
        "fit_to_serve": True,
        **state,
    }
    (folder / "run.json").write_text(json.dumps(known))
    for stage in stages if done is None else done:
        _stage(output_dir / "stages" / stage / fingerprints[stage], stage, fingerprints[stage], metrics or {})
        if stage == "evaluate":
            rows = PREDICTIONS if predictions is None else predictions
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            path = output_dir / "stages" / stage / fingerprints[stage] / "predictions.jsonl"
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return folder


def _stage(folder: Path, stage: str, fingerprint: str, metrics: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "stage": stage,
        "fingerprint": fingerprint,
        "metrics": metrics.get(stage, METRICS[stage]),
        "datasets": [{"name": "dates.jsonl", "rows": 90, "context": "training"}] if stage == "prepare" else [],
        "notes": [],
        "seconds": 1.5,
        "created": "2026-03-01T12:00:01+00:00",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "host": "workshop",
        "model": "c0ffee" * 8,
        "data": "da7a" * 10 if stage == "prepare" else "",
        "files": FILES.get(stage, {"file.bin": {"size": 1_000_000, "sha256": "cd" * 32}}),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if stage in ("prepare", "train"):
        (folder / "report.html").write_text("a page")
    if stage == "train":
        (folder / "loss.svg").write_text(CURVE)
        logged = [{"step": step, "loss": 8 / step} for step in range(1, 21)]
        (folder / "training.json").write_text(json.dumps({"logged": logged}))
    if stage == "serve":
        check = {"question": [{"role": "user", "content": "Write day 1."}], "answer": "2021-03-01", "expected": "?"}
        (folder / "check.json").write_text(json.dumps(check | {"engine": "transformers", "engine_version": "5.23.0"}))
