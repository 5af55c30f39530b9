"""One request to an OpenAI-compatible server, as Python sends it and as `curl` does."""

import http.client
import json
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft_runner.serving.address import Address


@dataclass(frozen=True)
class Question:
    """What a server is asked: a chat, a text to go on with, or one that is already token ids."""

    messages: Sequence[Mapping[str, Any]] = ()
    """`[{"role": "user", "content": "..."}]`; empty for a text."""
    tools: Sequence[Mapping[str, Any]] = ()
    """Tools that the chat's prompt names; the answer may not be read as a call."""
    text: str = ""
    """The text."""
    ids: Sequence[int] = ()
    """The text as token ids. Only vLLM takes them, and answers in token ids too."""
    stops: Sequence[int] = ()
    """With `ids`: the tokens that end the answer."""


Messages = Sequence[Mapping[str, Any]] | Question
"""A chat of messages alone, or any question."""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Never through a proxy: the server is on this machine."""


class Refused(Exception):
    """The server answered, but not with a completion."""


@dataclass(frozen=True)
class Completion:
    """What the server answered."""

    text: str
    """The assistant's message."""
    prompt_tokens: int
    """Tokens of the prompt, as the server counted them."""
    completion_tokens: int
    """Tokens it generated."""
    finish_reason: str
    """`stop` at the end of the turn, `length` at the limit."""
    seconds: float
    """From request to reply."""
    ids: tuple[int, ...] = ()
    """The answer's tokens with the one that ended it, where the question was token ids."""


def ask(address: Address, model: str, question: Messages, max_tokens: int, timeout: float) -> Completion:
    """Greedy completion. Raises `Refused`, or `OSError` where nobody answers (yet)."""
    if not isinstance(question, Question):
        question = Question(question)
    data = json.dumps(_body(model, question, max_tokens)).encode()
    request = urllib.request.Request(_endpoint(address, question), data, {"Content-Type": "application/json"})
    began = time.perf_counter()
    try:
        with DIRECT.open(request, timeout=timeout) as reply:
            content = reply.read()
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")[:500]
        if error.code == http.client.SERVICE_UNAVAILABLE:
            raise ConnectionError(said) from None
        raise Refused(f"the server answered {error.code}: {said}") from None
    except http.client.HTTPException as error:
        raise ConnectionError(f"broken reply: {error!r}") from None
    seconds = time.perf_counter() - began
    try:
        return _parse(json.loads(content), seconds)
    except (ValueError, KeyError, IndexError, TypeError):
        said = content.decode(errors="replace")[:500]
        kind = "chat completion" if question.messages else "completion"
        raise Refused(f"the server's reply is not a {kind}: {said}") from None


def curl(address: Address, model: str, question: str, max_tokens: int) -> str:
    """The same request as a command for a shell."""
    asked = Question([{"role": "user", "content": question}])
    body = json.dumps(_body(model, asked, max_tokens), ensure_ascii=False)
    return shlex.join(["curl", "-s", _endpoint(address, asked), "-H", "Content-Type: application/json", "-d", body])


def _endpoint(address: Address, question: Question) -> str:
    return f"{address.url}/v1/chat/completions" if question.messages else f"{address.url}/v1/completions"


def _body(model: str, question: Question, max_tokens: int) -> dict[str, Any]:
    asked: dict[str, Any] = {"messages": list(question.messages)} if question.messages else {"prompt": question.text}
    if question.ids:
        asked = {"prompt": list(question.ids), "stop_token_ids": list(question.stops), "return_token_ids": True}
    if question.tools:  # `none`: vLLM refuses `auto`, the default, unless it was started with a parser of calls
        asked |= {"tools": list(question.tools), "tool_choice": "none"}
    return {"model": model, **asked, "temperature": 0, "max_tokens": max_tokens}


def _parse(reply: Mapping[str, Any], seconds: float) -> Completion:
    choice, usage = reply["choices"][0], reply["usage"]
    return Completion(
        text=(choice["message"].get("content") if "message" in choice else choice["text"]) or "",
        prompt_tokens=int(usage["prompt_tokens"]),
        completion_tokens=int(usage["completion_tokens"]),
        finish_reason=str(choice["finish_reason"]),
        seconds=round(seconds, 3),
        ids=tuple(choice.get("token_ids") or ()),
    )
