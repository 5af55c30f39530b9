"""The words of a command line, as Hydra's grammar reads them."""

from functools import lru_cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override


@lru_cache(maxsize=4096)
def parsed(word: str) -> Override:
    """A word such as `lora.r=4`; not to be changed. Raises `HydraException` and `ValueError`."""
    return OverridesParser.create().parse_override(word)


def key_of(word: str) -> str:
    """The key or the group that a word is about, without Hydra's marks for what is added or taken out."""
    return word.lstrip("+~").partition("=")[0]
