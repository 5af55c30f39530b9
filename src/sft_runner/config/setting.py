"""One setting of the schema with its marks, and a whole schema as flat settings.

counts=False        never part of a fingerprint: the output does not depend on it
neutral=VALUE       left out of fingerprints while it has this value, so that a new field voids no cache
counted=FUNCTION    what of the value counts, such as all of it but paths
choices=(...)       the only values allowed
at_least=N          the smallest value allowed
below=N             every value must be smaller
above=N             every value allowed is larger
found=True          filled in by the program, nothing to say
approximates=True   supplied by the hardware preset although it changes what is learned
"""

from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any, get_type_hints


def setting(default: Any = MISSING, **marks: Any) -> Any:
    """A field with marks; lists, dictionaries and parts are copied for each instance."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=marks)
    return field(default=default, metadata=marks)


def build(kind: type[Any], values: dict[str, Any]) -> Any:
    """The dataclass `kind` from nested plain values, the inverse of `dataclasses.asdict`."""
    parts = parts_of(kind)
    return kind(**{k: build(parts[k], v) if k in parts else v for k, v in values.items()})


def parts_of(kind: type[Any]) -> dict[str, type[Any]]:
    """The fields of a dataclass that are dataclasses themselves, each with its class."""
    return {name: hint for name, hint in get_type_hints(kind).items() if isinstance(hint, type) and is_dataclass(hint)}


def flatten(part: Any, prefix: str = "") -> dict[str, tuple[Any, dict[str, Any]]]:
    """`{"lora.r": (value, marks)}` for every setting below a dataclass."""
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    for item in fields(part):
        value = getattr(part, item.name)
        if is_dataclass(value):
            found |= flatten(value, f"{prefix}{item.name}.")
        else:
            found[prefix + item.name] = (value, dict(item.metadata))
    return found
