"""What stops a merge: it says which file and which tensor, and leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from merges import write_trained
from random_models import Reports, random_model, tokenizer, write_adapter, write_model, write_prepared
from sft_runner.config.schema import Config, Model, Quantization
from sft_runner.errors import MachineError, SftError, StageFailed, UserError
from sft_runner.merging import loading, proof, stream, whole
from sft_runner.stages.merge import Merge

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model in several files."""
    random_model().save_pretrained(tmp_path / "base", max_shard_size="20KB")
    tokenizer().save_pretrained(tmp_path / "base")
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
    """What the merge by itself says; the whole stage, which does much before it, must blame the same file."""
    with pytest.raises(SftError) as raised:
        stream.merge(base, adapter, tmp_path / "out")
    assert raised.value.hint
    with pytest.raises(SftError) as staged:
        through_the_stage(base, adapter, tmp_path)
    assert staged.value.hint
    assert staged.value.exit_code == raised.value.exit_code
    for path in (*base.iterdir(), *adapter.iterdir()):
        assert (str(path) in raised.value.message) <= (str(path) in staged.value.message)
    return raised.value


def through_the_stage(base: Path, adapter: Path, tmp_path: Path) -> Any:
    write_prepared(tmp_path / "prepare", 3)
    target = tmp_path / "merge"
    target.mkdir()
    try:
        inputs = {"prepare": tmp_path / "prepare", "train": adapter.parent}
        config = Config(model=Model(name=str(base)), quantization=Quantization(bits="none"))
        return Merge().execute(config, inputs, target, Reports())
    finally:
        shutil.rmtree(target)


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


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


@pytest.mark.parametrize("wrong", ["a tensor that ends too late", "bytes behind the last"])
def test_a_file_whose_size_is_not_that_of_its_tensors(tmp_path: Path, base: Path, adapter: Path, wrong: str) -> None:
    path = min(base.glob("*.safetensors"))
    data = path.read_bytes()
    if wrong == "bytes behind the last":
        path.write_bytes(data + b"00")
    else:
        length = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:length])
        header[max(header.keys() - {"__metadata__"}, key=lambda name: header[name]["data_offsets"])]["data_offsets"][
            1
        ] += 8
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[length:])
    assert f"{path} is no safetensors file, or damaged" in failure(base, adapter, tmp_path).message


@pytest.mark.parametrize("text", [None, "{"])
def test_a_base_without_settings(tmp_path: Path, base: Path, adapter: Path, text: str | None) -> None:
    (base / "config.json").unlink()
    if text is not None:
        (base / "config.json").write_text(text)
    assert "config.json" in failure(base, adapter, tmp_path).message


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
    error = failure(base, adapter, tmp_path)
    assert str(adapter / ADAPTER) in error.message
    assert f"it lacks {lost}" in error.message
    with pytest.raises(StageFailed, match="missing adapter keys"):
        loading.load_adapted(base, adapter)


def test_an_adapter_that_is_cut_off(tmp_path: Path, base: Path, adapter: Path) -> None:
    (adapter / ADAPTER).write_bytes((adapter / ADAPTER).read_bytes()[:-10])
    assert f"{adapter / ADAPTER} cannot be read" in failure(base, adapter, tmp_path).message


@pytest.mark.parametrize("lost", [ADAPTER, "adapter_config.json"])
@pytest.mark.parametrize("text", [None, "", "{"])
def test_an_adapter_without_a_file(tmp_path: Path, base: Path, adapter: Path, lost: str, text: str | None) -> None:
    (adapter / lost).unlink()
    if text is not None:
        (adapter / lost).write_text(text)
    error = failure(base, adapter, tmp_path)
    assert str(adapter / lost) in error.message
    assert "force=[train]" in error.hint


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"r": 0}, "`r` should be a positive integer"),
        ({"lora_bias": True}, "the base layer has no bias"),
        ({"alora_invocation_tokens": [1, 2]}, "aLoRA does not support"),
        ({"layer_replication": [[0, 2], [0, 1]]}, "layer_replication"),
        ({"peft_type": "FOO"}, "FOO"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
# PEFT says these of the biases of `lora_bias`
@pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed", "ignore:.*LoRA tensor.s. have invalid shape")
def test_what_peft_refuses(tmp_path: Path, base: Path, settings: dict[str, Any], why: str) -> None:
    kept = {"lora_bias": True} if "lora_bias" in settings else {}
    adapter = write_adapter(tmp_path / "train", base, **kept) / "adapter"
    change_json(adapter / "adapter_config.json", **settings)
    error = failure(base, adapter, tmp_path)
    assert error.message.startswith("PEFT cannot merge this adapter: ")
    assert why in error.message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_adapter_that_is_not_finite(tmp_path: Path, base: Path, adapter: Path, value: float) -> None:
    broken = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"
    change_adapter(adapter, lambda tensors: tensors[broken][3, 2:3].fill_(value) and None)
    error = failure(base, adapter, tmp_path)
    assert f"not finite: {broken} in {adapter / ADAPTER}" in error.message
    assert "train.learning_rate" in error.hint


@pytest.mark.parametrize("kind", [{}, {"use_dora": True}, {"trainable_token_indices": [3, 7]}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_that_is_not_finite(tmp_path: Path, dtype: torch.dtype, kind: dict[str, Any]) -> None:
    base = write_model(tmp_path / "base", dtype=dtype)
    adapter = write_adapter(tmp_path / "train", base, **kind) / "adapter"
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 4] = float("inf")
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    error = failure(base, adapter, tmp_path)
    assert f"model.layers.1.mlp.down_proj.weight in {base} has values that are no numbers" in error.message
    assert "learning_rate" not in error.hint


def test_sums_that_are_not_finite(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", dtype=torch.float16)
    adapter = write_adapter(tmp_path / "train", base) / "adapter"
    broken = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"
    change_adapter(
        adapter, lambda tensors: tensors.update({broken: torch.full((32, 4), 1e6)})
    )  # float16 ends at 65,504
    with pytest.raises(StageFailed, match=r"not finite: model\.layers\.1\.mlp\.down_proj\.weight") as raised:
        stream.merge(base, adapter, tmp_path / "out")
    assert "train.learning_rate" in raised.value.hint


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


@pytest.mark.parametrize("kind", [{}, {"trainable_token_indices": [3, 7]}], ids=["stream", "peft"])
def test_a_disk_that_fills_up(small_disk: Path, tmp_path: Path, base: Path, kind: dict[str, Any]) -> None:
    adapter = write_adapter(tmp_path / "train", base, **kind) / "adapter"
    with pytest.raises(MachineError, match="no space left on the disk") as raised:
        stream.merge(base, adapter, small_disk / "model")
    assert "output_dir" in raised.value.hint
    assert not list(small_disk.iterdir())


def test_a_disk_that_fills_up_while_a_trained_model_is_carried_over(
    small_disk: Path, tmp_path: Path, base: Path
) -> None:
    write_trained(tmp_path / "train", base)
    with pytest.raises(MachineError, match="no space left on the disk"):
        whole.carry(tmp_path / "train/model", base, small_disk / "model")
    assert not list(small_disk.iterdir())


def test_logits_that_find_no_room(small_disk: Path, tmp_path: Path, base: Path) -> None:
    write_prepared(tmp_path / "prepare", 30)
    with pytest.raises(MachineError, match="no space left on the disk"):
        proof.keep(random_model(), tmp_path / "prepare", small_disk, torch.float32)


def test_a_model_that_is_larger_than_the_memory(
    tmp_path: Path, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "machine", lambda: 10_000)
    with pytest.raises(
        MachineError, match=rf"the whole model, whose weights are .* GB in {base}, and 0\.0 GB"
    ) as raised:
        through_the_stage(base, adapter, tmp_path)
    assert "output_dir" in raised.value.hint


def test_a_place_that_is_taken(tmp_path: Path, base: Path, adapter: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match="taken is there already"):
        stream.merge(base, adapter, tmp_path / "taken")


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


@pytest.mark.timeout(120)
def test_an_interruption_ends_it(tmp_path: Path, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream.merge(base, adapter, tmp_path / "out", report=interrupt)
