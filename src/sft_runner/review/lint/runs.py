"""Rules about the run that a file asks for: composed on the preset that its header names, settled, and planned."""

from collections.abc import Callable, Iterator

from sft_runner.config.place import COMMAND_LINE
from sft_runner.review.lint.finding import ERROR, WARNING, Remark
from sft_runner.review.lint.placing import COMMAND, ELSEWHERE, OWN, place
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import CHOICE, RECIPE, Subject
from sft_runner.review.lint.unused import unused


@rule(ERROR, RECIPE, CHOICE)
def contradiction(subject: Subject) -> Iterator[Remark]:
    """Values that the pipeline refuses together, or beside what they are composed with."""
    yield from _refused(subject, OWN, ELSEWHERE)
    composition = subject.composition
    if composition and subject.kind == RECIPE:
        for error in composition.refusals:
            placed = place(subject, composition, error.message, error.hint)
            if placed and placed.by == OWN:
                yield placed.remark


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
    composition = subject.composition
    for error in composition.refusals if composition else ():
        if composition and (placed := place(subject, composition, error.message, error.hint)) and placed.by != OWN:
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
    if subject.kind == RECIPE and composition and composition.run and composition.run.composed:
        for key, why in unused(composition.run.composed, list(subject.settings)):
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


def _refused(subject: Subject, *by: str) -> Iterator[Remark]:
    """Why the run cannot be composed and settled, where these are at fault."""
    composition = subject.composition
    for error in composition.errors if composition else ():
        placed = place(subject, composition, error.message, error.hint) if composition else None
        if placed and placed.by in by:
            yield placed.remark


def _warned(subject: Subject, about: Callable[[str], bool]) -> Iterator[Remark]:
    """The pipeline's own warnings that are about something."""
    composition = subject.composition
    for text in composition.run.warnings if composition and composition.run else ():
        if about(text) and composition and (placed := place(subject, composition, text)):
            yield placed.remark
