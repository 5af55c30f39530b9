"""What becomes of each key: a recipe that grows, and lists in which every key of the other program stands once."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from sft_runner.config.schema import Config, flatten
from sft_runner.masking import masked
from sft_runner.method import number as rate
from sft_runner.review.lint.secret import secrets, without

CARRIED, CHANGED, NO_EFFECT, NOT_CARRIED, UNKNOWN = "carried", "changed", "no_effect", "not_carried", "unknown"
LISTS = (CARRIED, CHANGED, NO_EFFECT, NOT_CARRIED, UNKNOWN)
"""As it was; with another meaning; nothing to carry; lost; no key of that program."""
_SECRET = re.compile(r"(^|_)(token|secret|webhook_url|password|passwd|api_?key|credentials?)$", re.I)
_NO_SECRET = ("eos_token", "pad_token", "bos_token", "unk_token")


@dataclass(frozen=True)
class Finding:
    """One key of the other program."""

    key: str
    """Its name, such as `micro_batch_size` or `datasets[0].path`."""
    value: Any
    """Its value; `***` for what may be a secret."""
    kind: str
    """The list that it stands in, one of `LISTS`."""
    ours: str = ""
    """What it became: `train.learning_rate=0.0002`; empty where it became nothing."""
    note: str = ""
    """What it means here, or what to do."""


@dataclass(frozen=True)
class Assumed:
    """A value that the file leaves open, and that is another there than here."""

    key: str
    """Our key."""
    value: Any
    """What the other program takes."""
    note: str
    """Why it is set."""


@dataclass
class Draft:
    """The recipe as far as it is known, and the keys that nothing was said of yet."""

    program: str
    """`axolotl`, `LLaMA-Factory` or `TRL`."""
    given: dict[str, Any]
    """Every key of the file with its value."""
    pending: dict[str, Any] = field(default_factory=dict)
    """Those in no list yet."""
    findings: list[Finding] = field(default_factory=list)
    """Those that are."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Our key -> value, flat: `train.learning_rate`."""
    comments: dict[str, str] = field(default_factory=dict)
    """Our key -> what is said beside it."""
    choices: dict[str, str] = field(default_factory=dict)
    """Group -> the file that is chosen: `{"method": "qlora"}`."""
    words: dict[str, str] = field(default_factory=dict)
    """What is said of the machine, which no recipe may: `{"hardware.optim": "adamw_torch"}`."""
    assumed: list[Assumed] = field(default_factory=list)
    """The other program's own defaults."""
    todo: list[str] = field(default_factory=list)
    """What a person must do before it can run."""
    remarks: list[str] = field(default_factory=list)
    """What the recipe's header says of it as a whole."""

    def __post_init__(self) -> None:
        self.pending = dict(self.given)

    def has(self, key: str) -> bool:
        """Whether the file says something for it that is in no list yet."""
        return self.pending.get(key) is not None

    def value(self, key: str, default: Any = None) -> Any:
        """What the file says, listed or not; a null says nothing."""
        found = self.given.get(key)
        return default if found is None else found

    def flag(self, key: str, default: bool = False) -> bool:
        """Whether it is switched on."""
        found = self.value(key, default)
        return found.lower() in ("true", "yes", "on", "1") if isinstance(found, str) else bool(found)

    def number(self, key: str, default: float | None = None) -> float | None:
        """Its number; `2e-4` is a text in YAML, and a number all the same. None for what is no finite number."""
        return as_number(self.value(key, default))

    def carried(self, key: str, ours: str, value: Any, note: str = "") -> None:
        """The same thing under our name."""
        self._took(CARRIED, key, ours, value, note)

    def changed(self, key: str, ours: str, value: Any, note: str) -> None:
        """Something like it, and `note` says what is different."""
        if self._took(CHANGED, key, ours, value, note):
            self.comments.setdefault(ours, note.partition(";")[0])

    def told(self, kind: str, key: str, note: str, ours: str = "") -> None:
        """A key that sets nothing by itself."""
        shown = _shown(key, self.pending.pop(key))
        self.findings.append(Finding(key, shown, kind, hidden(ours), hidden(note)))

    def to_do(self, said: str) -> None:
        """Something that is left to a person."""
        if hidden(said) not in self.todo:
            self.todo.append(hidden(said))

    def of_machine(self, key: str, ours: str, value: str, note: str = "") -> None:
        """Something about the machine: a word of the command, because no recipe says it."""
        if not re.fullmatch(r"[\w.+-]+", value):
            self.told(NOT_CARRIED, key, f"{ours} takes no such value")
            return
        if self.words.get(ours, value) != value:
            self._conflict(key, ours, self.words[ours])
            return
        self.words[ours] = value
        why = "a word of the command: a recipe says nothing of the machine"
        self.told(CHANGED, key, f"{note}; {why}" if note else why, f"{ours}={value}")

    def assume(self, ours: str, value: Any, note: str = "") -> None:
        """The other program's default, where the file says nothing of it; with a `note` also where ours is the same."""
        usual = flatten(Config())[ours][0] if not note else None
        if ours not in self.settings and (note or value != usual):
            self.settings[ours] = value
            said = note or f"the default of {self.program}"
            self.comments.setdefault(ours, said.partition(";")[0])
            self.assumed.append(Assumed(ours, value, said))

    def table(self, kind: str, notes: Mapping[str, str]) -> None:
        """Keys of which only one thing is to be said; what is off, or empty, loses nothing."""
        for key in [key for key in self.pending if key in notes]:
            off = kind == NOT_CARRIED and _off(self.pending[key])
            self.told(NO_EFFECT if off else kind, key, "off, as here" if off else notes[key])

    def empty(self, known: Collection[str]) -> None:
        """Keys without a value."""
        for key in [key for key, value in self.pending.items() if value is None and last(key) in known]:
            self.told(NO_EFFECT, key, "left empty")

    def rest(self, known: Collection[str]) -> None:
        """All that is left: known keys for which there is nothing here, and keys that nobody knows."""
        for key in list(self.pending):
            if last(key) in known:
                off = _off(self.pending[key])
                self.told(
                    NO_EFFECT if off else NOT_CARRIED, key, "off, as here" if off else "there is no such thing here"
                )
            else:
                close = get_close_matches(last(key), sorted(known), n=1, cutoff=0.75)
                hint = f"did you mean '{close[0]}'?" if close else "it may be newer than this list, or a plugin's"
                self.told(UNKNOWN, key, f"no key of {self.program}; {hint}")

    def sort(self) -> None:
        """Findings in the order of the file, those about other files behind them."""
        order = {key: place for place, key in enumerate(self.given)}
        self.findings.sort(key=lambda finding: order.get(finding.key, len(order)))

    def _took(self, kind: str, key: str, ours: str, value: Any, note: str) -> bool:
        if unsafe(value):
            self.told(NOT_CARRIED, key, f"holds ${{...}} or ???, which would be read as a reference here; set {ours}")
            return False
        if secret(value):
            self.told(NOT_CARRIED, key, f"looks like a secret, and a recipe is for all to read; set {ours}")
            self.to_do(f"{key} holds what looks like a secret: set {ours} without it")
            return False
        if ours in self.settings and not _adds(self.settings[ours], value):
            self._conflict(key, ours, self.settings[ours])
            return False
        self.settings[ours] = value
        self.told(kind, key, note, f"{ours}={typed(value)}")
        return True

    def _conflict(self, key: str, ours: str, said: Any) -> None:
        """Two keys of the file mean different values of one of ours: the first stays."""
        self.told(NOT_CARRIED, key, f"another key says {ours}={typed(said)}")
        self.to_do(f"{key} and another key do not say the same: set {ours} to what is meant ({typed(said)} is written)")


def notes(groups: Mapping[str, str]) -> dict[str, str]:
    """Note -> names, turned round: name -> note."""
    return {name: note for note, names in groups.items() for name in names.split()}


def last(key: str) -> str:
    """The name of a key inside a list: `path` of `datasets[0].path`, `format` of `datasets[0].type.format`."""
    return key.partition("].")[2].rpartition(".")[2] or key


def as_number(value: Any) -> float | None:
    """A finite number, whole ones as `int`; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(found):
        return None
    return int(found) if found == int(found) and not (isinstance(value, float) or "." in str(value)) else found


def typed(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {typed(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return rate(value) if value > 0 and float(rate(value)) == value else str(value)
    return str(value)


def hidden(text: str) -> str:
    """A text without the passwords, tokens and keys in it."""
    return masked(without(text, list(secrets(text.splitlines()))))


def secret(value: Any) -> bool:
    """Whether a text in it looks like a secret."""
    if isinstance(value, Mapping):
        return any(secret(f"{key}: {inner}") or secret(inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(map(secret, value))
    if not isinstance(value, str):
        return False
    shown = without(value, list(secrets(value.splitlines())))
    return (shown if re.search(r"\s", value) else masked(shown)) != value  # a prompt may quote an address


def unsafe(value: Any) -> bool:
    """Whether a text in it would be read as a reference to another key, or to an environment variable."""
    if isinstance(value, Mapping):
        return any(unsafe(key) or unsafe(inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(map(unsafe, value))
    return isinstance(value, str) and ("${" in value or value == "???")


def _adds(old: Any, value: Any) -> bool:
    """Whether a value says the same, or says more than a mapping that is there."""
    return bool(old == value) or (isinstance(old, dict) and isinstance(value, dict) and {**old, **value} == value)


def _off(value: Any) -> bool:
    return not value or (isinstance(value, str) and value.lower() in ("none", "no", "off", "false", "null"))


def _shown(key: str, value: Any) -> Any:
    """The value for people, without what may be a secret."""
    if isinstance(value, Mapping):
        return {name: _shown(name, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shown(key, inner) for inner in value]
    if isinstance(value, str):
        return "***" if value and _SECRET.search(last(key)) and last(key) not in _NO_SECRET else hidden(value)
    return value
