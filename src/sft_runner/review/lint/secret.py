"""What looks like a secret in a line of a file: a token by its form, or a random word behind `token:` and the like."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FORMS = {
    "a token of Hugging Face": r"\bhf_[A-Za-z0-9]{30,}",
    "a key of Anthropic": r"\bsk-ant-[A-Za-z0-9_-]{20,}",
    "a key of OpenAI": r"\bsk-(?!ant-)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{20,}",
    "a token of GitHub": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})",
    "a token of GitLab": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a key of AWS": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a key of Google": r"\bAIza[A-Za-z0-9_-]{35}",
    "a token of Slack": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "a key of Weights & Biases": r"\bwandb_v\d+_[A-Za-z0-9_]{30,}",
    "a key of Stripe": r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "a token of PyPI": r"\bpypi-AgEI[A-Za-z0-9_-]{16,}",
    "a signed token (JWT)": r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
"""What it is -> how it is written, as its maker documents it."""
ADDRESS = re.compile(r"(?<=://)(?P<user>[^\s/:@'\"]*):(?P<secret>[^\s/@'\"]+)@")
"""A password in an address."""
NAMED = re.compile(
    r"(?<![A-Za-z])(?P<name>[A-Za-z_-]*(?:api_?-?key|access_?-?key|auth|credential|passw(?:or)?d|secret)s?|"
    r"[A-Za-z_-]*token|(?<=[?&])(?:sig|x-amz-signature))"
    r"[\"']?\s*[:=]\s*[\"']?(?P<secret>[A-Za-z0-9+/=_.~!#$%^&*-]{8,})"
    r"|\b(?P<scheme>bearer)\s+(?P<bearer>[A-Za-z0-9+/=_.~-]{16,})",
    re.IGNORECASE,
)
"""`key=`, `token:` and a signature in an address with a word behind them, and `Authorization: Bearer ...`; `tokens:`
are counted."""
SUSPECT = re.compile("|".join([*FORMS.values(), "://", r"(?i:key|auth|credential|passw|secret|token|bearer)"]))
"""What a line has at the least that holds a secret: one search instead of a dozen."""
SHORTEST = 16
"""Characters of a word behind `token:` that may be one of chance; a password is one from 8 on."""
MASKED = 8
"""Characters from which on a secret is masked wherever it stands."""
RANDOM = 12
"""Characters of the parts with both letters and digits, of such a word: `see-RFC7617-section-2` has seven."""
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
            name, text = match["name"] or match["scheme"], match["secret"] or match["bearer"]
            if not any(text in known or known in text for known in found) and _by_chance(name, text):
                found.append(text)
                yield Secret(number, f"the value of '{name}'", text)


def without(text: str, hidden: Sequence[Secret]) -> str:
    """A text with every secret masked that it repeats; a short one is masked in an address only, for it may be part of
    a word that means something else."""
    text = ADDRESS.sub(r"\g<user>:***@", text)
    for secret in hidden:
        if len(secret.text) >= MASKED:
            text = text.replace(secret.text, "***")
    return text


def _by_chance(name: str, text: str) -> bool:
    """Whether a word behind a name like `token:` was made by chance, or is a password that somebody thought of."""
    if _stands_in(text) or not re.search(r"[A-Za-z]", text):
        return False
    if re.match(r"passw", name.rpartition("_")[2], re.IGNORECASE):
        return re.search(r"[\d!#$%^&*+=~]", text) is not None
    mixed = [part for part in re.split(r"[-_.~]", text) if re.search(r"\d", part) and re.search(r"[A-Za-z]", part)]
    return len(text) >= SHORTEST and sum(map(len, mixed)) >= RANDOM and "/" not in text[:2] and _entropy(text) >= BITS


def _stands_in(text: str) -> bool:
    """Whether it stands for a secret, as `${oc.env:TOKEN}`, `$TOKEN`, `<token>` and `***` do."""
    return text[:1] in "$<*%{" or len(set(text)) <= 2


def _entropy(text: str) -> float:
    """Shannon entropy in bits for each character."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
