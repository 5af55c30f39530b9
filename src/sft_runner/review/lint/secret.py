"""What looks like a secret in a line of a file: a token by its form, or a random word behind `token:` and the like."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FORMS = {
    "a token of Hugging Face": r"\bhf_[A-Za-z0-9]{30,}",
    "a key of Anthropic": r"\bsk-ant-[A-Za-z0-9_-]{20,}",
    "a key of OpenAI": r"\bsk-(?!ant-)(?:[a-z]+-)?[A-Za-z0-9_-]{20,}",
    "a token of GitHub": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})",
    "a token of GitLab": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a key of AWS": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a key of Google": r"\bAIza[A-Za-z0-9_-]{35}",
    "a token of Slack": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "a key of Weights & Biases": r"\bwandb_v\d+_[A-Za-z0-9_]{30,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
"""What it is -> how it is written, as its maker documents it."""
ADDRESS = re.compile(r"(?<=://)(?P<user>[^\s/:@'\"]*):(?P<secret>[^\s/@'\"]+)@")
"""A password in an address."""
NAMED = re.compile(
    r"(?<![A-Za-z])(?P<name>[A-Za-z_-]*(?:api_?-?key|access_?-?key|auth|credentials?|passw(?:or)?d|secret|token)s?)"
    r"[\"']?\s*[:=]\s*[\"']?(?P<secret>[A-Za-z0-9+/=_.~!#$%^&*-]{8,})",
    re.IGNORECASE,
)
"""`key=` and `token:` with a word behind them."""
SUSPECT = re.compile("|".join([*FORMS.values(), "://", r"(?i:key|auth|credential|passw|secret|token)"]))
"""What a line has at the least that holds a secret: one search instead of a dozen."""
SHORTEST = 16
"""Characters of a word behind `token:` that may be one of chance; a password is one from 8 on."""
BITS = 3.0
"""Shannon entropy of a character of such a word. 32 random hexadecimal digits have 3.2 to 3.9, English has less, and
short English words that come with it have no digits."""


@dataclass(frozen=True)
class Secret:
    """A secret that stands in a file."""

    line: int
    """From 1."""
    what: str
    """What it looks like."""
    text: str
    """Itself: never to be shown."""


def secrets(lines: Sequence[str]) -> Iterator[Secret]:
    """What looks like a secret, values and comments alike, line by line; each of them once in its line."""
    for number, line in enumerate(lines, 1):
        if not SUSPECT.search(line):
            continue
        found: list[str] = []
        for what, form in FORMS.items():
            for match in re.finditer(form, line):
                found.append(match[0])
                yield Secret(number, what, match[0])
        plain = re.sub(r"\$\{[^}]*\}", "$", line)  # what is filled in from elsewhere is no secret
        for match in ADDRESS.finditer(plain):
            if not _stands_in(match["secret"]):
                found.append(match["secret"])
                yield Secret(number, "a password in an address", match["secret"])
        for match in NAMED.finditer(plain):
            text = match["secret"]
            if not any(text in known or known in text for known in found) and _by_chance(match["name"], text):
                found.append(text)
                yield Secret(number, f"the value of '{match['name']}'", text)


def without(text: str, hidden: Sequence[Secret]) -> str:
    """A text with every secret in it masked."""
    for secret in hidden:
        text = text.replace(secret.text, "***")
    return text


def _by_chance(name: str, text: str) -> bool:
    """Whether a word behind a name like `token:` was made by chance, or is a password that somebody thought of."""
    if _stands_in(text) or not (re.search(r"\d", text) and re.search(r"[A-Za-z]", text)):
        return False
    if re.match(r"passw", name.rpartition("_")[2], re.IGNORECASE):
        return True
    return len(text) >= SHORTEST and "/" not in text[:2] and _entropy(text) >= BITS


def _stands_in(text: str) -> bool:
    """Whether it stands for a secret, as `${oc.env:TOKEN}`, `$TOKEN`, `<token>` and `***` do."""
    return text[:1] in "$<*%{" or len(set(text)) <= 2


def _entropy(text: str) -> float:
    """Shannon entropy in bits for each character."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
