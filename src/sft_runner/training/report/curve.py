"""The loss over the steps of a training as a picture, with the learning rate below it.

The picture is drawn once, in the colours of the pages; as SVG it carries the dark ones too and takes those that the
reader's screen asks for.
"""

import math
import re
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Entries = Sequence[Mapping[str, Any]]
"""Entries of the trainer's log, each with its `step`."""

PAPER, INK, SOFT, LINE, TRAIN, HELD_OUT = "#ffffff", "#1c2430", "#5b6675", "#dfe3e8", "#0072b2", "#d55e00"
DARK = {PAPER: "#14181e", INK: "#e4e8ee", SOFT: "#98a3b1", LINE: "#313a45", TRAIN: "#4ba3dc", HELD_OUT: "#f0884a"}
"""The colours of `page.css`, and what they become on a dark screen."""
SMOOTHED_FROM = 12
"""Fewer logged losses are drawn as they are."""
LOG_SCALE_FROM = 30
"""Losses whose largest is so many times the smallest are drawn on a logarithmic axis."""
STYLE: Any = {
    "font.size": 10,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that the same picture is made on every machine
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "grid.color": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "svg.fonttype": "none",
    "svg.hashsalt": "sft_runner",  # else the ids in it are random
}


def draw(name: str, facts: Mapping[str, Any], logged: Entries, evaluated: Entries) -> tuple[str, bytes]:
    """The picture as SVG and as PNG. `facts` may tell the `best` look at held-out rows, the `descents`, which are the
    steps at which memory ran out, and `resumed`, the steps that attempts went on from."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    vector, bitmap = StringIO(), BytesIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(7.5, 4.6), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))  # inches
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        _losses(upper, logged, evaluated, (facts.get("best") or {}).get("step"))
        _marks(upper, facts)
        _rate(lower, logged)
        figure.suptitle(f"{name}: loss while training", x=0.02, horizontalalignment="left", fontsize=12)
        _legend(figure, upper)
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(bitmap, format="png", dpi=130, metadata={"Software": None})
    return _with_both_themes(vector.getvalue(), f"{name}: {described(logged, evaluated)}"), bitmap.getvalue()


def smooth(values: Sequence[float]) -> list[float]:
    """The mean of each value and its neighbours, about a fifteenth of all; at the ends of fewer, as many on each side,
    so that a falling curve is not drawn late. Values that are no numbers are passed over."""
    reach, last = max(len(values) // 30, 1), len(values) - 1
    smoothed = []
    for place in range(len(values)):
        side = min(reach, place, last - place)
        near = [value for value in values[place - side : place + side + 1] if math.isfinite(value)]
        smoothed.append(sum(near) / len(near) if near else math.nan)
    return smoothed


def described(logged: Entries, evaluated: Entries) -> str:
    """The picture in words, for readers who do not see it."""
    parts = [
        f"{what} from {entries[0][key]:.4g} at step {entries[0]['step']} to {entries[-1][key]:.4g} at step "
        f"{entries[-1]['step']}"
        for what, key, entries in (("loss", "loss", logged), ("held-out loss", "eval_loss", evaluated))
        if entries
    ]
    return "; ".join(parts) or "no loss was logged"


def _losses(axes: "Axes", logged: Entries, evaluated: Entries, best: int | None) -> None:
    steps, losses = [entry["step"] for entry in logged], [float(entry["loss"]) for entry in logged]
    if len(losses) >= SMOOTHED_FROM:
        axes.plot(steps, losses, color=TRAIN, alpha=0.3, linewidth=1, label="training, as logged")
        axes.plot(steps, smooth(losses), color=TRAIN, linewidth=1.8, label="training, smoothed")
    else:
        axes.plot(steps, losses, color=TRAIN, linewidth=1.8, marker=".", label="training")
    looks = {entry["step"]: float(entry["eval_loss"]) for entry in evaluated}
    if looks:
        axes.plot(list(looks), list(looks.values()), color=HELD_OUT, linewidth=1.5, marker=".", label="held-out rows")
    if best is not None and best in looks:
        axes.plot(best, looks[best], color=HELD_OUT, marker="o", ms=9, mfc="none", linestyle="none", label="best")
    shown = [value for value in (*losses, *looks.values()) if math.isfinite(value)]
    if shown and min(shown) > 0 and max(shown) >= LOG_SCALE_FROM * min(shown):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("loss (nats a token)")
    axes.grid(axis="y", linewidth=0.8)


def _marks(axes: "Axes", facts: Mapping[str, Any]) -> None:
    """Thin lines where something happened."""
    for what, style, steps in (
        ("memory ran out", ":", facts.get("descents") or ()),
        ("went on after a stop", "--", facts.get("resumed") or ()),
    ):
        for number, step in enumerate(steps):
            axes.axvline(step, color=SOFT, linewidth=1, linestyle=style, label=what if number == 0 else "_again")


def _rate(axes: "Axes", logged: Entries) -> None:
    from matplotlib.ticker import MaxNLocator

    rates = [(entry["step"], entry["learning_rate"]) for entry in logged if "learning_rate" in entry]
    if rates:
        axes.plot(*zip(*rates, strict=True), color=SOFT, linewidth=1.2)
        axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", nbins=2)
    axes.yaxis.set_major_formatter("{x:.2g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("learning\nrate")
    axes.set_xlabel("optimizer step")


def _legend(figure: "Figure", axes: "Axes") -> None:
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def _with_both_themes(svg: str, words: str) -> str:
    """The SVG element alone, with words for readers who do not see it, and with the colours of a dark screen."""
    from markupsafe import escape

    rules = [
        f'[style*="{part}: {light}"] {{ {part}: {dark} !important }}'
        for light, dark in DARK.items()
        for part in ("fill", "stroke")
    ]
    style = "\n".join(["<style>", "@media (prefers-color-scheme: dark) {", *rules, "}", "</style>"])
    head, _, rest = re.sub("<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL).partition(">")
    return f'{head} role="img" aria-label="{escape(words)}">\n{style}{rest}'
