"""Addresses without the secrets that they may hold."""

import re

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(?<=://)([^\s?#]*)[?#][^\s'\"]*")


def masked(text: str) -> str:
    """`https://user:password@host/path?token=secret` as `https://***@host/path?***`."""
    return _QUERY.sub(r"\1?***", _CREDENTIALS.sub("***@", text))
