"""On a CUDA card: every preset and every method trains, merges and evaluates the embedded model, within its plan."""

import shutil
import subprocess
from pathlib import Path

import pytest

from command import SMALL, manifest, sft
from sft_runner import load, plan
from sft_runner.cost.memory import training_memory
from sft_runner.model.architecture import architecture

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "conf/hardware").glob("*.yaml") if path.stem != "cpu")
METHODS = sorted(path.stem for path in (ROOT / "conf/method").glob("*.yaml"))
WORDS = [word for word in SMALL if not word.startswith("hardware=")]


@pytest.fixture(autouse=True)
def _card() -> None:
    if not shutil.which("nvidia-smi") or subprocess.run(["nvidia-smi"], capture_output=True).returncode:
        pytest.skip("no NVIDIA card")


@pytest.mark.parametrize("preset", [*PRESETS, "auto"])
def test_a_preset_runs_on_a_card(preset: str, tmp_path: Path) -> None:
    ended = sft(*WORDS, f"hardware={preset}", cwd=tmp_path, CUDA_VISIBLE_DEVICES="0")
    assert ended.code == 0, ended.said
    found = manifest(tmp_path, "train")["metrics"]
    assert found["dtypes"]["adapter"] == "float32"
    assert found["peak_memory_gb"] > 0


@pytest.mark.parametrize("bits", ["none", "8", "4"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_on_a_card(method: str, bits: str, tmp_path: Path) -> None:
    if method == "full" and bits != "none" or method == "qlora" and bits != "4":
        pytest.skip("not a pair")
    words = [f"method={method}", f"quantization.bits={bits}", "hardware=auto"]
    ended = sft(*WORDS, *words, cwd=tmp_path, CUDA_VISIBLE_DEVICES="0")
    assert ended.code == 0, ended.said


def test_memory_stays_within_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count is for rows of full length, so the peak must not lie above it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    words = [*WORDS, "hardware=auto", "stage=train"]
    config = plan(load(*words)).run.config
    shape, hardware = architecture(config.model), config.hardware
    assert shape is not None
    assert hardware.per_device_train_batch_size is not None
    planned = training_memory(
        config, shape, hardware.per_device_train_batch_size, hardware.activation_checkpointing, config.data.max_length
    )
    ended = sft(*words, cwd=tmp_path, CUDA_VISIBLE_DEVICES="0")
    assert ended.code == 0, ended.said
    assert manifest(tmp_path, "train")["metrics"]["peak_memory_gb"] <= planned.total / 1e9
