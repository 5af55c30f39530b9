"""The rule about what must never be checked in."""

from collections.abc import Iterator

from sft_runner.review.lint.finding import ERROR, Remark
from sft_runner.review.lint.rule import rule
from sft_runner.review.lint.subject import CHOICE, LOCAL, LOCK, MAIN, RECIPE, RECORD, UNREAD, Subject

HINT = "take it out and revoke it: a commit keeps it for ever; give it in a variable of the environment"


@rule(ERROR, RECIPE, CHOICE, MAIN, LOCK, RECORD, UNREAD)
def secret(subject: Subject) -> Iterator[Remark]:
    """What looks like a token, a key or a password, in a value or in a comment."""
    hint = HINT if subject.group != LOCAL else "give it in a variable of the environment, and see that git ignores it"
    for found in subject.secrets:
        yield Remark(found.line, f"what looks like {found.what} stands here", hint, found.text)
