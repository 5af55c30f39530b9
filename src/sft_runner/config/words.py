"""The words of a command line, as Hydra's grammar reads them."""

from functools import lru_cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override


@lru_cache(maxsize=4096)
def parsed(word: str) -> Override:
    """A word such as `lora.r=4`; not to be changed. Raises `HydraException` and `ValueError`."""
    return OverridesParser.create().parse_override(word)
