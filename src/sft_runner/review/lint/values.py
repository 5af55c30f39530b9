"""Rules about what a file says, each key by itself."""

import re
from collections.abc import Iterator

from sft_runner.review.lint.finding import ERROR, Remark
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import CHOICE, MAIN, RECIPE, Subject

READ = (RECIPE, CHOICE, MAIN)


@rule(ERROR, *READ)
def not_yaml(subject: Subject) -> Iterator[Remark]:
    """The file is not valid YAML, or no mapping of keys to values."""
    yield from _mistakes(subject, "not-yaml")


@rule(ERROR, *READ)
def unknown_key(subject: Subject) -> Iterator[Remark]:
    """A key that the configuration does not have."""
    yield from _mistakes(subject, "unknown-key")


@rule(ERROR, *READ)
def unknown_choice(subject: Subject) -> Iterator[Remark]:
    """A line of `defaults:` chooses what is not there."""
    yield from _mistakes(subject, "unknown-choice")


@rule(ERROR, *READ)
def wrong_value(subject: Subject) -> Iterator[Remark]:
    """A value of the wrong type, or one that its key does not take."""
    yield from _mistakes(subject, "wrong-value")


@rule(ERROR, RECIPE)
def hardware_in_recipe(subject: Subject) -> Iterator[Remark]:
    """A recipe sets `hardware.*`, which says how to fit a machine and not what to learn."""
    yield from _mistakes(subject, "hardware-in-recipe")


@rule(ERROR, CHOICE)
def package_header(subject: Subject) -> Iterator[Remark]:
    """A file in `conf/` whose keys belong to no part of the configuration: `# @package _global_` is missing."""
    yield from _mistakes(subject, "package-header")


@rule(ERROR, *READ)
def repeated_key(subject: Subject) -> Iterator[Remark]:
    """A key that is written twice in one mapping: YAML takes the last one without a word."""
    yield from _mistakes(subject, "repeated-key")


FORMS = (
    ("not-yaml", r"not valid YAML|cannot be read|is a mapping of keys to values"),
    ("repeated-key", r"key '[^']*' is repeated"),
    ("unknown-key", r"key '[^']*' does not exist"),
    ("hardware-in-recipe", r"does not belong into a recipe"),
    ("package-header", r"there is no part '"),
    ("unknown-choice", r"\w+ '[^']*' does not exist|goes with no other tracker"),
)
"""Rule -> how the messages are worded that are its findings; any other is of `wrong-value`."""


def _mistakes(subject: Subject, name: str) -> Iterator[Remark]:
    """What the pipeline refuses of the file that is the matter of one rule."""
    for error in subject.mistakes:
        message, line = subject.placed(error.message)
        if next((rule for rule, form in FORMS if re.search(form, message)), "wrong-value") == name:
            word = re.search(r"key '([^']*)'|^([\w.]+)=", message)
            last = (word[1] or word[2]).rpartition(".")[2] if word else ""
            group = (re.search(r"^(?:group '(\w+)'|(\w+))", message) or [""])[0].removeprefix("group ").strip("'")
            if name == "unknown-choice" and group in subject.chosen:
                last = group
            yield Remark(line or 1, message, error.hint, last)
