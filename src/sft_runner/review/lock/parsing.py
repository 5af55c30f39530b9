"""From the text of a lock to its entries. A lock is a gate: what is not exactly as it was written is refused."""

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from sft_runner.errors import UserError
from sft_runner.review.lock.entry import OPEN, Entry, Held, Rows, Weights

VERSION = 1
"""Of the form of the file."""
CONFLICT = re.compile(r"^(?:<{7}|={7}|>{7}|\|{7})(?:[ \r\n]|\Z)", re.MULTILINE)
PARTS = ("words", "model", "tokenizer", "template", "data", "stages", "versions", "settings", "libraries")
"""What every entry says; `sets` only where there are some."""
MODEL = ("name", "commit", "sha256")
"""What is said of the model; `own_code` only where there is some."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Lines = dict[tuple[str, ...], int]


class BrokenLock(UserError):
    """A lock that cannot be used."""

    def __init__(self, shown: str, line: int, what: str, hint: str) -> None:
        super().__init__(f"{shown}, line {line}: {what}", hint)
        self.line, self.what = line, what


class EmptyLock(BrokenLock):
    """One that holds nothing, so that nothing is lost where it is made anew."""


def parse(path: Path, shown: str) -> tuple[dict[str, Entry], Lines]:
    """The entries by preset, and the line of each key. Raises `BrokenLock`."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BrokenLock(shown, 1, f"cannot be read: {error.strerror}", "check its permissions") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BrokenLock(shown, line, f"not UTF-8: {error.reason}", _again(path)) from None
    if not text.strip():
        raise EmptyLock(shown, 1, "the lock is empty", f"run {_command(path)}")
    if found := CONFLICT.search(text):
        line = text.count("\n", 0, found.start()) + 1
        hint = f"take either side (git checkout --ours -- {shlex.quote(shown)}), then run {_command(path)}"
        raise BrokenLock(shown, line, "a merge conflict that is not resolved", hint)
    if not text.endswith("\n"):
        raise BrokenLock(shown, text.count("\n") + 1, "cut off in the middle of a line", _again(path))
    values, lines = _loaded(text, path, shown)
    return _Reader(path, shown, lines).presets(values), lines


def _loaded(text: str, path: Path, shown: str) -> tuple[Any, Lines]:
    loader = _Loader(text)
    lines: Lines = {}
    try:
        node = loader.get_single_node()
        _Walk(path, shown, lines).over(node, ())
        return loader.construct_document(node) if node else None, lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BrokenLock(shown, line, f"not valid YAML: {error.problem}", _again(path)) from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise BrokenLock(shown, 1, f"not valid YAML: {str(error).splitlines()[0]}", _again(path)) from None
    finally:
        loader.dispose()


class _Walk:
    """Notes the line of each key. A key that stands twice is what a merge leaves behind; an alias is never written."""

    def __init__(self, path: Path, shown: str, lines: Lines) -> None:
        self.path, self.shown, self.lines = path, shown, lines
        self.seen: set[int] = set()

    def over(self, node: Any, above: tuple[str, ...]) -> None:
        if not isinstance(node, yaml.CollectionNode):
            return
        if id(node) in self.seen:
            self._refuse(node, "an alias")
        self.seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for number, entry in enumerate(node.value):
                self.over(entry, (*above, str(number)))
            return
        for key, value in node.value:
            below = (*above, str(key.value))
            if below in self.lines:
                self._refuse(key, f"'{key.value}' stands there twice")
            self.lines[below] = key.start_mark.line + 1
            self.over(value, below)

    def _refuse(self, node: Any, what: str) -> None:
        raise BrokenLock(self.shown, node.start_mark.line + 1, f"the lock is damaged: {what}", _again(self.path))


class _Reader:
    """Reads the values of one file, and says where one is not what it must be."""

    def __init__(self, path: Path, shown: str, lines: Lines) -> None:
        self.path, self.shown, self.lines = path, shown, lines

    def presets(self, values: Any) -> dict[str, Entry]:
        if not isinstance(values, dict) or "version" not in values:
            raise BrokenLock(self.shown, 1, "no lock: it does not say its version", _again(self.path))
        version = self._is(int, values, "version")
        if version > VERSION:
            what = f"version {version} of the lock is from a newer sft-runner; this one reads up to version {VERSION}"
            raise BrokenLock(self.shown, self.lines[("version",)], what, "install the sft-runner that wrote it")
        if version < 1:
            self._wrong(("version",), f"{version} is no version of a lock")
        self._only(values, (), ("version", "presets"))
        found = self._is(dict, values, "presets")
        return {str(name): self._entry(found, str(name)) for name in found}

    def _entry(self, presets: Mapping[str, Any], name: str) -> Entry:
        at = ("presets", name)
        entry = self._is(dict, presets, name, at[:-1])
        self._only(entry, at, PARTS, ("sets",))
        data = None if entry["data"] == OPEN else self._held(entry, "data", at)
        found = Entry(
            words=tuple(self._texts(entry, "words", at)),
            model=self._model(entry, at),
            tokenizer=self._text(entry, "tokenizer", at),
            template=self._text(entry, "template", at),
            data=data,
            sets=self._held(entry, "sets", at) if "sets" in entry else None,
            stages=self._mapping(entry, "stages", at, str),
            versions=self._mapping(entry, "versions", at, int),
            settings={str(key): value for key, value in self._is(dict, entry, "settings", at).items()},
            libraries=self._mapping(entry, "libraries", at, str, open_=True),
        )
        self._complete(found, at)
        return found

    def _model(self, entry: Mapping[str, Any], above: tuple[str, ...]) -> Weights:
        model, at = self._is(dict, entry, "model", above), (*above, "model")
        self._only(model, at, MODEL, ("own_code",))
        if model.get("own_code", True) is not True:
            self._wrong((*at, "own_code"), f"'own_code' is {model['own_code']!r}, and not true")
        name, commit, sha256 = (
            self._is(str, model, "name", at),
            self._text(model, "commit", at),
            self._text(model, "sha256", at),
        )
        return Weights(name, commit, sha256, "own_code" in model)

    def _complete(self, entry: Entry, at: tuple[str, ...]) -> None:
        """Only of a hub model that was not here the bytes are unknown; without them, or data, some fingerprints are."""
        model = entry.model
        if model.commit is None and model.sha256 is None:
            self._wrong((*at, "model"), "of the model neither 'commit' nor 'sha256' is known")
        if (model.sha256 is None) != (entry.tokenizer is None):
            self._wrong((*at, "tokenizer"), "'sha256' of the model and 'tokenizer' are known together or not at all")
        if entry.template is None and entry.tokenizer is not None:
            self._wrong((*at, "template"), "'template' is missing")
        if more := sorted({*entry.stages} - {*entry.versions}):
            self._wrong((*at, "stages", more[0]), f"the stage '{more[0]}' has no version")
        missing = [name for name in entry.versions if name not in entry.stages]
        if missing and entry.tokenizer is not None and entry.data is not None:
            self._wrong((*at, "stages"), f"the fingerprint of '{missing[0]}' is missing")

    def _held(self, entry: Mapping[str, Any], name: str, at: tuple[str, ...]) -> Held:
        held = self._is(dict, entry, name, at)
        below = (*at, name)
        self._only(held, below, ("sha256", "sources"))
        found = self._is(dict, held, "sources", below)
        rows = {}
        for source in found:
            values, place = self._is(dict, found, source, (*below, "sources")), (*below, "sources", str(source))
            self._only(values, place, ("sha256", "rows"))
            rows[str(source)] = Rows(self._is(str, values, "sha256", place), self._is(int, values, "rows", place))
        return Held(self._is(str, held, "sha256", below), rows)

    def _mapping(
        self, entry: Mapping[str, Any], name: str, at: tuple[str, ...], kind: type[Any], open_: bool = False
    ) -> dict[str, Any]:
        found = self._is(dict, entry, name, at)
        return {
            str(key): None if open_ and value is None else self._is(kind, found, key, (*at, name))
            for key, value in found.items()
        }

    def _only(
        self, values: Mapping[str, Any], at: tuple[str, ...], needed: Collection[str], more: Collection[str] = ()
    ) -> None:
        """Refuse what is missing, and what no lock says."""
        for name in needed:
            if name not in values:
                self._wrong(at, f"'{name}' is missing")
        for name in values:
            if name not in (*needed, *more):
                self._wrong((*at, str(name)), f"'{name}' is nothing that a lock says")

    def _texts(self, entry: Mapping[str, Any], name: str, at: tuple[str, ...]) -> list[str]:
        found = self._is(list, entry, name, at)
        if not all(isinstance(text, str) for text in found):
            self._wrong((*at, name), f"'{name}' is a list of texts")
        return list(found)

    def _text(self, values: Mapping[str, Any], name: str, at: tuple[str, ...]) -> str | None:
        if name in values and values[name] is None:
            return None
        return str(self._is(str, values, name, at))

    def _is(self, kind: type[Any], values: Mapping[str, Any], name: Any, at: tuple[str, ...] = ()) -> Any:
        """A value of a kind."""
        if name not in values:
            self._wrong(at, f"'{name}' is missing")
        value = values[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            told = {dict: "a mapping", list: "a list", str: "a text", int: "a whole number"}[kind]
            self._wrong((*at, str(name)), f"'{name}' is {value!r}, and not {told}")
        return value

    def _wrong(self, at: tuple[str, ...], what: str) -> None:
        line = next((self.lines[at[:end]] for end in range(len(at), 0, -1) if at[:end] in self.lines), 1)
        raise BrokenLock(self.shown, line, f"the lock is damaged: {what}", _again(self.path))


def _again(path: Path) -> str:
    return f"take it from git again, or remove it and run {_command(path)}"


def _command(path: Path) -> str:
    return shlex.join(["sft-runner", "lock", path.stem])
