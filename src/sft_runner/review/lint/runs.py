"""Rules about the run that a file asks for: composed on the preset that its header names, settled, and planned."""

import re
from collections.abc import Callable, Iterator

from sft_runner.config.place import COMMAND_LINE
from sft_runner.errors import SftError
from sft_runner.review.lint.composition import Composition
from sft_runner.review.lint.finding import ERROR, NOTE, WARNING, Remark
from sft_runner.review.lint.placing import COMMAND, ELSEWHERE, OWN, interpolating, place
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import CHOICE, MAIN, RECIPE, Subject
from sft_runner.review.lint.unused import unused

UNSET = re.compile(r"Environment variable '([^']+)' not found")
"""How OmegaConf says that `${oc.env:NAME}` is not set."""


@rule(ERROR, RECIPE, CHOICE, MAIN)
def contradiction(subject: Subject) -> Iterator[Remark]:
    """Values that the pipeline refuses together, or beside what they are composed with."""
    yield from _refused(subject, OWN, ELSEWHERE)
    for composition in subject.compositions if subject.kind != MAIN else ():
        for error in _unplanned(subject, composition):
            placed = place(subject, composition, error.message, error.hint)
            if placed and (placed.by == OWN or placed.by == ELSEWHERE and placed.remark.origins):
                yield placed.remark
    extends = (subject.file.values or {}).get("defaults")
    if subject.group == "model" and subject.compositions and not extends and "model.name" not in subject.settings:
        yield Remark(1, "model.name is not set: this file names no model", "write name: ORGANISATION/MODEL")


@rule(NOTE, RECIPE, CHOICE, MAIN)
def unset_variable(subject: Subject) -> Iterator[Remark]:
    """A variable of the environment that is not set here: the run that it goes into is not looked at."""
    for composition in subject.compositions:
        for error in composition.errors:
            if found := UNSET.search(error.message):
                line = interpolating(subject, error.message) or subject.line_of_header("command")
                yield Remark(line, f"the variable {found[1]} is not set here: this run is not looked at")


@rule(ERROR, RECIPE)
def command(subject: Subject) -> Iterator[Remark]:
    """The command in a recipe's header does not parse, names another recipe, or would be refused."""
    said = subject.file.header.get("command")
    if said is None:
        return
    line = subject.line_of_header("command")
    hint = f"write python -m sft_runner recipe={subject.name} hardware=NAME"
    if not subject.file.words:
        yield Remark(line, f"the command sets nothing, or does not parse: {said}", hint)
        return
    recipes = [word.partition("=")[2] for word in subject.file.words if word.startswith("recipe=")]
    if [name.strip("'\"") for name in recipes] != [subject.name]:
        what = f"is of recipe={recipes[0]}" if recipes else "names no recipe"
        yield Remark(line, f"the command {what}, and this file is {subject.name}", hint)
    yield from _refused(subject, COMMAND)
    for composition in subject.compositions:
        for error in _unplanned(subject, composition):
            placed = place(subject, composition, error.message, error.hint)
            if placed and placed.by != OWN and not (placed.by == ELSEWHERE and placed.remark.origins):
                yield Remark(line, f"the command would be refused: {error.message}", error.hint)


@rule(WARNING, RECIPE, CHOICE)
def learning_rate(subject: Subject) -> Iterator[Remark]:
    """A learning rate outside the usual range of the method, or one that was meant for another method."""
    yield from _warned(subject, lambda text: "train.learning_rate=" in text)


@rule(WARNING, RECIPE, CHOICE)
def no_effect(subject: Subject) -> Iterator[Remark]:
    """A setting that nothing reads, given the other settings."""
    yield from _warned(subject, lambda text: "without effect" in text)
    composition = subject.composition
    if composition and composition.run and composition.run.composed:
        for key, why in unused(composition.run.composed, list(subject.settings)):
            if subject.kind == CHOICE and not set(composition.keys(why)) & {*subject.settings}:
                continue  # what it is chosen beside may read it
            yield Remark(subject.line_of(subject.settings[key][0]), f"{key} without effect: {why}", "leave it out")


@rule(WARNING, RECIPE, CHOICE)
def doubtful(subject: Subject) -> Iterator[Remark]:
    """What can run as written, but is likely not what was meant."""
    yield from _warned(subject, lambda text: "without effect" not in text and "train.learning_rate=" not in text)


@rule(WARNING, RECIPE)
def overruled(subject: Subject) -> Iterator[Remark]:
    """A value that never holds: the command in the header, or a recipe that comes later in `defaults:`, beats it."""
    composition = subject.composition
    if composition is None or composition.found is None:
        return
    for key, words in composition.found.said.items():
        own = next((one for one in reversed(words) if one.place.file == subject.path), None)
        last = words[-1]
        if own is None or own is last or last.value == own.value or isinstance(last.value, dict):
            continue
        if last.place.file is None and last.place.layer != COMMAND_LINE or last.place.layer.startswith("local="):
            continue  # composed by Hydra: not known; and this machine's own settings are meant to win
        by = "the command in the header" if last.place.file is None else str(last.place)
        hint = "leave one of them out" if last.place.file is None else "put _self_ behind it in defaults:"
        yield Remark(own.place.line, f"{key} never has this value: {by} beats it", hint, key.rpartition(".")[2])
    for group, (line, name) in subject.chosen.items():
        if composition.typed(group) and (taken := composition.found.choices.get(group)) not in (None, name):
            message = f"{group}: {name} is never taken: the command in the header takes {taken}"
            yield Remark(line, message, "leave one of them out", group)


def _unplanned(subject: Subject, composition: Composition) -> Iterator[SftError]:
    """Why the run cannot be planned, but for what the rule `missing-path` tells."""
    told = "data.path" in subject.settings and not composition.typed("data.path")
    for error in composition.refusals:
        if not (told and error.message.startswith("data.path: ")):
            yield error


def _refused(subject: Subject, *by: str) -> Iterator[Remark]:
    """Why the run cannot be composed and settled, where these are at fault."""
    for composition in subject.compositions:
        for error in composition.errors:
            placed = None if UNSET.search(error.message) else place(subject, composition, error.message, error.hint)
            if placed and placed.by in by:
                yield placed.remark


def _warned(subject: Subject, about: Callable[[str], bool]) -> Iterator[Remark]:
    """The pipeline's own warnings that are about something."""
    for composition in subject.compositions:
        for text in composition.run.warnings if composition.run else ():
            if about(text) and (placed := place(subject, composition, text)):
                yield placed.remark
