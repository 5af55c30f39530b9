"""Everything that can go wrong, as one small tree.

    SftError                the family: message, hint, exit code
    ├── StageFailed     1   a stage (or the check inside it) failed; the same command resumes
    │   ├── NotFinite   1   a loss is not a number
    │   └── GateFailed  1   the tuned model does not reach what `evaluate.gates` wants
    ├── UserError       2   what the user wrote cannot run
    │   ├── UnknownName 2   a key or a choice that does not exist, with a suggestion
    │   ├── DataError   2   a data file or a row that cannot be used
    │   └── UserErrors  2   several of them, shown at once
    └── MachineError    3   the machine lacks something: a model, a package, a port, memory

Messages speak the user's words: the key, the file and line or the row. The hint says what to do.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import StrEnum


class SftError(Exception):
    """A failure that is explained to the user instead of shown as a traceback."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def show(self) -> str:
        """The text for the terminal: one line for the message, one for the hint."""
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _revive, (type(self), self.message, self.hint), vars(self)


class StageFailed(SftError):
    """A stage could not finish."""


class NotFinite(StageFailed):
    """A loss, or a merged weight, is not a number."""


class GateFailed(StageFailed):
    """The tuned model does not reach what it must to be served."""


class Mistake(StrEnum):
    """Sorts of mistakes in a recipe or in a file of `conf/`; the rules of `lint` about them have these names."""

    NOT_YAML = "not-yaml"
    UNKNOWN_KEY = "unknown-key"
    UNKNOWN_CHOICE = "unknown-choice"
    WRONG_VALUE = "wrong-value"
    HARDWARE_IN_RECIPE = "hardware-in-recipe"
    PACKAGE_HEADER = "package-header"
    REPEATED_KEY = "repeated-key"
    MISSING_PATH = "missing-path"


class UserError(SftError):
    """The recipe, the command line or the data cannot run as written.

    `kind` is the sort of a mistake in a file, and `about` the key or the group that it is about, empty for the file.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "", kind: Mistake = Mistake.WRONG_VALUE, about: str = "") -> None:
        super().__init__(message, hint)
        self.kind = kind
        self.about = about


class UnknownName(UserError):
    """A name that does not exist; the closest existing one is suggested."""

    def __init__(
        self,
        what: str,
        name: str,
        known: Iterable[str],
        where: str = "",
        kind: Mistake = Mistake.WRONG_VALUE,
        about: str = "",
    ) -> None:
        known = sorted(set(known))
        super().__init__(f"{where}{what} '{name}' does not exist", suggestion(name, known), kind, about)


class DataError(UserError):
    """A data file or one of its rows cannot be used."""


class UserErrors(UserError):
    """All mistakes of one command, so that they can be mended in one go."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        super().__init__("\nerror: ".join(error.show() for error in errors))
        self.errors = tuple(errors)


class MachineError(SftError):
    """The machine lacks something that the run needs."""

    exit_code = 3


def suggestion(name: str, known: Sequence[str]) -> str:
    """A hint that names the closest of `known`, or lists them when none is close."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = ", ".join(known[:20])
    return f"known: {shown}{' ...' if len(known) > 20 else ''}" if known else ""


def raise_all(errors: Sequence[UserError]) -> None:
    """Raise nothing, the one error, or all of them together."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise UserErrors(errors)


def _revive(kind: type[SftError], message: str, hint: str) -> SftError:
    """Rebuild an error in another process; subclasses with other signatures are not called again, and get back what
    they hold."""
    error = kind.__new__(kind)
    SftError.__init__(error, message, hint)
    return error
