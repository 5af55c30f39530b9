"""A comparison as one HTML page: dots with intervals for each metric, and the loss curves on common axes."""

from pathlib import Path

from sft_runner.page import environment
from sft_runner.report import scores
from sft_runner.report.comparison import Comparison, setting, shortened
from sft_runner.report.comparison_text import LEGEND, LONGEST_VALUE, cell, difference
from sft_runner.report.curves import curves
from sft_runner.report.dots import picture


def page(found: Comparison) -> str:
    """The whole page; it needs nothing from elsewhere and runs no script."""
    pictures = [
        (
            score,
            picture(
                score.metric,
                [
                    (label, [("source", "base model", base), ("train", "tuned", tuned)])
                    for label, base, tuned in zip(found.names, score.base, score.tuned, strict=True)
                ],
            ),
        )
        for score in found.scores
    ]
    templates = environment(Path(__file__).parent)
    templates.filters |= {"words": scores.words, "setting": lambda value: shortened(setting(value), LONGEST_VALUE)}
    return templates.get_template("comparison.html.jinja").render(
        found=found,
        pictures=pictures,
        curves=curves(found.runs, found.letters),
        cell=cell,
        difference=difference,
        beside=[score for score in found.scores if any(score.beside)],
        legend=LEGEND,
    )
