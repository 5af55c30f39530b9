"""The fastest attention kernel that is installed, in the words of transformers; nothing is fetched.

The packages are looked up by name: with the package `kernels` installed, asking transformers for flash attention that
is not there downloads a binary of it.
"""

from importlib.metadata import PackageNotFoundError, version

SDPA = "sdpa"
"""torch's own, on every device."""
KERNELS = (("flash_attention_3", "flash-attn-3", (9, 0), (9, 9)), ("flash_attention_2", "flash-attn", (8, 0), (99, 0)))
"""Name, package, and the first and last compute capability of the cards that its authors name."""


def best(dtype: str, capability: tuple[int, int] | None) -> str:
    """What `hardware.attn_implementation` could be for arithmetic in `dtype` on a card; None stands for the CPU.

    Flash attention takes the lengths of the rows of a flat pass, and is made for 16 bits and cards from Ampere on.
    """
    if capability is None or dtype not in ("bfloat16", "float16"):
        return SDPA
    fitting = (name for name, package, first, last in KERNELS if first <= capability <= last and _installed(package))
    return next(fitting, SDPA)


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
