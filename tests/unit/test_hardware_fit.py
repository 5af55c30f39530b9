"""How the rows of a step are fed to the machine."""

import pytest

from sft_runner.hardware import Fit, fit


@pytest.mark.parametrize(
    ("batch_size", "per_device", "expected"),
    [
        (16, 16, Fit(16, 1)),
        (16, 1, Fit(1, 16)),
        (16, 100, Fit(16, 1)),
        (16, 5, Fit(4, 4)),
        (12, 8, Fit(6, 2)),
        (7, 4, Fit(1, 7)),
        (1, 8, Fit(1, 1)),
    ],
)
def test_fit(batch_size: int, per_device: int, expected: Fit) -> None:
    assert fit(batch_size, per_device) == expected


def test_every_step_has_its_rows() -> None:
    for batch_size in range(1, 40):
        for per_device in range(1, 40):
            found = fit(batch_size, per_device)
            assert found.micro_batch * found.accumulation == batch_size
            assert found.micro_batch <= per_device
            larger = range(found.micro_batch + 1, min(per_device, batch_size) + 1)
            assert all(batch_size % rows for rows in larger)
