"""The hardware presets, and which of them `hardware=auto` takes; no card is needed for either."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from sft_runner import hardware, load
from sft_runner.config import composing, sources
from sft_runner.hardware import Card, NotAsked, _visible_cards, cards, choose, detect, visible
from sft_runner.launcher import ENVIRONMENT

CONF = Path(__file__).parents[2] / "conf" / "hardware"
PRESETS = {path.stem: yaml.safe_load(path.read_text()) for path in CONF.glob("*.yaml")}
VOLTA, TURING, AMPERE, ADA, HOPPER = (7, 0), (7, 5), (8, 0), (8, 9), (9, 0)
UUIDS = ["GPU-aa11", "GPU-bb22", "GPU-cc33"]


@pytest.mark.parametrize(
    ("name", "memory_gb", "capability", "preset", "values"),
    [
        ("NVIDIA GeForce RTX 3060", 12.88, (8, 6), "rtx3060", {}),
        ("NVIDIA GeForce RTX 3090", 25.77, (8, 6), "rtx3090", {}),
        ("NVIDIA GeForce RTX 4090", 25.76, ADA, "rtx4090", {}),
        ("NVIDIA GeForce RTX 4090 D", 25.76, ADA, "rtx4090", {}),
        ("NVIDIA L4", 24.15, ADA, "l4", {}),
        ("NVIDIA L40S", 48.31, ADA, "l40s", {}),
        ("Tesla T4", 16.11, TURING, "t4", {}),
        ("NVIDIA A100-SXM4-40GB", 42.95, AMPERE, "a100", {}),
        ("NVIDIA A100 80GB PCIe", 85.9, AMPERE, "a100", {}),
        ("NVIDIA H100 80GB HBM3", 85.52, HOPPER, "h100", {}),
        ("NVIDIA H200", 150.75, HOPPER, "h200", {}),
        # less memory than the card of this name has
        ("NVIDIA GeForce RTX 3060 Laptop GPU", 6.44, (8, 6), "minimal", {"tflops": 0.0}),
        ("NVIDIA GeForce RTX 3060 Ti", 8.59, (8, 6), "rtx3060", {"tflops": 0.0}),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 17.17, ADA, "rtx3060", {"tflops": 0.0}),
        # no preset of their own: memory and capability decide
        ("NVIDIA GeForce RTX 4070", 12.88, ADA, "rtx3060", {"tflops": 0.0}),
        ("NVIDIA GeForce RTX 4080", 17.17, ADA, "rtx3060", {"tflops": 0.0}),
        ("NVIDIA A10G", 24.15, (8, 6), "rtx4090", {"tflops": 0.0}),
        ("NVIDIA GeForce RTX 5090", 34.19, (12, 0), "rtx4090", {"tflops": 0.0}),
        ("NVIDIA L40", 48.31, ADA, "l40s", {"tflops": 0.0}),
        ("NVIDIA RTX A6000", 51.53, (8, 6), "l40s", {"tflops": 0.0}),
        ("NVIDIA RTX PRO 6000 Blackwell", 102.6, (12, 0), "h100", {"tflops": 0.0}),
        ("NVIDIA B200", 192.0, (10, 0), "h200", {"tflops": 0.0}),
        # before Ampere there is no bfloat16
        ("NVIDIA GeForce RTX 2060", 6.44, TURING, "minimal", {"tflops": 0.0, "dtype": "float16"}),
        ("NVIDIA GeForce RTX 2080 Ti", 11.81, TURING, "t4", {"tflops": 0.0, "dtype": "float16"}),
        ("Tesla V100-SXM2-16GB", 17.18, VOLTA, "t4", {"tflops": 0.0, "dtype": "float16", "quantization_bits": "4"}),
        ("Tesla V100-SXM2-32GB", 34.36, VOLTA, "t4", {"tflops": 0.0, "dtype": "float16", "quantization_bits": "none"}),
        ("Quadro RTX 8000", 51.5, TURING, "t4", {"tflops": 0.0, "dtype": "float16", "quantization_bits": "none"}),
    ],
)
def test_the_card_decides(
    name: str, memory_gb: float, capability: tuple[int, int], preset: str, values: dict[str, Any]
) -> None:
    chosen = choose([Card(name, memory_gb, capability)])
    assert chosen.preset == preset
    assert chosen.values == {"memory_gb": memory_gb, **values}
    dtype = values.get("dtype", PRESETS[preset]["dtype"])
    assert dtype == ("bfloat16" if capability >= AMPERE else "float16")
    precision = "bfloat16" if capability >= AMPERE else "no bfloat16"
    assert chosen.reason.startswith(f"{name}, {memory_gb:.0f} GB, {precision}")
    assert ("no preset of its own" in chosen.reason) is ("tflops" in values)
    assert "\n" not in chosen.reason


def test_the_first_of_several_cards_decides() -> None:
    chosen = choose([Card("Small", 6.0, ADA), Card("Large", 80.0, ADA)])
    assert chosen.preset == "minimal"
    assert "the first of 2 cards" in chosen.reason


def test_without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (choose([]).preset, choose([]).reason) == ("cpu", "no NVIDIA card found")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cards() == []
    assert detect().preset == "cpu"


def test_auto_says_what_it_chose_and_takes_the_cards_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cards", lambda: [Card("NVIDIA A100 80GB PCIe", 85.9, AMPERE)])
    sources.register.cache_clear()
    try:
        run = load("recipe=quickstart", "hardware=auto")
        assert (run.config.hardware.name, run.config.hardware.memory_gb) == ("a100", 85.9)
        decision = next(decision for decision in run.decisions if decision.key == "hardware")
        assert (decision.value, decision.reason) == ("a100", "NVIDIA A100 80GB PCIe, 86 GB, bfloat16")
    finally:
        monkeypatch.undo()
        composing.load("recipe=quickstart")  # Hydra's store has this machine's again


class Driver:
    """What NVML tells of two cards, the second of them cut into `slices`. No machine for tests has such cards."""

    NVML_DEVICE_MIG_ENABLE = 1
    NVMLError_NotFound, NVMLError_NotSupported, NVMLError_FunctionNotFound = KeyError, ValueError, AttributeError

    def __init__(self, *slices: str) -> None:
        self.slices = slices

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return ("GPU-aa11", "GPU-bb22")[index]

    def nvmlDeviceGetMigMode(self, card: str) -> list[int]:
        if card == "GPU-aa11":
            raise ValueError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: str) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: str, index: int) -> str:
        return dict(enumerate(self.slices, start=1))[index]  # places may be empty

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetName(self, handle: str) -> str:
        return {"GPU-aa11": "NVIDIA L4", "GPU-bb22": "NVIDIA H100 80GB HBM3"}[handle]

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(total={"GPU-aa11": 24.2e9, "GPU-bb22": 85.5e9}.get(handle, 10.5e9))

    def nvmlDeviceGetCudaComputeCapability(self, handle: str) -> list[int]:
        return {"GPU-aa11": [8, 9], "GPU-bb22": [9, 0]}[handle]


L4, SLICE = Card("NVIDIA L4", 24.2, ADA), Card("NVIDIA H100 80GB HBM3", 10.5, HOPPER, slice=True)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, [L4, SLICE]),  # of a card that is cut, CUDA takes the first slice
        ("1", [SLICE]),
        ("GPU-bb22", [SLICE]),
        ("MIG-dd44", [SLICE]),
        ("MIG-dd44,0", [SLICE, L4]),
        ("2", "CUDA_VISIBLE_DEVICES=2 names none of the cards"),  # a slice has no index
        ("MIG-ee55", "CUDA_VISIBLE_DEVICES=MIG-ee55 names none of the cards"),
        ("", []),
        ("-1", []),
    ],
)
def test_a_slice_is_a_card_of_its_own(setting: str | None, expected: list[Card] | str) -> None:
    driver = Driver("MIG-cc33", "MIG-dd44")
    if isinstance(expected, str):
        with pytest.raises(NotAsked, match=expected):
            _visible_cards(driver, setting)
    else:
        assert _visible_cards(driver, setting) == expected


def test_a_card_without_a_slice_cannot_be_used() -> None:
    with pytest.raises(NotAsked, match="in MIG mode and has no slice"):
        _visible_cards(Driver(), "1")


def test_a_slice_is_planned_with_its_own_memory_and_no_speed() -> None:
    chosen = choose([SLICE])
    assert (chosen.preset, chosen.values) == ("rtx3060", {"memory_gb": 10.5, "tflops": 0.0})
    assert "part of a card" in chosen.reason


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetCount"])
def test_a_driver_that_fails_is_not_taken_for_no_card(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)

    for name in ("nvmlInit", "nvmlShutdown"):
        monkeypatch.setattr(pynvml, name, lambda: None)
    monkeypatch.setattr(pynvml, failing, fail)
    chosen = detect()
    assert chosen.preset == "cpu"
    assert "could not be asked" in chosen.reason
    assert "version mismatch" in chosen.reason


def test_cards_are_counted_as_the_driver_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ENVIRONMENT["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert "CUDA_DEVICE_ORDER=FASTEST_FIRST may mean another" in choose([L4, SLICE]).reason
    assert "CUDA_DEVICE_ORDER" not in choose([L4, L4]).reason


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


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_keeps_fit_and_approximations_apart(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text()
    fitting, approximating = text.split("# approximations")
    assert name in yaml.safe_load(text)["name"]
    assert not {"quantization_bits", "dtype", "optim", "max_length", "lora_r"} & set(yaml.safe_load(fitting))
    assert "memory_gb" in yaml.safe_load(fitting)
    assert {"quantization_bits", "dtype", "optim"} <= set(yaml.safe_load(approximating.partition("\n")[2]))
    assert name == "cpu" or "Not measured yet." in text.splitlines()[0]
    assert load("recipe=quickstart", f"hardware={name}").config.hardware.name == name


PROMISED = {
    "minimal": {"quantization_bits": "4", "lora_r": 4, "per_device_train_batch_size": 1, "max_length": 512},
    "rtx3060": {"quantization_bits": "8", "per_device_train_batch_size": 1, "max_length": 1024},
    "rtx4090": {"quantization_bits": "none", "per_device_train_batch_size": 4, "max_length": 2048},
    "a100": {"dtype": "bfloat16", "per_device_train_batch_size": 8, "max_length": 4096, "quantization_bits": "none"},
}


@pytest.mark.parametrize("name", PROMISED)
def test_a_preset_has_what_was_promised_for_it(name: str) -> None:
    assert {key: PRESETS[name].get(key) for key in PROMISED[name]} == PROMISED[name]


def test_other_presets_leave_the_micro_batch_to_the_plan() -> None:
    capped = {name for name, preset in PRESETS.items() if preset.get("per_device_train_batch_size")}
    assert capped == {*PROMISED, "cpu"}
    assert not [name for name, preset in PRESETS.items() if "activation_checkpointing" in preset]
