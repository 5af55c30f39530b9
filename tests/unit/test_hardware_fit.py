"""How a batch fits, and which preset `hardware=auto` takes; no card is needed for either."""

import pytest

from sft_runner.hardware import Card, Fit, cards, choose, detect, fit, visible

UUIDS = ["GPU-aa11", "GPU-bb22", "GPU-cc33"]


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


@pytest.mark.parametrize(
    ("memory_gb", "preset"),
    [
        (6.4, "minimal"),  # RTX 2060: 6 GiB, as NVML counts
        (8.6, "minimal"),  # RTX 3070: 8 GiB, less than the preset for 12 GiB is made for
        (12.9, "rtx3060"),  # RTX 3060: 12 GiB
        (17.2, "rtx3060"),  # RTX 4080: 16 GiB
        (24.2, "rtx4090"),  # L4: 24 GB less what the driver keeps
        (25.8, "rtx4090"),  # RTX 4090: 24 GiB
        (42.9, "a100"),  # A100: 40 GiB
        (150.8, "a100"),  # H200
    ],
)
def test_memory_decides(memory_gb: float, preset: str) -> None:
    chosen, reason = choose([Card("NVIDIA Something", memory_gb)])
    assert chosen == preset
    assert "NVIDIA Something" in reason
    assert f"{memory_gb:.0f} GB" in reason
    assert "\n" not in reason


def test_the_first_of_several_cards_decides() -> None:
    preset, reason = choose([Card("Small", 6.0), Card("Large", 80.0)])
    assert preset == "minimal"
    assert "the first of 2 cards" in reason


def test_without_a_card() -> None:
    assert choose([]) == ("cpu", "no NVIDIA card found")


def test_hidden_cards_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cards() == []
    assert detect()[0] == "cpu"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2", [2]),
        ("1,0", [1, 0]),
        ("1,-1,0", [1]),
        ("0,7,1", [0]),
        ("GPU-bb", [1]),
        (" 2 , GPU-aa11", [2, 0]),
    ],
)
def test_visible_cards_as_cuda_reads_them(setting: str | None, expected: list[int]) -> None:
    assert visible(UUIDS, setting) == expected
