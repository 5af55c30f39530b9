"""Addresses that hold a secret: a lock is checked in, and so are the words in it."""

import re
from urllib.parse import unquote

from sft_runner.review.lint.secret import FORMS

_USER = re.compile(r"[\w+.-]*://(?P<user>[^\s/?#@:'\"]*)(?P<colon>:?)(?P<password>[^\s/?#@'\"]*)@")
"""What stands before the host. A commit behind a path, `https://HOST/OWNER/REPO@COMMIT`, is not taken for one."""
_QUERY = re.compile(r"://[^\s?#'\"]*\?([^\s#'\"]*)")
"""The query of an address, without its fragment."""
_NAME = re.compile(
    r"token(?![is])|secret|passw|pwd|signature|credential|auth(?!or)|(?:api|access|private|account)[-_]?key|"
    r"^(?:sig|key|sas)$",
    re.IGNORECASE,
)
"""Names in a query whose values are secrets, such as `access_token`, `X-Amz-Signature` and the `sig` of a storage."""
_TOKEN = re.compile(r"(?=.*\d)[A-Za-z0-9_-]{20,}")
"""A user that no person is called."""


def has_secret(word: str) -> bool:
    """Whether an address in a word has a password, a token as its user, or a secret in its query. What is filled in
    from elsewhere, such as `${oc.env:TOKEN}`, is none."""
    plain = re.sub(r"\$\{[^}]*\}", "$", word)
    for match in _USER.finditer(plain):
        user, password = match["user"], match["password"]
        if (password or (match["colon"] and user))[:1] not in ("", "$") or _is_token(user):
            return True
    return any(_is_secret(pair) for query in _QUERY.findall(plain) for pair in re.split("[&;]", query))


def _is_secret(pair: str) -> bool:
    name, _, value = map(unquote, pair.partition("="))
    return value[:1] not in ("", "$") and (_NAME.search(name) is not None or _has_form(value))


def _is_token(user: str) -> bool:
    return _has_form(user) or _TOKEN.fullmatch(user) is not None


def _has_form(text: str) -> bool:
    """Whether a text has the form of a token that somebody gives out."""
    return any(re.search(form, text) for form in FORMS.values())
