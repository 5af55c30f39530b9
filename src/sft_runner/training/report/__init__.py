"""How a training went, for people: the loss as a picture, and a page with what was measured and what happened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.training.report.curve import draw
from sft_runner.training.report.page import page

PAGE, PICTURE, BITMAP = "report.html", "loss.svg", "loss.png"
"""What is written; the bitmap is for places that show no SVG, such as TensorBoard."""


def write(
    folder: Path,
    config: Config,
    facts: Mapping[str, Any],
    logged: Sequence[Mapping[str, Any]],
    evaluated: Sequence[Mapping[str, Any]],
    story: Sequence[str],
) -> list[str]:
    """Write the report of a training into `folder`; returns the names of its files.

    `facts` are the metrics of the train stage. `logged` and `evaluated` are entries of the trainer's log: the first
    have `step`, `loss` in nats for each trained token and `learning_rate`, the second `step` and `eval_loss`. `story`
    are sentences on what happened, in order. The same arguments give the same bytes.
    """
    picture, bitmap = draw(config.name, facts, logged, evaluated)
    (folder / PICTURE).write_text(picture, encoding="utf-8")
    (folder / BITMAP).write_bytes(bitmap)
    (folder / PAGE).write_text(page(config, facts, logged, evaluated, story, picture), encoding="utf-8")
    return [PAGE, PICTURE, BITMAP]
