"""What a person sees while a run works: one line a stage, a bar on a terminal, plain lines in a log."""

import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from sft_runner.data.report.numbers import duration
from sft_runner.evaluation import names
from sft_runner.planning import Plan, Step

PLAIN_SECONDS = 15.0
"""Seconds between two plain lines of one stage."""
COUNT_SECONDS = 1.0
"""Seconds on a terminal between two messages of which only the count is another."""
_COUNT = re.compile(r"\d[\d.,]* of \d[\d.,]*")


class Progress:
    """Shows a run on stdout."""

    def __init__(self, plan: Plan, live: bool | None = None) -> None:
        self.width = max(len(step.stage) for step in plan.steps)
        self.live = sys.stdout.isatty() if live is None else live
        self.bar: Any = None
        self.task: Any = None
        self.began = 0.0
        self.shown = 0.0
        self.latest: dict[str, Any] = {}
        self.told: dict[str, float] = {}

    def begin(self, step: Step) -> None:
        """A stage begins."""
        self.began = self.shown = time.monotonic()
        self.latest, self.told = {}, {}
        if self.live:
            self.bar = _bar()
            self.task = self.bar.add_task(f"  {step.stage:<{self.width}}", total=None, values="starting")
            self.bar.start()

    def event(self, stage: str, event: Mapping[str, Any]) -> None:
        """One event of the stage."""
        if "message" in event and "step" not in event and self._is_time(str(event["message"])):
            self._line(f"  {stage:<{self.width}}  {event['message']}")
        if "step" not in event:
            return
        self.latest |= event  # not every event tells the loss, and few tell that of held-out rows
        if self.bar:
            self.bar.update(self.task, completed=event["step"], total=event.get("steps"), values=_values(self.latest))
        elif time.monotonic() - self.shown > PLAIN_SECONDS:
            self.shown = time.monotonic()
            self._line(f"  {stage:<{self.width}}  {event['step']}/{event.get('steps', '?')} {_values(self.latest)}")

    def note(self, stage: str, text: str) -> None:
        """Something worth knowing, such as who holds the stage."""
        self._line(f"  {stage:<{self.width}}  {text}")

    def end(self, stage: str, state: str, manifest: Mapping[str, Any] | None) -> None:
        """The stage ended as `completed`, `reused` or `failed`."""
        if self.bar:
            self.bar.stop()
            self.bar = None
        words = {"completed": "done", "reused": "reused"}
        seconds = f"{time.monotonic() - self.began:.1f} s"
        told = summary(stage, manifest["metrics"]) if manifest else ""
        print(f"  {stage:<{self.width}}  {words.get(state, state):<6}  {seconds:>8}  {told}".rstrip(), flush=True)

    def _is_time(self, message: str) -> bool:
        """Whether to show a message: one that only counts (`3 of 38 tensors`) not each time."""
        what, now = _COUNT.sub("", message), time.monotonic()
        if what != message and now - self.told.get(what, self.began) < (COUNT_SECONDS if self.live else PLAIN_SECONDS):
            return False
        self.told[what] = now
        return True

    def _line(self, text: str) -> None:
        if self.bar:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)


def summary(stage: str, metrics: Mapping[str, Any]) -> str:
    """The numbers of a stage that a person wants to see, in one line."""
    if stage == "prepare":
        rows, tokens = metrics["rows"], metrics["tokens"]
        dropped = sum(rows["dropped"].values())
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rows["dropped"].items() if count)
        added = f" and {rows['added']:,} made of them" if rows["added"] else ""
        text = f"{rows['read']:,} rows{added}: {rows['train']:,} to learn from, {rows['held_out']:,} held out"
        text += f", {dropped:,} dropped"
        return text + (f" ({reasons})" if reasons else "") + f"; {tokens['trained']:,} trained tokens"
    if stage in ("baseline", "evaluate"):
        shown = [name for name in metrics["base"] if name == "loss" or _of_answers(name, metrics["base"])]
        leading = next((name for name in shown if name != "loss"), "loss")  # the headline, where nobody said another
        total = "; ".join(
            _score(name, metrics) + (_interval(name, metrics) if name == leading else "") for name in shown
        )
        return " | ".join([total, *(f"{part}: {score}" for part, score in _parts(metrics).items())])
    if stage == "train":
        return _trained(metrics)
    if stage == "merge":
        return f"merged logits differ from the adapter's by at most {metrics['difference']['max']:.1e}"
    if stage == "export":
        return ", ".join(f"{form} {told['bytes'] / 1e6:,.1f} MB" for form, told in metrics.items())
    if stage == "serve":
        text = f"answered after {metrics['seconds_to_ready']:.1f} s; {metrics['prompt_tokens']} prompt tokens"
        return text + (", the same ids as in training" if metrics["prompts_checked"] else "")
    return ""


def _trained(metrics: Mapping[str, Any]) -> str:
    """How a training ended."""
    text = f"loss {metrics['loss']:.4f}"
    if best := metrics.get("best"):
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in best.items() if name != "step")
        text += f", on held-out rows {shown} at step {best['step']:,},"
    text += f" after {metrics['steps']:,} steps"
    if "tokens_per_second" in metrics:
        text += f", {metrics['tokens_per_second']:,.0f} tokens/s"
    why = metrics.get("stopped_by", "steps")
    return text if why == "steps" else f"{text}; ended by {why}"


def _score(name: str, metrics: Mapping[str, Any]) -> str:
    """A metric of base and tuned model."""
    values = [metrics[side][name] for side in ("base", "tuned") if name in metrics.get(side, {})]
    shown = [f"{value:.1%}" if names.is_share(name) else f"{value:.3f}" for value in values]
    return f"{name.replace('_', ' ')} {' → '.join(shown)}"


def _interval(name: str, metrics: Mapping[str, Any]) -> str:
    """The 95 % interval of a metric's gain; empty where there is none."""
    ends = metrics.get("intervals", {}).get(name, {}).get("gain")
    if not ends:
        return ""
    share = names.is_share(name)
    low, high = (f"{100 * end:+.1f}" if share else f"{end:+.3f}" for end in (ends["low"], ends["high"]))
    return f" (better by {low} to {high}{' points' if share else ''}, 95 %)"


def _of_answers(name: str, scores: Mapping[str, Any]) -> bool:
    return isinstance(scores[name], int | float) and name not in names.COUNTS and names.generated(name)


def _parts(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The loss on each kind of held-out rows where there are several, and on each other set."""
    found = {}
    for group in ("by", "sets"):
        sides = {side: metrics[side].get(group, {}) for side in ("base", "tuned") if side in metrics}
        for name in sides.get("base", {}):
            found[name] = _score("loss", {side: by[name] for side, by in sides.items() if name in by})
    return found


def _values(event: Mapping[str, Any]) -> str:
    """Losses, speed and time left of an event, as far as it has them."""
    parts = [f"{what} {event[key]:.4f}" for key, what in (("loss", "loss"), ("eval_loss", "held-out")) if key in event]
    if "tokens_per_second" in event:
        parts.append(f"{event['tokens_per_second']:,.0f} tokens/s")
    if "seconds_left" in event:
        parts.append(f"{duration(event['seconds_left'])} left")
    return "  ".join(parts) or str(event.get("message", ""))


def _bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}"),
        transient=True,
    )
