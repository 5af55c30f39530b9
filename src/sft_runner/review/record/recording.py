"""From a run to the row beside its recipe: which recipe that is, and whether it is still what was run."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from sft_runner.config import sources
from sft_runner.errors import SftError, UnknownName, UserError
from sft_runner.fingerprint import Hashes
from sft_runner.report.record import Record
from sft_runner.review.record import measured, whole
from sft_runner.review.record.made import STAGE, differences, made
from sft_runner.review.record.measured import part
from sft_runner.review.record.table import Row

_MOST = 4
"""Differences that a message names."""
_LOCAL = "conf/local is left out here, since nobody else has it: what a result depends on belongs on the command line"


@dataclass(frozen=True)
class Recorded:
    """A run's row, and the recipe that it belongs to."""

    record: Record
    """The run."""
    recipe: str
    """Its recipe's name."""
    path: Path
    """Its recipe's file."""
    row: Row
    """What the table says of it."""


def recorded(record: Record, recipe: str | None, force: bool, hashes: Hashes) -> Recorded:
    """The row of a run. `recipe` is a recipe's name or file where it is not the run's own.

    With `force` a run is taken although it is damaged, or the recipe does not make it any more, and its row says so.
    The row also says which stages were made anew since: its figures are of those.
    Raises `UserError` for a run without a result, without a recipe, or of another recipe than the one that is there.
    """
    record = whole.judged(record)
    measured.require_measured(record)
    name = _named(recipe) if recipe else str(part(record.known, "choices").get("recipe") or "")
    if not name or name == "None":
        raise UserError(f"run {record.label} was made without a recipe", "name the one it belongs to: --recipe FILE")
    file = sources.recipes().get(name)
    if file is None:
        known = part(record.known, "recipe").get("file", name)
        hint = "go to the folder that has ./recipes, or name the one it belongs to: --recipe FILE"
        raise UserError(f"run {record.label}: its recipe {known} is not here", hint)
    if file.path.is_relative_to(sources.PACKAGE):
        hint = f"copy it to ./recipes/{file.path.name} first: what lies in the package is gone with its next version"
        raise UserError(f"{name} is a recipe that came with the package", hint)
    marks = [] if whole.is_sealed(record) else ["not sealed"]
    held = whole.held(record)
    if held.anew:
        marks.append(f"{' and '.join(held.anew)} made anew since")
    if held.damage:
        marks.append("**damaged**")
        if not force:
            command = shlex.join(["sft-runner", "verify", sources.shown(record.folder)])
            hint = f"all of it: {command}; record it all the same, marked: --force"
            raise UserError(f"run {record.label} is not as it was written: {held.damage[0]}", hint)
    if why := _changed(record, name, hashes):
        marks.append("**not what the recipe makes**")
        if not force:
            hint = "run it again as it is, or record it all the same, marked: --force"
            hint += f"\n  {_LOCAL}" if Path("conf", sources.LOCAL).is_dir() else ""
            raise UserError(f"run {record.label}: {sources.shown(file.path)} is not what it ran: {why}", hint)
    return Recorded(record, name, file.path, measured.row(record, marks))


def _named(recipe: str) -> str:
    """The name of the recipe that `--recipe` means: a file in a folder of recipes, or a name."""
    known = sources.recipes()
    if recipe in known:
        return recipe
    path = Path(recipe).expanduser()
    found = next((name for name, file in known.items() if file.path.resolve() == path.resolve()), None)
    if found:
        return found
    if path.is_file():
        raise UserError(
            f"{recipe}: recipe= does not find it", "recipes are ./recipes/NAME.yaml below the folder you are in"
        )
    raise UnknownName("recipe", recipe, known, "--recipe: ")


def _changed(record: Record, recipe: str, hashes: Hashes) -> str:
    """Why a recipe with the words of a run makes something else by now; empty where it makes the same."""
    try:
        now = made(recipe, measured.said(record), hashes)
    except SftError as error:
        return f"it cannot be composed with the run's words: {error.message}"
    if now is None:
        return "its data or its model is not on this machine"
    if now.fingerprint == part(record.known, "stages").get(STAGE):
        judged = part(record.config, "evaluate").get("gates", now.run.config.evaluate.gates)
        return "" if judged == now.run.config.evaluate.gates else "evaluate.gates"
    found = list(dict.fromkeys(differences(record.manifests, now)))
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return ", ".join(found[:_MOST]) + more if found else "an earlier stage differs"
