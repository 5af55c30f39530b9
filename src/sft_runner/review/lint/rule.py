"""A rule: a function that looks at one file; its docstring is what `sft-runner lint --rules` prints."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sft_runner.review.lint.finding import Remark

if TYPE_CHECKING:
    from sft_runner.review.lint.subject import Subject

Look = Callable[["Subject"], Iterator[Remark]]


@dataclass(frozen=True)
class Rule:
    """What is looked for."""

    name: str
    """In kebab case; it stands in messages and behind `# lint: ignore`."""
    severity: str
    """How bad its findings are."""
    help: str
    """What it finds, in a sentence."""
    kinds: tuple[str, ...]
    """The kinds of files that it looks at."""
    look: Look
    """Finds it in one file."""


def rule(severity: str, *kinds: str) -> Callable[[Look], Rule]:
    """Makes a rule of a function, named as the function is; it looks at files of these kinds."""

    def made(look: Look) -> Rule:
        name = look.__name__.replace("_", "-")
        return Rule(name, severity, " ".join((look.__doc__ or "").split()), kinds, look)

    return made
