"""A flash kernel is chosen only where it is installed and made for the card and the precision."""

import pytest

from sft_runner.model import attention
from sft_runner.model.attention import best


@pytest.mark.parametrize(
    ("dtype", "capability", "installed", "expected"),
    [
        ("bfloat16", (8, 0), {"flash-attn"}, "flash_attention_2"),
        ("bfloat16", (9, 0), {"flash-attn", "flash-attn-3"}, "flash_attention_3"),
        ("bfloat16", (12, 0), {"flash-attn", "flash-attn-3"}, "flash_attention_2"),
        ("float16", (8, 6), {"flash-attn-3"}, "sdpa"),
        ("float16", (7, 5), {"flash-attn"}, "sdpa"),
        ("float32", (8, 0), {"flash-attn"}, "sdpa"),
        ("bfloat16", (8, 0), set(), "sdpa"),
        ("bfloat16", None, {"flash-attn"}, "sdpa"),
    ],
)
def test_best(
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    capability: tuple[int, int] | None,
    installed: set[str],
    expected: str,
) -> None:
    monkeypatch.setattr(attention, "_installed", installed.__contains__)
    assert best(dtype, capability) == expected


def test_a_package_that_is_not_there() -> None:
    assert not attention._installed("flash-attn-of-nobody")
    assert attention._installed("torch")
