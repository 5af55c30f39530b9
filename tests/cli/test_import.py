"""`sft-runner import` as a user types it."""

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.command import sft

from sft_runner import load
from sft_runner.commands.import_ import main
from sft_runner.config import file
from sft_runner.errors import MachineError, UserError

EXAMPLES = Path(__file__).parents[1] / "importing"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples and their data, in which commands run."""
    shutil.copytree(EXAMPLES, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_a_recipe_is_written_and_told(project: Path) -> None:
    ended = sft("import", "axolotl_dora.yml", "-o", "recipes/mine.yaml", cwd=project)
    assert ended.code == 0, ended.said
    assert "line 1: base_model_config: Qwen/Qwen2.5-0.5B-Instruct -> model=qwen2.5-0.5b" in ended.out
    assert "line 29: lora_rr: 8\n      no key of axolotl; did you mean 'lora_r'?" in ended.out
    titles = ["carried over (", "another meaning (", "without effect here (", "not carried over (", "unknown (2)"]
    places = [ended.out.index(title) for title in titles]
    assert places == sorted(places)
    assert "recipe=mine dry_run=true" in ended.out


def test_what_is_no_configuration_is_bad_input(project: Path) -> None:
    (project / "list.yml").write_text("- a\n")
    ended = sft("import", "list.yml", cwd=project)
    assert (ended.code, ended.out) == (2, "")
    assert "list.yml: holds a list, not a mapping" in ended.err
    assert not (project / "recipes").exists()


def test_the_recipe_has_a_header_and_our_order(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["axolotl_lora.yml"]) == 0
    written = file.read(Path("recipes/axolotl_lora.yaml"))
    assert written.header["goal"] == "Teach a small model the tone of our help desk"
    assert written.header["result"] == "not measured yet"
    assert "hardware.optim=adamw_bnb_8bit" in written.words
    assert not [line for line in written.text.splitlines() if line.startswith("hardware")]
    assert list(written.values or {}) == ["defaults", "data", "lora", "quantization", "train"]
    assert load("recipe=axolotl_lora", *written.words[1:], "hardware=cpu").config.quantization.bits == "8"


def test_json_is_for_programs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["llamafactory_dora.yaml", "--json", "--devices", "4"]) == 0
    said = capsys.readouterr().out
    found = json.loads(said)
    assert "s3cr3t" not in said
    assert [entry["key"] for entry in found["unknown"]] == ["cutof_len"]
    assert found["unknown"][0]["line"] == 21
    assert (found["from"], found["recipe"], found["refused"]) == (
        "llamafactory",
        "recipes/llamafactory_dora.yaml",
        None,
    )
    assert "hardware.dtype=float16" not in found["words"]
    assert any("hardware.dtype=float16" in todo for todo in found["to_do"])
    assert {entry["key"]: entry["value"] for entry in found["assumed"]}["train.batch_size"] == 32


def test_no_recipe_is_replaced_unasked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = project / "recipes" / "trl_full.yaml"
    recipe.parent.mkdir()
    recipe.write_text("# mine\n")
    with pytest.raises(UserError, match="exists"):
        main(["trl_full.yaml"])
    assert recipe.read_text() == "# mine\n"
    assert main(["trl_full.yaml", "--force"]) == 0
    assert "learning_rate: 1e-5" in recipe.read_text()
    assert os.listdir(recipe.parent) == ["trl_full.yaml"]


@pytest.mark.parametrize("name", ["mein rezept ü", "it's", 'a "b"', "x=y,z", "模型"])
def test_names_of_all_kinds(name: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trl_full.yaml", "-o", f"recipes/{name}.yaml"]) == 0
    written = file.read(Path(f"recipes/{name}.yaml"))
    run = load(*written.words, "hardware=cpu")
    assert run.config.train.seed == 3
    assert run.config.name.isascii()


@pytest.mark.parametrize("output", ["mine.yaml", "recipes/mine.yml", "recipes/below/mine.yaml", "/nowhere/mine.yaml"])
def test_a_recipe_is_where_recipes_are_found(output: str, project: Path) -> None:
    with pytest.raises(UserError, match="found in ./recipes"):
        main(["trl_full.yaml", "-o", output])


def test_one_that_would_be_refused_is_written_and_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.yml").write_text(
        "base_model: Qwen/Qwen2.5-0.5B-Instruct\nadapter: lora\nload_in_8bit: true\nlearning_rate: 1e-4\n"
        "peft_init_lora_weights: pissa\nmicro_batch_size: 1\n"
        "datasets: [{path: data/qa.jsonl, type: alpaca_chat.load_qa}]\n"
    )
    assert main(["odd.yml"]) == 2
    said = capsys.readouterr()
    assert "lora.init_lora_weights=pissa" in said.err
    assert "it would be refused as it stands" in said.out
    assert Path("recipes/odd.yaml").exists()


def test_a_folder_that_cannot_be_written(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="no space left"):
        main(["trl_full.yaml"])
    assert os.listdir("recipes") == []


def test_the_program_can_be_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct\nlearning_rate: 1e-5\n")
    with pytest.raises(UserError, match="may be of"):
        main(["run.yaml"])
    assert main(["run.yaml", "--from", "trl"]) == 0
    assert "name the data: data.path=FILE" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["run.yaml", "--devices", "0"])
    assert ended.value.code == 2
