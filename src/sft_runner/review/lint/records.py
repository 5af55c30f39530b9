"""Rules about what lies beside a recipe: its lock and its record."""

import re
from collections.abc import Iterator
from functools import cache

from sft_runner.config.mistakes import in_overrides
from sft_runner.config.sources import recipes
from sft_runner.errors import SftError
from sft_runner.fingerprint import Hashes
from sft_runner.review.lint.finding import ERROR, WARNING, Remark
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import LOCK, RECORD, Subject
from sft_runner.review.lock import file
from sft_runner.review.record import table


@rule(ERROR, LOCK)
def broken_lock(subject: Subject) -> Iterator[Remark]:
    """A lock that cannot be read: not YAML, of a newer version, or with a merge conflict in it."""
    if subject.name not in recipes():
        return
    try:
        file.at(subject.path)
    except SftError as error:
        message, line = subject.placed(error.message)
        number = line or next((int(said) for said in re.findall(r"line (\d+)", message)), 1)
        yield Remark(number, message, error.hint)


@rule(WARNING, RECORD)
def stale_record(subject: Subject) -> Iterator[Remark]:
    """A row of the record that is not what the recipe makes: measure it again, or take the row out."""
    if subject.name not in recipes() or not subject.own:  # a shipped one was looked at before it was shipped
        return
    hashes = _hashes()
    try:
        for row in table.read(subject.path):
            for error in in_overrides(row.words):
                yield Remark(row.line, f"this row's words no longer compose: {error.message}", error.hint)
        for row, why in table.stale(subject.name, hashes):
            yield Remark(row.line, f"this row is not of the recipe as it is: {why}", "sft-runner record RUN adds a row")
    except SftError as error:
        message, line = subject.placed(error.message)
        yield Remark(line or 1, message, error.hint)
    hashes.save()


@cache
def _hashes() -> Hashes:
    """What is remembered of files, read once: it is long."""
    return Hashes()
