"""Code fences of Markdown in an answer."""

import re
from collections.abc import Iterable

_FENCE = re.compile(
    r"^[ ]{0,3}(?P<mark>(?P<sign>[`~])(?P=sign){2,})[ ]*(?P<language>[\w+#.-]*)[^\n`]*\n"
    r"(?P<body>.*?)(?:^[ ]{0,3}(?P=mark)(?P=sign)*[ \t\r]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)


def fences(text: str, languages: Iterable[str]) -> list[str] | None:
    """What stands in the fences of these languages, and in those that name none; None where there is no fence.

    A fence ends with as many of its signs or more; one that is not closed goes to the end.
    """
    wanted = {"", *languages}
    found = list(_FENCE.finditer(text))
    return [match["body"] for match in found if match["language"].lower() in wanted] if found else None
