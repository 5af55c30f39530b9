"""The commands beside the pipeline: `sft-runner recipes`, `keys`, `models`, `preview`, `fits`, `metrics`, `compare` and
`report`."""

import argparse
import ast
import inspect
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from sft_runner.config import schema, sources
from sft_runner.errors import MachineError, UnknownName, UserError, suggestion
from sft_runner.evaluation import gates, names
from sft_runner.preview import look
from sft_runner.report import comparison, comparison_page, comparison_text, keep, make
from sft_runner.report.record import find
from sft_runner.runs import runs, state_of


def recipes(arguments: list[str]) -> int:
    """List the recipes, the user's own first."""
    _parser("recipes", recipes).parse_args(arguments)
    for name, recipe in sources.recipes().items():
        told = recipe.error.message if recipe.error else recipe.header.get("goal", "")
        print(f"{name:<14}  {told}")
        if command := recipe.header.get("command"):
            print(f"{'':<14}  {command}")
    return 0


def keys(arguments: list[str]) -> int:
    """List every key, or those of one part, with its default and its meaning."""
    parser = _parser("keys", keys)
    parser.add_argument("part", nargs="?", default="", help="such as lora, train.learning_rate")
    part = parser.parse_args(arguments).part
    shown = [
        entry
        for entry in described(schema.Config)
        if entry[0] == part or entry[0].startswith(f"{part}." if part else "")
    ]
    for key, default, choices, text in shown:
        print(f"{key + '=' + default:<46}  {text}{f' [{choices}]' if choices else ''}")
    if not shown:
        every = [key for key, *_ in described(schema.Config)]
        parts = dict.fromkeys(key.split(".")[0] for key in every)
        close = suggestion(part, every)
        print(f"no key '{part}'; {close if close.startswith('did you') else 'parts: ' + ', '.join(parts)}")
    return 0 if shown else 2


def models(arguments: list[str]) -> int:
    """List what has been trained and merged, the newest first."""
    parser = _parser("models", models)
    parser.add_argument("--output-dir", default="outputs", help="where the runs are")
    folder = Path(parser.parse_args(arguments).output_dir)
    found = 0
    for path, state in runs(folder):
        if not (path / "model").exists():
            continue
        found += 1
        numbers = ", ".join(
            f"{key} {value:.3g}" for key, value in state.get("metrics", {}).items() if key.startswith("tuned.")
        )
        print(f"{state['name']:<14}  {state['started'][:16].replace('T', ' ')}  {path / 'model'}  {numbers}")
        if fit := _fit(path, state):
            print(f"{'':<14}  {fit}")
    if not found:
        print(f"no model in {folder} yet; try: python -m sft_runner recipe=quickstart")
    return 0


def preview(arguments: list[str]) -> int:
    """Show what a few rows become: as they were read, as messages, and as tokens with those that are trained marked."""
    parser = _parser("preview", preview)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _PREVIEW_HELP
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for the pipeline")
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="how many rows to show (3)")
    parser.add_argument("--whole", action="store_true", help="do not shorten long texts")
    words = parser.parse_intermixed_args(arguments)
    look(words.overrides, words.rows, words.whole)
    return 0


def fits(arguments: list[str]) -> int:
    """Show what fits: every shipped method on every card with every model, or those that are named."""
    from sft_runner.config.choices import choices
    from sft_runner.cost import survey

    parser = _parser("fits", fits)
    parser.add_argument("model", nargs="*", help="such as qwen2.5-7b")
    parser.add_argument("--hardware", action="append", default=[], metavar="NAME", help="such as rtx3060")
    parser.add_argument("--method", action="append", default=[], metavar="NAME", help="such as qlora")
    parser.add_argument("--json", action="store_true", help="a list, with the reason of each refusal")
    words = parser.parse_intermixed_args(arguments)
    for group in ("model", "hardware", "method"):
        for name in getattr(words, group):
            if name not in choices(group):
                raise UnknownName(group, name, choices(group))
    pairs = list(survey.survey(words.model, words.hardware, words.method))
    print(json.dumps([asdict(pair) for pair in pairs], indent=1) if words.json else "\n".join(survey.table(pairs)))
    return 0


def compare(arguments: list[str]) -> int:
    """Put runs beside each other: what was set otherwise, the scores with their intervals, and what it took."""
    parser = _parser("compare", compare)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _COMPARE_HELP
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder, a name, NAME/TIME, or how a time begins")
    parser.add_argument("--output-dir", default="outputs", help="where the runs are")
    parser.add_argument("--html", metavar="FILE", help="write a page with pictures too")
    parser.add_argument("--json", action="store_true", help="for programs")
    words = parser.parse_args(arguments)
    folder = Path(words.output_dir).expanduser()
    found = comparison.compare(list({run.folder: run for run in (find(word, folder) for word in words.runs)}.values()))
    if words.html:
        try:
            keep(Path(words.html).expanduser().absolute(), comparison_page.page(found))
        except (OSError, MachineError) as error:
            why = error.message if isinstance(error, MachineError) else f"{words.html}: {error.strerror}"
            raise UserError(f"--html {why}", "name a file in a folder that can be written") from error
    if words.json:
        print(json.dumps(comparison_text.as_json(found), indent=1, ensure_ascii=False))
    else:
        print(comparison_text.text(found, shutil.get_terminal_size((100, 24)).columns))
        if words.html:
            print(f"page: {words.html}")
    return 0


def report(arguments: list[str]) -> int:
    """Write the report of a run anew, from what its folder and its stages say, and print where it is."""
    parser = _parser("report", report)
    parser.add_argument("run", metavar="RUN", help="a run folder, a name, NAME/TIME, or how a time begins")
    parser.add_argument("--output-dir", default="outputs", help="where the runs are")
    words = parser.parse_args(arguments)
    print(make(find(words.run, Path(words.output_dir).expanduser()))[0])
    return 0


def metrics(arguments: list[str]) -> int:
    """List the metrics that evaluate.metrics and evaluate.gates may name: what each means, and which way is better."""
    parser = _parser("metrics", metrics)
    parser.add_argument("--json", action="store_true", help="a list, for programs")
    words = parser.parse_args(arguments)
    found: list[names.Named] = []
    broken: list[str] = []
    for name in names.known():
        try:
            found.append(names.find(name, ""))
        except UserError as error:
            broken.append(f"{name:<14}  {error.message}")
    if words.json:
        print(json.dumps([asdict(metric) | {"always": metric.name in names.ALWAYS} for metric in found], indent=1))
        return 0
    for metric in found:
        better = "less is better" if metric.lower_is_better else "more is better"
        when = "always measured" if metric.name in names.ALWAYS else f"by {metric.source}" if metric.source else ""
        print(f"{metric.name:<14}  {metric.help} ({better}{f', {when}' if when else ''})")
    print("\n".join(broken) + "\n" if broken else "", end="")
    print(f"A package of your own adds one by an entry point of the group {names.GROUP}: see docs/evaluation.md")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "recipes": recipes,
    "keys": keys,
    "models": models,
    "preview": preview,
    "fits": fits,
    "metrics": metrics,
    "compare": compare,
    "report": report,
}

_PREVIEW_HELP = """\
Trained tokens are green; without colours (in a file, or with NO_COLOR=1) they stand between ⟦ and ⟧. Below the rows
stand the sums of the first rows of each source: formats, lengths, what would be left out and why, and warnings.
Nothing is written, and no weights are loaded.

  sft-runner preview recipe=quickstart
  sft-runner preview recipe=qa data.path=my.jsonl --rows 10
  sft-runner preview recipe=qa data.path=my.jsonl model=tiny        # while your own model is not here yet
  sft-runner preview recipe=qa data.path=my.jsonl 'data.columns={question: title, answer: body}'
  sft-runner preview recipe=qa data.path=my.jsonl data.train_on=all"""

_COMPARE_HELP = """\
RUN is a name (its newest run), NAME/TIME, the beginning of a time, or a run folder, as `sft-runner models` shows them.
Only keys that differ are shown. The best score of a line is marked with *, and with ≈ those that cannot be told from it
on these rows: the 95 % interval of the difference holds 0. Runs that were scored on other rows are said to be not
comparable, and nothing is marked.

  sft-runner compare dates dates-r16
  sft-runner compare code/20260301-1200 code/20260302-0915 --html compare.html
  sft-runner compare outputs/runs/qa/* --json | jq '.scores[] | select(.name == "exact match")'"""


def described(part: type[Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Key, default, choices and help of every setting, read from the schema's own source."""
    texts = _help(part)
    instance = part()
    for item in fields(part):
        value = getattr(instance, item.name)
        if is_dataclass(value):
            yield from described(type(value), f"{prefix}{item.name}.")
        elif not item.metadata.get("found"):
            default = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            yield prefix + item.name, default, "|".join(item.metadata.get("choices", ())), texts.get(item.name, "")


def _help(part: type[Any]) -> dict[str, str]:
    """The docstring line under each field of a dataclass."""
    body = ast.parse(inspect.getsource(part)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
        ):
            found[statement.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return found


def _fit(folder: Path, state: Mapping[str, Any]) -> str:
    """Whether a model may be served: what it missed, how its run failed, or that it passed; empty without gates."""
    verdicts = gates.read(state)
    if missed := gates.failed(verdicts):
        return f"not fit to serve: {', '.join(map(str, missed))}"
    ended = state_of(folder, str(state.get("state")))
    if ended != "completed":
        why = str(state.get("error") or "").partition("\n")[0]
        return f"{ended}: {why}" if why else ended
    return "fit to serve" if verdicts and state.get("fit_to_serve") else ""


def _parser(name: str, command: Callable[[list[str]], int]) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"sft-runner {name}", description=command.__doc__)
