"""The program that looks at one side with that side's code: a request in, the paths it reads out, and then the answer.

It runs in the folder of that side and speaks in lines of JSON, so that two versions of sft_runner can be compared;
`VERSION` tells when they no longer speak alike. It ends when nobody listens any more.
"""

import json
import os
import sys
import threading
from typing import Any

from sft_runner.review.diff.side import Request, Side

VERSION = 2
"""Of what is asked and answered."""


def main() -> int:
    """Answer one request."""
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    side = Side(Request(tuple(asked["words"]), tuple(asked["presets"]), _names(asked["only"])))
    _say({"version": VERSION, "paths": side.paths})
    if not sys.stdin.readline():
        return 1
    threading.Thread(target=_end_with_the_asker, daemon=True).start()
    _say(side.answer())
    return 0


def _names(only: list[str] | None) -> tuple[str, ...] | None:
    return None if only is None else tuple(only)


def _say(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


def _end_with_the_asker() -> None:
    """End at once when stdin is closed: who asked was killed, or has what it wanted."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
