"""On a CUDA card: every preset trains, merges and evaluates the embedded model, and a killed training goes on."""

import subprocess
from pathlib import Path

import pytest

from command import SMALL, manifest, sft

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _card() -> None:
    if subprocess.run(["nvidia-smi"], capture_output=True).returncode:
        pytest.skip("no NVIDIA card")


@pytest.mark.parametrize("preset", ["minimal", "rtx3060", "rtx4090", "a100", "auto"])
def test_a_preset_runs_on_a_card(preset: str, tmp_path: Path) -> None:
    words = [word for word in SMALL if not word.startswith("hardware=")]
    ended = sft(*words, f"hardware={preset}", cwd=tmp_path, CUDA_VISIBLE_DEVICES="0")
    assert ended.code == 0, ended.said
    found = manifest(tmp_path, "train")["metrics"]
    assert found["dtypes"]["adapter"] == "float32"
    assert found["peak_memory_gb"] > 0
