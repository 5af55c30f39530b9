"""Bytes of one value, by what it is: settings of precision put into numbers."""

from sft_runner.config.schema import Config

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def trains_all(config: Config) -> bool:
    """Whether the model's own weights train, not an adapter beside them."""
    return config.adapter == "none"


def of_arithmetic(config: Config) -> int:
    """Bytes of a value inside matrix products; 2 means that autocast is on."""
    return BYTES[config.hardware.dtype]


def of_model(config: Config) -> int:
    """Bytes of a weight that is not quantised, and of a value between layers."""
    return BYTES[config.hardware.trained_dtype if trains_all(config) else config.hardware.dtype]


def of_trained(config: Config) -> int:
    """Bytes of a weight that trains."""
    return BYTES[config.hardware.trained_dtype]
