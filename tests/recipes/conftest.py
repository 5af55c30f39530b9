"""Recipes are looked up in the current folder too, which the tests change."""

from collections.abc import Iterator

import pytest

from sft_runner.config import sources


@pytest.fixture(autouse=True)
def _fresh_recipes() -> Iterator[None]:
    sources.recipes.cache_clear()
    yield
    sources.recipes.cache_clear()
