"""The export stage through the real command: after the scores, from the cache the second time, refused in time."""

import tarfile
from pathlib import Path

import pytest

from command import SMALL, actions, manifest, sft
from sft_runner.config.schema import EXPORTS

FORMS = f"export=[{','.join(EXPORTS)}]"


@pytest.mark.slow
def test_the_command_exports_and_finds_it_again(tmp_path: Path) -> None:
    words = [*SMALL, "stage=export", FORMS]
    ended = sft(*words, cwd=tmp_path)
    assert ended.code == 0, ended.said
    assert list(actions(ended.out))[-2:] == ["evaluate", "export"]
    (run,) = (tmp_path / "outputs/runs/quickstart").glob("*/export")
    assert (run / "gguf/quickstart-f32.gguf").is_file()
    assert "FROM ../gguf/quickstart-f32.gguf" in (run / "ollama/Modelfile").read_text()
    found = manifest(tmp_path, "export")
    assert {"adapter/README.md", "safetensors/model.safetensors", "archive/quickstart.tar.gz"} <= set(found["files"])
    assert found["metrics"]["gguf"]["proof"]["equal_greedy"] == 1
    assert found["metrics"]["ollama"]["prompts_compared"] == 8
    with tarfile.open(run / "archive/quickstart.tar.gz") as packed:
        for member in packed.getmembers():
            opened = packed.extractfile(member)
            assert opened is not None
            assert str(tmp_path).encode() not in opened.read(), member.name
    again = sft(*words, cwd=tmp_path)
    assert again.code == 0
    assert set(actions(again.out).values()) == {"cached"}
    other = sft(*SMALL, "stage=export", "export=[gguf]", "gguf.type=q8_0", cwd=tmp_path)
    assert other.code == 0, other.said
    assert actions(other.out)["merge"] == "cached"
    assert actions(other.out)["export"] == "run"


def test_what_cannot_be_exported_is_told_before_anything_runs(tmp_path: Path) -> None:
    ended = sft(*SMALL, "export=[adaptor,ollama]", "method=full", "dry_run=true", cwd=tmp_path)
    assert ended.code == 2
    assert "export: form 'adaptor' does not exist" in ended.said
    assert "did you mean 'adapter'?" in ended.said
    assert "export=[gguf,ollama]" in ended.said
    assert not (tmp_path / "outputs").exists()
    empty = sft(*SMALL, "stage=export", cwd=tmp_path)
    assert empty.code == 2
    assert "stage=export: export is empty" in empty.said


def test_the_plan_counts_what_an_export_takes(tmp_path: Path) -> None:
    ended = sft(*SMALL, FORMS, "dry_run=true", cwd=tmp_path)
    assert ended.code == 0, ended.said
    assert list(actions(ended.out))[-2:] == ["export", "serve"]
    assert "exported" in next(line for line in ended.out.splitlines() if "disk:" in line)
