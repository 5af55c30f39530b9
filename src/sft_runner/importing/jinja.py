"""Jinja texts for `data.columns`: a column by its name, and messages whose parts are called otherwise."""

import json
import keyword
from collections.abc import Mapping, Sequence

_TAKEN = frozenset((*keyword.kwlist, "row", "true", "false", "none", "loop", "self", "made", "turn"))
"""Words that mean something else in Jinja, or in a Jinja text of `data.columns`."""


def column(name: str) -> str:
    """A column in Jinja."""
    plain = name.isidentifier() and name.isascii() and name not in _TAKEN
    return name if plain else f"row[{_text(name)}]"


def turns(name: str, parts: Sequence[str], roles: Mapping[str, str]) -> str:
    """A list of messages as JSON, in the words that are read here; whatever else they say stays.

    `name` is its column, `parts` are what a message calls its role and its content; none, where that is read here.
    `roles` has the names of roles that are not known here, and the role that each is.
    """
    role, content = parts or ("", "")
    said = _key(role, "from", "role")
    if roles:
        said = f"{json.dumps(dict(roles), ensure_ascii=False)}.get({said}, {said})"
    turn = f'dict(turn, **{{"from": {said}, "value": {_key(content, "value", "content")}}})'
    each = f"{{% for turn in {column(name)} %}}{{% set made.turns = made.turns + [{turn}] %}}{{% endfor %}}"
    return f"{{% set made = namespace(turns=[]) %}}{each}{{{{ made.turns | tojson }}}}"


def _key(name: str, *usual: str) -> str:
    """A key of a message; the first of the usual ones that it has, where there is no name."""
    if name:
        return f"turn.get({_text(name)})"
    first, second = map(_text, usual)
    return f"turn.get({first}, turn.get({second}))"


def _text(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
