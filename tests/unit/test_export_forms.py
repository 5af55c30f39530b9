"""The forms that a model is handed on in: complete, the same bytes each time, tied to nothing on this machine."""

import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import AutoModelForCausalLM

from random_models import Reports, tokenizer, write_adapter, write_model, write_prepared
from sft_runner.config.schema import EXPORTS, Config, Model
from sft_runner.disk import write_json
from sft_runner.errors import DataError, MachineError, StageFailed, UserError
from sft_runner.exporting import archive, copying, licence, record, requirements
from sft_runner.exporting.gguf import file
from sft_runner.model.architecture import Architecture
from sft_runner.stages.export import Export
from sft_runner.stages.stage import Result

SIDES = {"base": 0.25, "tuned": 0.75, "gain": 0.5}
SCORES: dict[str, Any] = {
    side: {"exact_match": value, "loss": 2 * value, "rows": 8, "by": {"dates": {"exact_match": value, "rows": 4}}}
    for side, value in SIDES.items()
}
SCORES["intervals"] = {"exact_match": {"gain": {"low": 0.3, "high": 0.7}}}
SECRET = "hunter2"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages before left: a base in a folder of the user's, an adapter, the merged model."""
    folder = tmp_path_factory.mktemp("world")
    base = write_model(folder / "base")
    write_prepared(folder / "prepare", held_out=4)
    write_adapter(folder / "train", base)
    adapted: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder / "train/adapter")
    adapted.merge_and_unload().save_pretrained(folder / "merge/model")
    tokenizer().save_pretrained(folder / "merge/model")
    (folder / "merge/model/LICENSE").write_text("Apache License\nVersion 2.0, January 2004\n")
    (folder / "evaluate").mkdir()
    (folder / "prepare/report.html").write_text(f"<p>{folder}/mine.jsonl has rows</p>")
    write_json(folder / "evaluate/scores.json", SCORES)
    write_json(folder / "merge/proof.json", {"difference": {"max": 1e-6, "equal_greedy": 1.0}})
    (folder / "train/checkpoints").mkdir()
    (folder / "train/checkpoints/optimizer.pt").write_text("states")
    _manifests(folder)
    return folder


def _manifests(folder: Path) -> None:
    rows = {"read": 9, "train": 5, "held_out": 4, "dropped": {"too long": 2}}
    data = {"name": str(folder / "mine.jsonl"), "digest": "ab" * 16, "rows": 5, "context": "training"}
    hub = {"name": f"hf://user:{SECRET}@owner/set", "digest": "cd" * 16, "rows": 3, "context": "training"}
    public = {"name": "hf://owner/rows@abc/train", "digest": "ef" * 16, "rows": 3, "context": "training"}
    for stage, values in {
        "prepare": {"metrics": {"rows": rows}, "datasets": [data, hub, public]},
        "train": {
            "config": {"lora.r": 4, "data.template": str(folder / "my.jinja")},
            "metrics": {"steps": 3, "loss": 0.5},
            "notes": [f"the adapter lies in {folder}/train/adapter"],
            "versions": {"torch": "2.13.0", "peft": "0.21.2"},
        },
        "merge": {"metrics": {"difference": {"max": 1e-6, "kl": 1e-9, "equal_greedy": 1.0}, "prompts_checked": 4}},
        "evaluate": {"metrics": SCORES},
    }.items():
        write_json(folder / stage / "manifest.json", values)


def run(world: Path, folder: Path, *forms: str, reports: Reports | None = None, **changes: Any) -> Result:
    """The stage, in this process."""
    folder.mkdir(parents=True)
    config = Config(name="dates", model=Model(name=str(world / "base")), export=list(forms), **changes)
    inputs = {name: world / name for name in Export().inputs}
    return Export().execute(config, inputs, folder, reports if reports is not None else Reports())


@pytest.fixture(scope="module")
def exported(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "all"
    run(world, folder, *EXPORTS)
    return folder


def files(folder: Path) -> dict[str, str]:
    """Name -> hash of each file."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_every_form_is_there_and_the_same_each_time(world: Path, exported: Path, tmp_path: Path) -> None:
    found = files(exported)
    assert {name.split("/")[0] for name in found} == {*EXPORTS, "export.json"}
    assert {"gguf/dates-f32.gguf", "ollama/Modelfile", "archive/dates.tar.gz", "archive/SHA256SUMS"} <= set(found)
    run(world, tmp_path / "again", *reversed(EXPORTS))
    assert files(tmp_path / "again") == found


def test_nothing_names_this_machine_or_holds_a_secret(world: Path, exported: Path) -> None:
    for path in [path for path in exported.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        assert str(world).encode() not in content, path
        assert SECRET.encode() not in content, path
    with tarfile.open(exported / "archive/dates.tar.gz") as packed:
        for member in packed.getmembers():
            opened = packed.extractfile(member)
            assert opened is not None
            assert str(world).encode() not in opened.read(), member.name


def test_copies_are_no_links(world: Path, exported: Path) -> None:
    made, kept = exported / "safetensors/model.safetensors", world / "merge/model/model.safetensors"
    assert made.read_bytes() == kept.read_bytes()
    assert made.stat().st_ino != kept.stat().st_ino


PROGRAM = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
whole, adapter, base = sys.argv[1:]
prompt = [{"role": "user", "content": "Say it"}]
ids = AutoTokenizer.from_pretrained(whole).apply_chat_template(prompt, return_dict=False)
assert ids == AutoTokenizer.from_pretrained(adapter).apply_chat_template(prompt, return_dict=False)
adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
models = [AutoModelForCausalLM.from_pretrained(whole), adapted]
with torch.no_grad():
    print(json.dumps([model(torch.tensor([ids])).logits.tolist() for model in models]))
"""


@pytest.mark.slow
def test_others_load_it_in_a_process_and_folder_of_their_own(world: Path, exported: Path, tmp_path: Path) -> None:
    for form in ("safetensors", "adapter"):
        subprocess.run(["cp", "-r", exported / form, tmp_path / form], check=True)
    words = [sys.executable, "-c", PROGRAM, tmp_path / "safetensors", tmp_path / "adapter", world / "base"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    whole, adapted = map(torch.tensor, json.loads(ended.stdout))
    model: Any = AutoModelForCausalLM.from_pretrained(world / "merge/model")
    prompt = [{"role": "user", "content": "Say it"}]
    with torch.no_grad():
        expected = model(torch.tensor([tokenizer().apply_chat_template(prompt, return_dict=False)])).logits
    assert torch.equal(whole, expected)
    assert torch.allclose(adapted, expected, atol=1e-4)


def test_the_card_has_metadata_that_the_hub_takes(exported: Path) -> None:
    for form, library in (("safetensors", "transformers"), ("adapter", "peft")):
        card = ModelCard.load(exported / form / "README.md")
        assert card.data.license == "apache-2.0"
        assert card.data.library_name == library
        assert card.data.pipeline_tag == "text-generation"
        assert card.data.datasets == ["owner/set", "owner/rows"]
        assert card.data.base_model is None  # it is a folder on one machine
        assert "| exact_match | 25.0% | 75.0% | 50.0% | 30.0% to 70.0% |" in card.text
        assert "By group: **dates**" in card.text
        assert "- dropped: 2 too long" in card.text
        assert "r: 4" in card.text
        assert "torch 2.13.0" in card.text
        assert "largest difference of logits 1.00e-06" in card.text


def test_the_adapter_names_its_base_by_its_name(exported: Path) -> None:
    values = json.loads((exported / "adapter/adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == "base"
    assert (exported / "adapter/LICENSE").is_file()
    assert (exported / "adapter/chat_template.jinja").is_file()


def test_the_archive_can_be_checked_and_holds_no_checkpoint(exported: Path, tmp_path: Path) -> None:
    with tarfile.open(exported / "archive/dates.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
        members = packed.getmembers()
    assert {(one.mtime, one.uid, one.gid, one.uname) for one in members} == {(0, 0, 0, "")}
    sums = (tmp_path / "dates/SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in sums)}
    found = files(tmp_path / "dates")
    del found["SHA256SUMS"]
    assert listed == found
    assert {"README.md", "config.yaml", "model/model.safetensors", "adapter/adapter_model.safetensors"} <= set(found)
    assert {"merge/proof.json", "evaluate/scores.json"} <= set(found)
    assert (tmp_path / "dates/prepare/report.html").read_text() == "<p>mine.jsonl has rows</p>"
    assert not [name for name in found if "checkpoint" in name or "optimizer" in name]
    assert yaml.safe_load((tmp_path / "dates/config.yaml").read_text())["lora"] == {"r": 4}
    beside = hashlib.sha256((exported / "archive/dates.tar.gz").read_bytes()).hexdigest()
    assert (exported / "archive/SHA256SUMS").read_text() == f"{beside}  dates.tar.gz\n"


def test_progress_goes_up_to_its_end(world: Path, tmp_path: Path) -> None:
    reports = Reports()
    result = run(world, tmp_path / "out", "safetensors", "archive", reports=reports)
    steps = [(event["step"], event["steps"]) for event in reports]
    assert steps == sorted(steps)
    assert all(step <= of for step, of in steps)
    assert result.artifacts == ["export.json", "safetensors/README.md"]
    assert result.metrics["safetensors"]["bytes"] > 10_000


def test_a_whole_model_and_no_rows(world: Path, tmp_path: Path) -> None:
    inputs = {**{name: world / name for name in Export().inputs}, "train": tmp_path / "train"}
    (tmp_path / "train").mkdir()
    (tmp_path / "out").mkdir()
    config = Config(name="dates", model=Model(name=str(world / "base")), adapter="none", export=["archive"])
    Export().execute(config, inputs, tmp_path / "out", Reports())
    with tarfile.open(tmp_path / "out/archive/dates.tar.gz") as packed:
        assert not [name for name in packed.getnames() if "adapter" in name]
    write_prepared(tmp_path / "prepare", held_out=0, train=0)
    (tmp_path / "gguf").mkdir()
    config.export = ["gguf"]
    with pytest.raises(DataError, match="no row was prepared"):
        Export().execute(config, {**inputs, "prepare": tmp_path / "prepare"}, tmp_path / "gguf", Reports())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told(world: Path, small_disk: Path) -> None:
    model = world / "merge/model"
    meter = copying.Meter(Reports(), 1)
    with pytest.raises(MachineError, match="no space left on the disk"):
        copying.copy(sorted(model.iterdir()), small_disk / "copy", meter)
    for path in small_disk.rglob("*.*"):
        path.unlink()
    with pytest.raises(MachineError, match="no space left on the disk"):
        file.write(model, small_disk / "m.gguf", "m", file.planned(model, "f32"), meter)
    for path in small_disk.rglob("*.*"):
        path.unlink()
    with pytest.raises(MachineError, match="no space left on the disk"):
        archive.write({"model": model / "model.safetensors"}, {}, small_disk / "archive", "m", meter)


def test_a_damaged_adapter_is_told(world: Path, tmp_path: Path) -> None:
    inputs = {**{name: world / name for name in Export().inputs}, "train": tmp_path / "train"}
    (tmp_path / "train/adapter").mkdir(parents=True)
    (tmp_path / "train/adapter/adapter_config.json").write_text("{")
    (tmp_path / "out").mkdir()
    config = Config(name="dates", model=Model(name=str(world / "base")), export=["adapter"])
    with pytest.raises(StageFailed, match="adapter_config.json is damaged"):
        Export().execute(config, inputs, tmp_path / "out", Reports())


@pytest.mark.parametrize(
    ("card", "text", "expected"),
    [
        ("---\nlicense: gemma\n---\nText", "", {"license": "gemma"}),
        (
            "---\nlicense: other\nlicense_name: qwen-research\nlicense_link: https://x.y/LICENSE\n---\n",
            "",
            {"license": "other", "license_name": "qwen-research", "license_link": "https://x.y/LICENSE"},
        ),
        (
            "no metadata",
            "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy",
            {"license": "mit"},
        ),  # fmt: skip  # noqa: E501
        (
            "---\n[: broken\n---\n",
            "Own terms.",
            {"license": "other", "license_name": "base-model-license", "license_link": "LICENSE"},
        ),  # fmt: skip  # noqa: E501
        ("", "", {"license": "unknown"}),
    ],
)
def test_the_licence_is_the_bases(tmp_path: Path, card: str, text: str, expected: dict[str, str]) -> None:
    (tmp_path / "README.md").write_text(card)
    if text:
        (tmp_path / "LICENSE").write_text(text)
    assert licence.of(tmp_path, tmp_path).metadata() == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/me/my data/rows.jsonl", "rows.jsonl"),
        ("../shared/rows.jsonl", "rows.jsonl"),
        ("read /home/me/rows.jsonl, and/or more", "read rows.jsonl, and/or more"),
        ("Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-1.5B"),
        ("https://user:pass@host/path?token=x", "https://host/path"),
        ({"a": ["~/b/c"]}, {"a": ["c"]}),
        (3, 3),
    ],
)
def test_what_is_told_of_a_run(value: Any, expected: Any) -> None:
    assert record.shown(value) == expected


def test_mistakes_are_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(known: Architecture | None = None, **changes: Any) -> list[UserError]:
        return list(requirements.mistakes(Config(**changes), known))

    shape = dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"), 1)
    shape |= dict.fromkeys(("num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"), 1)
    other = Architecture("gpt2", tie_word_embeddings=True, **shape)
    assert "did you mean 'gguf'?" in told(export=["ggfu"])[0].hint
    assert "no adapter with method=full" in told(export=["adapter"], adapter="none")[0].message
    assert "export=[gguf,ollama]" in told(export=["ollama"])[0].hint
    assert "family 'gpt2'" in told(other, export=["gguf"])[0].message
    assert not told(other, export=["safetensors"])
    assert not told(export=list(EXPORTS))
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(MachineError) as failed:
        requirements.check(Config(export=["gguf"]))
    assert 'pip install "sft-runner[gguf]"' in failed.value.hint
