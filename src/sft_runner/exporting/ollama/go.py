"""The part of Go's template language that our Modelfiles use: written, and read again to prove what it writes.

All text stands in quoted strings, and every action cuts off the space in front of it, so that how the file is laid out
never reaches a prompt.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sft_runner.exporting.ollama.layout import FIRST, LAST, OWN, Layout

_ACTION = re.compile(r"\{\{(-?)((?:\"(?:\\.|[^\"\\])*\"|[^\"}])*?)(-?)\}\}", re.DOTALL)
_WORD = re.compile(r"\"(?:\\.|[^\"\\])*\"|:=|[(),]|[^\s(),]+")


def written(layout: Layout) -> str:
    """The template of a layout. In Ollama's words: `.System` is the system text, `.Messages` are all messages."""
    place = {FIRST: "and $.System (le $i 1)", LAST: "and $.System $last"}.get(layout.system)
    inside = f"{{{{- if {place} }}}}{_system('$', layout)}{{{{- end }}}}" if place else ""
    begin = _text(layout.begin)
    if layout.system == OWN:
        otherwise = f"\n{{{{- else }}}}{begin}" if begin else ""
        begin = f"{{{{- if .System }}}}{_system('', layout)}{otherwise}\n{{{{- end }}}}"
    lines = [
        begin,
        "{{- range $i, $_ := .Messages }}",
        "{{- $last := eq (len (slice $.Messages $i)) 1 }}",
        '{{- if eq .Role "user" }}',
        f"{_text(layout.question)}{inside}{{{{- .Content }}}}",
        f"{{{{- if $last }}}}{_text(layout.prompt)}{{{{- end }}}}",
        '{{- else if eq .Role "assistant" }}',
        f"{_text(layout.answer)}{{{{- .Content }}}}",
        f"{{{{- if not $last }}}}{_text(layout.answer_end)}{{{{- end }}}}",
        "{{- end }}",
        "{{- end }}",
    ]
    return "\n".join(line for line in lines if line)


def render(template: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """What Ollama makes of a chat: Go's rules, for the part of the language that `written` uses."""
    system = "\n\n".join(str(turn["content"]) for turn in messages if turn["role"] == "system")
    turns = [{"Role": turn["role"], "Content": turn["content"]} for turn in messages]
    values: dict[str, Any] = {"System": system, "Messages": turns}
    nodes, _ = _parsed(_split(template), 0)
    return _run(nodes, {"$": values}, values)


def _system(root: str, layout: Layout) -> str:
    return f"{_text(layout.system_begin)}{{{{- {root}.System }}}}{_text(layout.system_end)}"


def _text(text: str) -> str:
    """A string of Go, which has all the escapes of JSON."""
    return f"{{{{- {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


@dataclass
class _Node:
    """One action, or a piece of text."""

    kind: str
    words: list[str]
    branches: list[tuple[list[str], "list[_Node]"]] = field(default_factory=list)


def _split(template: str) -> list[_Node]:
    """Actions and the text between them, without the space that `{{-` and `-}}` cut off."""
    found: list[_Node] = []
    place, cut = 0, False
    for action in _ACTION.finditer(template):
        text = template[place : action.start()]
        text = text.lstrip() if cut else text
        if text := text.rstrip() if action.group(1) else text:
            found.append(_Node("text", [text]))
        words = _WORD.findall(action.group(2))
        kind = words[0] if words and words[0] in ("if", "else", "end", "range") else "value"
        found.append(_Node("assign" if len(words) > 1 and words[1] == ":=" else kind, words))
        place, cut = action.end(), bool(action.group(3))
    rest = template[place:].lstrip() if cut else template[place:]
    return [*found, *([_Node("text", [rest])] if rest else [])]


def _parsed(nodes: Sequence[_Node], place: int) -> tuple[list[_Node], int]:
    """Nodes up to the `else` or `end` that belongs to what is around them, and where that stands."""
    found: list[_Node] = []
    while place < len(nodes) and nodes[place].kind not in ("else", "end"):
        node = nodes[place]
        place += 1
        if node.kind in ("if", "range"):
            condition = node.words[1:]
            while True:
                inner, place = _parsed(nodes, place)
                node.branches.append((condition, inner))
                ended = nodes[place]
                place += 1
                if ended.kind == "end":
                    break
                condition = ended.words[2:]  # `else if CONDITION`, or `else` alone
        found.append(node)
    return found, place


def _run(nodes: Sequence[_Node], names: dict[str, Any], dot: Any) -> str:
    found = ""
    for node in nodes:
        if node.kind == "text":
            found += node.words[0]
        elif node.kind == "assign":
            names[node.words[0]] = _value(node.words[2:], names, dot)
        elif node.kind == "if":
            taken = next((body for words, body in node.branches if not words or _value(words, names, dot)), [])
            found += _run(taken, dict(names), dot)
        elif node.kind == "range":
            (words, body) = node.branches[0]
            index, _, item, _, *of = words
            for i, one in enumerate(_value(of, names, dot)):
                found += _run(body, {**names, index: i, item: one}, one)
        else:
            found += str(_value(node.words, names, dot))
    return found


_CALLS: dict[str, Callable[..., Any]] = {
    "eq": lambda a, b: a == b,
    "le": lambda a, b: a <= b,
    "len": len,
    "slice": lambda items, start: items[start:],
    "not": lambda a: not a,
    "and": lambda *of: next((one for one in of if not one), of[-1]),
}


def _value(words: Sequence[str], names: Mapping[str, Any], dot: Any) -> Any:
    """The value of an expression: a call with its arguments, or one operand."""
    parts: list[Any] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "(":
            depth, inner = 1, []
            while depth:
                inner.append(rest.pop(0))
                depth += {"(": 1, ")": -1}.get(inner[-1], 0)
            parts.append(_value(inner[:-1], names, dot))
        else:
            parts.append(_operand(word, names, dot))
    return parts[0](*parts[1:]) if callable(parts[0]) else parts[0]


def _operand(word: str, names: Mapping[str, Any], dot: Any) -> Any:
    if word in _CALLS:
        return _CALLS[word]
    if word.startswith('"'):
        return json.loads(word)
    if word.isdigit():
        return int(word)
    name, _, attribute = word.partition(".")
    of = names[name] if name else dot
    return of[attribute] if attribute else of
