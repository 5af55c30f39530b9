"""Calls of tools in an answer, however the model's chat template writes them.

Read are JSON objects with a name and its arguments (Llama, Mistral, Qwen 2.5 and 3, Granite, Hermes, Cohere, OpenAI),
the tags of Qwen 3.5 and GLM, gpt-oss's `to=functions.NAME {...}`, Mistral's `NAME[ARGS]{...}`, which is `NAME{...}`
without special tokens, and LFM's `[name(key=value)]`. Nothing is run.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft_runner.evaluation.metrics.json_value import decoder, same

_NAMES = ("name", "tool_name")
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_INSIDE = ("function", "function_call", "tool_calls", "tool_call")
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>(.*?)</parameter>", re.DOTALL)
_KEY_VALUE = re.compile(r"<arg_key>([^<]*)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_CHANNEL = re.compile(r"to=functions\.([\w-]+?)(?:commentary|analysis|final)?\s*(?:json|code)?\s*(?=\{)")
"""gpt-oss; its special tokens are gone, so that the channel's name may stand right behind the tool's."""
_NAMED = re.compile(r"\s*(?:\[TOOL_CALLS\]\s*)?([A-Za-z_][\w.-]*)(?:(?:\[CALL_ID\]\w+)?\[ARGS\]\s*)?(?=\{)")
_OPENING = re.compile(r"[{\[]")
_TRIED = 100
"""Brackets that begin no JSON, before the rest of a text is left: each of them may cost a look at all of it."""


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    name: str
    """The tool."""
    arguments: Any
    """An object by name; what the model wrote where it is none."""


def names_equal(answer: str, expected: str) -> bool | None:
    """Whether the tools are called that are expected, in whatever order; None where no call is expected."""
    wanted = calls(expected)
    return sorted(call.name for call in calls(answer)) == sorted(call.name for call in wanted) if wanted else None


def calls_equal(answer: str, expected: str) -> bool | None:
    """Whether they have the expected arguments too; None where no call is expected."""
    wanted, found = calls(expected), calls(answer)
    if not wanted:
        return None
    for call in found:
        match = next(
            (i for i, w in enumerate(wanted) if w.name == call.name and same(w.arguments, call.arguments)), None
        )
        if match is None:
            return False
        del wanted[match]
    return not wanted


def calls(text: str) -> list[Call]:
    """The calls in an answer, in their order."""
    tagged = _TAGGED.findall(text) or _FUNCTION.search(text) and [text]
    if tagged:
        return [call for part in tagged for call in _in_tag(part)]
    if channels := list(_CHANNEL.finditer(text)):
        return [Call(match[1], _first_value(text[match.end() :])) for match in channels]
    if named := _named(text):
        return named
    found = [call for value in _values(text) for call in _in_json(value)]
    return found or _in_python(text)


def _in_tag(text: str) -> list[Call]:
    """Calls between `<tool_call>` and its end: tags again, the name with keys and values below it, or JSON."""
    if functions := _FUNCTION.findall(text):
        return [Call(name, _typed(_PARAMETER.findall(body))) for name, body in functions]
    found = [call for value in _values(text) for call in _in_json(value, sure=True)]
    name = text.split("<arg_key>", 1)[0].strip()
    if not found and re.fullmatch(r"[\w.-]+", name):
        return [Call(name, _typed(_KEY_VALUE.findall(text)))]
    return found


def _named(text: str) -> list[Call]:
    """The calls that a text begins with, each a name and an object right behind it."""
    found: list[Call] = []
    place = 0
    while match := _NAMED.match(text, place):
        try:
            arguments, place = decoder().raw_decode(text, match.end())
        except (ValueError, ArithmeticError, RecursionError):
            break
        found.append(Call(match[1], arguments))
    return found


def _typed(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Arguments from tags, where numbers and objects are JSON and texts stand as they are."""
    return {key.strip(): _or_text(value.strip()) for key, value in pairs}


def _or_text(text: str) -> Any:
    try:
        return decoder().decode(text)
    except (ValueError, ArithmeticError, RecursionError):
        return text


def _in_json(value: Any, sure: bool = False) -> Iterator[Call]:
    """The calls that a JSON value is or holds; where it is `sure` to be one, arguments may be missing."""
    pending = [(value, sure)]  # no recursion: a value may be as deep as Python reads it
    while pending:
        value, sure = pending.pop()
        if isinstance(value, list):
            pending += ((item, sure) for item in reversed(value))
        if not isinstance(value, Mapping):
            continue
        name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), None)
        key = next((key for key in _ARGUMENTS if key in value), None)
        if name and (key or sure):
            arguments = value[key] if key else {}
            if isinstance(arguments, str):  # OpenAI writes them as a text
                arguments = _or_text(arguments) if arguments.strip() else {}
            yield Call(name, {} if arguments is None else arguments)
        else:
            pending += ((value.get(inner), True) for inner in reversed(_INSIDE))


def _values(text: str) -> Iterator[Any]:
    """The objects and lists of JSON in a text, in their order."""
    place, tried = 0, 0
    while tried < _TRIED and (match := _OPENING.search(text, place)):
        try:
            value, place = decoder().raw_decode(text, match.start())
        except (ValueError, ArithmeticError, RecursionError):
            place = match.end()
            tried += 1
        else:
            yield value


def _first_value(text: str) -> Any:
    """The JSON that a text begins with; the text where it is none."""
    try:
        return decoder().raw_decode(text)[0]
    except (ValueError, ArithmeticError, RecursionError):
        return text


def _in_python(text: str) -> list[Call]:
    """A list of calls with literal arguments, `[weather(city='Rome', days=3)]`."""
    said = text.strip()
    if not said.startswith("["):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(said, mode="eval").body
            if not isinstance(tree, ast.List):
                return []
            return [_python_call(item) for item in tree.elts]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return []


def _python_call(node: ast.expr) -> Call:
    """Raises `ValueError` for what is no call with literal arguments by name."""
    if not isinstance(node, ast.Call) or node.args or any(word.arg is None for word in node.keywords):
        raise ValueError(ast.dump(node))
    arguments = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
    return Call(ast.unparse(node.func), decoder().decode(json.dumps(arguments)))
