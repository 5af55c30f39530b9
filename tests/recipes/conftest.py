"""Recipes are looked up in the current folder too, which the tests change."""

from collections.abc import Iterator

import pytest

from sft_runner.config import sources


@pytest.fixture(autouse=True)
def _fresh_recipes() -> Iterator[None]:
    sources.forget()
    yield
    sources.forget()
