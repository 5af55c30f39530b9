"""Rules about what a file says, each key by itself."""

from collections.abc import Iterator

from sft_runner.errors import Mistake
from sft_runner.review.lint.finding import ERROR, Remark
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import CHOICE, MAIN, RECIPE, Subject

READ = (RECIPE, CHOICE, MAIN)


@rule(ERROR, *READ)
def not_yaml(subject: Subject) -> Iterator[Remark]:
    """The file is not valid YAML, or no mapping of keys to values."""
    yield from _mistakes(subject, Mistake.NOT_YAML)


@rule(ERROR, *READ)
def unknown_key(subject: Subject) -> Iterator[Remark]:
    """A key that the configuration does not have."""
    yield from _mistakes(subject, Mistake.UNKNOWN_KEY)


@rule(ERROR, *READ)
def unknown_choice(subject: Subject) -> Iterator[Remark]:
    """A line of `defaults:` chooses what is not there."""
    yield from _mistakes(subject, Mistake.UNKNOWN_CHOICE)


@rule(ERROR, *READ)
def wrong_value(subject: Subject) -> Iterator[Remark]:
    """A value of the wrong type, or one that its key does not take."""
    yield from _mistakes(subject, Mistake.WRONG_VALUE)


@rule(ERROR, RECIPE)
def hardware_in_recipe(subject: Subject) -> Iterator[Remark]:
    """A recipe sets `hardware.*`, which says how to fit a machine and not what to learn."""
    yield from _mistakes(subject, Mistake.HARDWARE_IN_RECIPE)


@rule(ERROR, CHOICE, MAIN)
def package_header(subject: Subject) -> Iterator[Remark]:
    """A file in `conf/` whose keys belong to no part of the configuration: `# @package _global_` is missing."""
    yield from _mistakes(subject, Mistake.PACKAGE_HEADER)


@rule(ERROR, *READ)
def repeated_key(subject: Subject) -> Iterator[Remark]:
    """A key that is written twice in one mapping: YAML takes the last one without a word."""
    yield from _mistakes(subject, Mistake.REPEATED_KEY)


def _mistakes(subject: Subject, kind: Mistake) -> Iterator[Remark]:
    """What the pipeline refuses of the file that is the matter of one rule."""
    for error in subject.mistakes:
        if error.kind == kind:
            message, line = subject.placed(error.message)
            word = error.about if kind == Mistake.UNKNOWN_CHOICE else error.about.rpartition(".")[2]
            yield Remark(line or 1, message, error.hint, word)
