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

Messages = Sequence[Mapping[str, str]]
"""`[{"role": "user", "content": "..."}]`"""
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


def ask(address: Address, model: str, messages: Messages, max_tokens: int, timeout: float) -> Completion:
    """Greedy completion of a chat. Raises `Refused`, or `OSError` where nobody answers (yet)."""
    data = json.dumps(_body(model, messages, max_tokens)).encode()
    request = urllib.request.Request(_endpoint(address), data, {"Content-Type": "application/json"})
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
        raise Refused(f"the server's reply is not a chat completion: {said}") from None


def curl(address: Address, model: str, question: str, max_tokens: int) -> str:
    """The same request as a command for a shell."""
    body = json.dumps(_body(model, [{"role": "user", "content": question}], max_tokens), ensure_ascii=False)
    return shlex.join(["curl", "-s", _endpoint(address), "-H", "Content-Type: application/json", "-d", body])


def _endpoint(address: Address) -> str:
    return f"{address.url}/v1/chat/completions"


def _body(model: str, messages: Messages, max_tokens: int) -> dict[str, Any]:
    return {"model": model, "messages": list(messages), "temperature": 0, "max_tokens": max_tokens}


def _parse(reply: Mapping[str, Any], seconds: float) -> Completion:
    choice, usage = reply["choices"][0], reply["usage"]
    return Completion(
        text=choice["message"].get("content") or "",
        prompt_tokens=int(usage["prompt_tokens"]),
        completion_tokens=int(usage["completion_tokens"]),
        finish_reason=str(choice["finish_reason"]),
        seconds=round(seconds, 3),
    )
