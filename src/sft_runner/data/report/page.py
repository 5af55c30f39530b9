"""The data report as one HTML page: pictures, the tables behind them, and real rows with their trained tokens coloured.

The page needs nothing from elsewhere and runs no script, so it looks the same from a file and in MLflow's frame.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.data.report import reasons
from sft_runner.data.report.flow import LEFT, RIGHT, flow
from sft_runner.data.report.histogram import HEIGHT, WIDTH, histogram
from sft_runner.data.report.numbers import equation, percent
from sft_runner.data.report.visible import cut, parts
from sft_runner.page import environment

if TYPE_CHECKING:
    from markupsafe import Markup


def page(report: Mapping[str, Any]) -> str:
    """The whole page for a `report.json`. Text from the data is always escaped."""
    lengths = report["tokens"].get("histogram") or {"edges": [], "train": [], "trained": []}
    values = {
        "report": report,
        "equation": equation(report["rows"]),
        "reasons": _reasons(report),
        "flow": flow(report),
        "lengths": [
            (name, text, histogram(lengths["edges"], lengths[name], report["max_length"]))
            for name, text in (("train", "tokens of a row"), ("trained", "tokens of it that are trained"))
        ],
        "ranges": list(zip(lengths["edges"], lengths["edges"][1:], lengths["train"], lengths["trained"], strict=False)),
        "box": {"left": LEFT, "right": RIGHT, "width": WIDTH, "height": HEIGHT},
        "remedies": reasons.REMEDIES,
        "kinds": reasons.KINDS,
    }
    templates = environment(Path(__file__).parent)
    templates.filters |= {"number": "{:,}".format, "percent": percent, "visible": _visible, "cut": cut}
    return templates.get_template("page.html.jinja").render(values)


def _reasons(report: Mapping[str, Any]) -> list[tuple[str, int, reasons.Reason, Sequence[str]]]:
    """Name, rows, meaning and first places of every reason that dropped a row, the largest first."""
    counts = sorted(report["rows"]["dropped"].items(), key=lambda item: -item[1])
    places = report.get("dropped_examples", {})
    return [(name, count, reasons.dropped(name), places.get(name, ())) for name, count in counts if count]


def _visible(text: str, special: Sequence[str] = ()) -> "Markup":
    """Text as HTML in which marks and special tokens are told apart from what the data says."""
    from markupsafe import Markup

    tags = {"text": Markup("{}"), "mark": Markup("<i>{}</i>"), "special": Markup("<b>{}</b>")}
    return Markup("").join(tags[kind].format(part) for part, kind in parts(text, special))
