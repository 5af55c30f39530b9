"""What stops a merge: it says which file and which tensor, and leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from random_models import random_model, write_adapter, write_model
from sft_runner.errors import MachineError, SftError, StageFailed, UserError
from sft_runner.merging import loading, stream

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model in several files."""
    random_model().save_pretrained(tmp_path / "base", max_shard_size="20KB")
    return tmp_path / "base"


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    """An adapter for it."""
    return write_adapter(tmp_path / "train", base) / "adapter"


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No thread, no open file, no half model."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPool")]
    open_files = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if _is_open(number)]
    assert not [name for name in open_files if name.startswith(f"{tmp_path}/out")]
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def _is_open(number: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


def change_adapter(adapter: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(adapter / ADAPTER)
    change(tensors)
    save_file(tensors, adapter / ADAPTER, metadata={"format": "pt"})


def failure(base: Path, adapter: Path, tmp_path: Path) -> SftError:
    with pytest.raises(SftError) as raised:
        stream.merge(base, adapter, tmp_path / "out")
    assert raised.value.hint
    return raised.value


# --- the base -------------------------------------------------------------------------------------------------------


def test_a_file_that_is_missing(tmp_path: Path, base: Path, adapter: Path) -> None:
    index = json.loads((base / "model.safetensors.index.json").read_text())["weight_map"]
    lost = base / index["model.norm.weight"]
    lost.unlink()
    error = failure(base, adapter, tmp_path)
    assert isinstance(error, UserError)
    assert f"{lost} is missing, which holds " in error.message
    held = error.message.rpartition(" ")[2]
    assert index[held] == lost.name


@pytest.mark.parametrize("kept", [3, 100, -1], ids=["length", "header", "tensors"])
def test_a_file_that_is_cut_off(tmp_path: Path, base: Path, adapter: Path, kept: int) -> None:
    path = min(base.glob("*.safetensors"))
    last = max(json.loads(path.read_bytes()[8:].split(b"}}")[0] + b"}}").items(), key=lambda one: one[1].get("data_offsets", [0]))  # fmt: skip  # noqa: E501
    path.write_bytes(path.read_bytes()[:kept])
    error = failure(base, adapter, tmp_path)
    assert isinstance(error, UserError)
    assert str(path) in error.message
    assert "cut off" in error.message
    if kept == -1:
        assert f"{last[0]} is the first tensor that is not whole" in error.message


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff" * 40, (10**12).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_safetensors_file(tmp_path: Path, base: Path, adapter: Path, text: bytes) -> None:
    path = min(base.glob("*.safetensors"))
    path.write_bytes(text)
    assert str(path) in failure(base, adapter, tmp_path).message


def test_a_file_whose_tensors_overlap(tmp_path: Path, base: Path, adapter: Path) -> None:
    path = min(base.glob("*.safetensors"))
    data = path.read_bytes()
    length = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:length])
    name = next(iter(header.keys() - {"__metadata__"}))
    header[name]["data_offsets"] = [4, 4 + header[name]["data_offsets"][1] - header[name]["data_offsets"][0]]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[length:])
    assert f"{path} is no safetensors file, or damaged" in failure(base, adapter, tmp_path).message


def test_an_index_that_is_wrong(tmp_path: Path, base: Path, adapter: Path) -> None:
    index = json.loads((base / "model.safetensors.index.json").read_text())
    first = min(index["weight_map"].values())
    index["weight_map"]["model.layers.9.mlp.up_proj.weight"] = first
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    error = failure(base, adapter, tmp_path)
    assert f"{base / first} does not hold model.layers.9.mlp.up_proj.weight" in error.message


def test_a_base_that_is_stored_quantized(tmp_path: Path, base: Path, adapter: Path) -> None:
    config = json.loads((base / "config.json").read_text()) | {"quantization_config": {"quant_method": "gptq"}}
    (base / "config.json").write_text(json.dumps(config))
    assert "are stored quantized" in failure(base, adapter, tmp_path).message


# --- the adapter ----------------------------------------------------------------------------------------------------


def test_an_adapter_of_a_wider_base(tmp_path: Path, base: Path) -> None:
    model = random_model()
    model.resize_token_embeddings(300)
    wide = tmp_path / "wide"
    model.config.intermediate_size = 96
    type(model)(model.config).save_pretrained(wide)
    other = write_adapter(tmp_path / "other", wide) / "adapter"
    error = failure(base, other, tmp_path)
    assert isinstance(error, StageFailed)
    assert "mlp." in error.message
    assert "lora_" in error.message
    assert (
        "(4, 96), and the base needs (4, 64)" in error.message or "(96, 4), and the base needs (64, 4)" in error.message
    )
    assert str(other / ADAPTER) in error.message
    assert "model.name" in error.hint
    with pytest.raises(StageFailed, match="does not fit the base"):
        loading.load_adapted(base, other)


def test_an_adapter_of_a_deeper_base(tmp_path: Path, base: Path, adapter: Path) -> None:
    def deepen(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "layers.1" in name]:
            tensors[name.replace("layers.1", "layers.2")] = tensors[name].clone()

    change_adapter(adapter, deepen)
    assert "model.layers.2." in failure(base, adapter, tmp_path).message


def test_an_adapter_of_another_family(tmp_path: Path, base: Path, adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"target_modules": ["c_attn"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert "c_attn" in failure(base, adapter, tmp_path).message
    with pytest.raises(StageFailed, match="does not fit the base"):
        loading.load_adapted(base, adapter)


def test_an_adapter_that_lost_a_tensor(tmp_path: Path, base: Path, adapter: Path) -> None:
    lost = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    change_adapter(adapter, lambda tensors: tensors.__delitem__(lost))
    assert f"{adapter / ADAPTER} has no {lost}" in failure(base, adapter, tmp_path).message
    with pytest.raises(StageFailed, match="missing adapter keys"):
        loading.load_adapted(base, adapter)


def test_an_adapter_that_is_cut_off(tmp_path: Path, base: Path, adapter: Path) -> None:
    (adapter / ADAPTER).write_bytes((adapter / ADAPTER).read_bytes()[:-10])
    assert f"{adapter / ADAPTER} cannot be read" in failure(base, adapter, tmp_path).message


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.float32, float("nan")),
        (torch.float32, float("inf")),
        (torch.bfloat16, float("nan")),
        (torch.bfloat16, float("inf")),
        (torch.float16, 1e6),  # more than float16 holds
    ],
)
def test_values_that_are_not_finite(tmp_path: Path, dtype: torch.dtype, value: float) -> None:
    base = write_model(tmp_path / "base", dtype=dtype)
    adapter = write_adapter(tmp_path / "train", base) / "adapter"
    broken = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"
    change_adapter(adapter, lambda tensors: tensors.update({broken: torch.full((32, 4), value)}))
    error = failure(base, adapter, tmp_path)
    assert "not finite: model.layers.1.mlp.down_proj.weight" in error.message
    assert "train.learning_rate" in error.hint


def test_an_adapter_that_leaves_no_trace(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", dtype=torch.bfloat16)
    adapter = write_adapter(tmp_path / "train", base, size=1e-12) / "adapter"
    assert "none of the 14 adapted modules" in failure(base, adapter, tmp_path).message


# --- the machine ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that has room for the first file and a half."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up(small_disk: Path, base: Path, adapter: Path) -> None:
    with pytest.raises(MachineError, match="no space left on the disk") as raised:
        stream.merge(base, adapter, small_disk / "model")
    assert "output_dir" in raised.value.hint
    assert not list(small_disk.iterdir())


LIMITED = """
import resource, sys
from pathlib import Path
from sft_runner.merging import stream
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    stream.merge(*map(Path, sys.argv[1:]))
except BaseException as error:
    print(type(error).__name__, error)
"""


def test_a_file_that_may_not_become_so_large(tmp_path: Path, adapter: Path) -> None:
    base = write_model(tmp_path / "whole")
    command = [sys.executable, "-c", LIMITED, str(base), str(adapter), str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.stdout.startswith("MachineError"), ended
    assert "model.safetensors: cannot be written: File too large" in ended.stdout


KILLED = """
import os, signal, sys
from pathlib import Path
from sft_runner.merging import stream, writing
place = int(sys.argv[4])
synced = writing._Work._synced
done = []
def after(self, job, last):
    synced(self, job, last)
    done.append(job)
    if len(done) == place:
        os.kill(os.getpid(), signal.SIGKILL)
writing._Work._synced = after
stream.merge(*map(Path, sys.argv[1:4]))
"""


def test_a_kill_leaves_no_model_and_the_next_try_makes_it(tmp_path: Path, base: Path, adapter: Path) -> None:
    target = tmp_path / "made"
    command = [sys.executable, "-c", KILLED, str(base), str(adapter), str(target), "2"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert not target.exists()
    assert (tmp_path / ".made.partial").exists()
    stream.merge(base, adapter, target)
    assert not (tmp_path / ".made.partial").exists()
    assert len(list(target.glob("*.safetensors"))) == len(list(base.glob("*.safetensors")))
    shutil.rmtree(target)


def test_an_interruption_ends_it_at_once(
    tmp_path: Path, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stream.merge(base, adapter, tmp_path / "out", report=interrupt)
    assert time.monotonic() - start < 30
