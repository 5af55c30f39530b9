"""The report of a training: its numbers, its picture, the same bytes for the same run, and nothing that runs in it."""

import math
import re
import struct
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sft_runner.config.schema import Config, EarlyStopping, Hardware, Lora, Model, Quantization, Train
from sft_runner.cost.memory import training_memory
from sft_runner.hardware import GB
from sft_runner.model.architecture import architecture
from sft_runner.progress import Progress, summary
from sft_runner.training.report import write
from sft_runner.training.report.curve import DARK, smooth

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}} $x$"
SVG = "{http://www.w3.org/2000/svg}"
LOGGED = [{"step": s, "loss": 3 / s, "learning_rate": 2e-4 * (1 - s / 100)} for s in range(5, 100, 5)]
LOOKS = [{"step": s, "eval_loss": 1 / s + s / 500} for s in (20, 40, 60, 80)]
FACTS: dict[str, Any] = {
    "loss": LOGGED[-1]["loss"],
    "steps": 95,
    "kept_step": 20,
    "stopped_by": "early stopping",
    "best": {"step": 20, "loss": 0.09},
    "epochs": 2.5,
    "tokens": 1_234_567,
    "tokens_per_second": 4321.0,
    "real_tokens": 0.873,
    "seconds": 285.7,
    "peak_memory_gb": 10.04,
    "activation_checkpointing": "none",
    "trainable_parameters": 1_000_000,
    "total_parameters": 100_000_000,
    "dtypes": {"base": "bfloat16", "adapter": "float32"},
    "micro_batch": 4,
    "accumulation": 4,
    "rows_per_step": 16.0,
    "descents": [30],
    "resumed": [50, 70],
}


def config(**changes: Any) -> Config:
    values = {
        "name": "dates",
        "model": Model(name="embedded:tiny"),
        "lora": Lora(r=8, lora_alpha=16.0),
        "quantization": Quantization(bits="4"),
        "hardware": Hardware(name="rtx3060", dtype="bfloat16"),
        "train": Train(learning_rate=2e-4),
    }
    return Config(**{**values, **changes})


def said(html: str) -> str:
    """The text of a page, its style sheets and tags removed."""
    without = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", without)).split())


def labels(folder: Path) -> set[str]:
    """What is written in the picture."""
    texts = ElementTree.parse(folder / "loss.svg").iter(f"{SVG}text")
    return {" ".join("".join(text.itertext()).split()) for text in texts}


def test_it_says_what_was_measured(tmp_path: Path) -> None:
    assert write(tmp_path, config(), FACTS, LOGGED, LOOKS, ["it began", "it ended"]) == [
        "report.html",
        "loss.svg",
        "loss.png",
    ]
    arch = architecture(config().model)
    assert arch is not None
    planned = training_memory(config(), arch, 4, "none", config().data.max_length)
    text = said((tmp_path / "report.html").read_text())
    for part in (
        "0.0316 training loss before step 20",
        "0.0900 held-out loss at step 20",
        "95 optimizer steps",
        "4,321 tokens a second",
        "1,000,000 of 100,000,000 (1.0 %)",
        "base bfloat16, adapter float32",
        "16 rows in passes of up to 4 x 2,048 tokens, rows of similar length together",
        "tokens that are not padding 87.3 %",
        f"peak memory 10.04 GB; the plan said up to {planned.total / GB:.2f} GB",
        "time in the trainer 4:46",
        "the weights of step 20",
        "method qlora",
        "r=8, lora_alpha=16, dropout 0",
        "0.0002, cosine, 3% warm-up",
        "60 0.0500 0.1367",
    ):
        assert part in text
    assert text.index("it began") < text.index("it ended")


def test_it_shows_what_is_watched(tmp_path: Path) -> None:
    looks = [entry | {"eval_exact_match": entry["step"] / 100} for entry in LOOKS]
    asked = Train(learning_rate=2e-4, early_stopping=EarlyStopping(metric="exact_match"))
    facts = FACTS | {"kept_step": 60, "mfu": 41.0, "looks_seconds": 61.0}
    write(tmp_path, config(train=asked), facts, LOGGED, looks, [])
    text = said((tmp_path / "report.html").read_text())
    for part in (
        "0.1367 held-out loss at step 60",
        "60.0 % held-out exact match at step 60",
        "60 0.0500 0.1367 60.0 %",
    ):
        assert part in text
    assert "41.0 %, counted as if all weights trained" in text
    assert "of which looks 1:01" in text


def test_the_picture_has_axes_with_units_and_marks(tmp_path: Path) -> None:
    write(tmp_path, config(), FACTS, LOGGED, LOOKS, [])
    shown = labels(tmp_path)
    assert {"dates: loss while training", "loss (nats a token)", "optimizer step", "learning", "rate"} <= shown
    assert {"training, as logged", "training, smoothed", "held-out rows", "best"} <= shown
    assert {"memory ran out", "went on after a stop"} <= shown
    root = ElementTree.parse(tmp_path / "loss.svg").getroot()
    assert root.get("role") == "img"
    assert "held-out loss from 0.09 at step 20 to 0.1725 at step 80" in (root.get("aria-label") or "")


def test_every_colour_of_the_picture_has_a_dark_one(tmp_path: Path) -> None:
    write(tmp_path, config(), FACTS, LOGGED, LOOKS, [])
    picture = (tmp_path / "loss.svg").read_text()
    drawn = re.sub(r"<style.*?</style>", "", picture, flags=re.DOTALL)
    assert set(re.findall(r"#[0-9a-f]{6}", drawn)) == set(DARK)
    assert all(f'[style*="fill: {light}"] {{ fill: {dark} !important }}' in picture for light, dark in DARK.items())


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    """In another process, with another hash seed, at another time."""
    program = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[2:]\n"
        "from test_training_report import *\n"
        "write(Path(sys.argv[1]), config(), FACTS, LOGGED, LOOKS, ['told'])"
    )
    folders = [tmp_path / name for name in ("one", "two")]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        command = [sys.executable, "-c", program, str(folder), str(Path(__file__).parent)]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": str(seed), "HOME": str(tmp_path)})
    for name in ("report.html", "loss.svg", "loss.png"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_page_is_whole_by_itself_and_nothing_in_it_runs(tmp_path: Path) -> None:
    evil = config(name=EVIL, model=Model(name=EVIL))
    write(tmp_path, evil, FACTS | {"dtypes": {EVIL: EVIL}}, LOGGED, LOOKS, [EVIL])
    html = (tmp_path / "report.html").read_text()
    assert not re.findall(r"<(?:script|img|link|iframe|a|object)\b", html)
    assert not re.findall(r"\b(?:src|href)=\"(?!#)", html)
    assert html.count("<svg ") == 1
    assert "&lt;script&gt;" in html
    assert "49" not in said(html).split()
    ElementTree.parse(tmp_path / "loss.svg")


@pytest.mark.parametrize(
    ("logged", "looks"),
    [([], []), (LOGGED[:1], []), ([*LOGGED, {"step": 100, "loss": math.nan}], []), (LOGGED[:3], LOOKS[:1])],
)
def test_there_may_be_little_to_draw(tmp_path: Path, logged: list[Any], looks: list[Any]) -> None:
    facts = {"loss": 0.5, "steps": 1, "tokens_per_second": 10.0}
    write(tmp_path, config(), facts, logged, looks, [])
    text = said((tmp_path / "report.html").read_text())
    assert "What happened" not in text
    assert "None" not in text
    png = (tmp_path / "loss.png").read_bytes()
    assert struct.unpack(">II", png[16:24]) == (975, 598)


def test_a_whole_model_has_no_adapter_to_speak_of(tmp_path: Path) -> None:
    write(tmp_path, config(adapter="none", quantization=Quantization(bits="none")), FACTS, LOGGED, [], [])
    text = said((tmp_path / "report.html").read_text())
    assert "method full" in text
    assert "lora_alpha" not in text


def test_smoothing_is_neither_late_nor_blind() -> None:
    falling = [float(-step) for step in range(90)]
    assert smooth(falling) == pytest.approx(falling)
    zigzag = smooth([0.0, 1.0] * 50)
    assert max(zigzag[5:-5]) < 0.7
    assert smooth([1.0, math.nan, 1.0]) == [1.0, 1.0, 1.0]
    assert math.isnan(smooth([math.nan])[0])


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({}, "loss 0.2500 after 1,200 steps, 800 tokens/s"),
        ({"stopped_by": "steps"}, "loss 0.2500 after 1,200 steps, 800 tokens/s"),
        (
            {"best": {"step": 900, "loss": 0.31}, "stopped_by": "early stopping"},
            "loss 0.2500, on held-out rows loss 0.31 at step 900, after 1,200 steps, 800 tokens/s; "
            "ended by early stopping",
        ),
    ],
)
def test_one_line_tells_how_a_training_ended(metrics: dict[str, Any], told: str) -> None:
    assert summary("train", {"loss": 0.25, "steps": 1200, "tokens_per_second": 800.0} | metrics) == told


def test_the_line_of_a_training_keeps_what_few_events_tell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    step: Any = SimpleNamespace(stage="train")
    plan: Any = SimpleNamespace(steps=[step])
    monkeypatch.setattr("sft_runner.progress.PLAIN_SECONDS", -1.0)
    progress = Progress(plan, live=False)
    progress.begin(step)
    progress.event("train", {"step": 10, "steps": 30, "loss": 0.5})
    progress.event("train", {"step": 10, "steps": 30, "eval_loss": 0.75})
    progress.event("train", {"message": "out of memory at step 11: goes on with micro-batch 2"})
    progress.event("train", {"step": 12, "steps": 30, "tokens_per_second": 900.0})
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  train  10/30 loss 0.5000  held-out 0.7500",
        "  train  out of memory at step 11: goes on with micro-batch 2",
        "  train  12/30 loss 0.5000  held-out 0.7500  900 tokens/s",
    ]
