"""`train.continue_from`: what it names, what does not fit, what counts of it, and the model that comes out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from random_models import write_adapter, write_model
from sft_runner.config.schema import Config, Lora, Model, Quantization, Train
from sft_runner.disk import write_json
from sft_runner.errors import UserError
from sft_runner.fingerprint import Hashes, gather
from sft_runner.model.continuing import check, load_continued, shape_of
from sft_runner.runs import adapter_of
from sft_runner.stages import STAGES

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
BASE = "embedded:tiny"


def adapter(folder: Path, **changes: Any) -> Path:
    """A PEFT folder as far as planning reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "peft_type": "LORA",
        "base_model_name_or_path": BASE,
        "revision": None,
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.1,
        "target_modules": ["v_proj", "q_proj"],
        "use_dora": False,
        "use_rslora": False,
        "init_lora_weights": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(values | changes))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def run(output_dir: Path, name: str, time: str, state: str = "completed", **changes: Any) -> Path:
    """A run folder with a link to an adapter, as the runner leaves it."""
    made = adapter(output_dir / "stages" / "train" / f"{name}-{time}" / "adapter", **changes)
    folder = output_dir / "runs" / name / time
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"name": name, "state": state})
    (folder / "adapter").symlink_to(Path("../../../stages/train") / made.parent.name / "adapter")
    return folder


def config(continue_from: str | Path, output_dir: Path, **changes: Any) -> Config:
    values = {
        "name": "more",
        "output_dir": str(output_dir),
        "model": Model(name=BASE),
        "lora": Lora(r=4, lora_alpha=8.0),
        "quantization": Quantization(bits="none"),
        "train": Train(learning_rate=2e-4, continue_from=str(continue_from)),
    }
    return Config(**{**values, **changes})


def mistakes(asked: Config) -> list[UserError]:
    try:
        return check(asked, adapter_of(asked))
    except UserError as error:
        return [error]


def told(asked: Config) -> str:
    """The one mistake."""
    (error,) = mistakes(asked)
    return error.show()


def test_open_means_none() -> None:
    assert adapter_of(Config()) is None
    assert mistakes(Config()) == []


def test_a_run_folder_a_stage_folder_and_a_peft_folder_mean_their_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(tmp_path / "outputs", "dates", "1")
    wanted = tmp_path / "outputs/stages/train/dates-1/adapter"
    monkeypatch.chdir(tmp_path)
    for named in (folder, folder.relative_to(tmp_path), wanted.parent, wanted):
        assert adapter_of(config(named, tmp_path / "outputs")) == wanted
        assert mistakes(config(named, tmp_path / "outputs")) == []


def test_a_name_means_its_newest_completed_run_with_an_adapter(tmp_path: Path) -> None:
    for time, state in (("1", "completed"), ("2", "completed"), ("3", "failed"), ("4", "killed"), ("5", "running")):
        run(tmp_path, "dates", time, state)
    run(tmp_path, "other", "9")
    (tmp_path / "runs/dates/6").mkdir()
    write_json(tmp_path / "runs/dates/6/run.json", {"name": "dates", "state": "completed"})  # only prepared
    assert adapter_of(config("dates", tmp_path)) == tmp_path / "stages/train/dates-2/adapter"
    shutil.rmtree(tmp_path / "stages/train/dates-2")  # pruned
    assert adapter_of(config("dates", tmp_path)) == tmp_path / "stages/train/dates-1/adapter"


def test_the_adapter_says_what_is_left_open(tmp_path: Path) -> None:
    made = adapter(tmp_path / "a", use_rslora=True, target_parameters=["experts.up"])
    assert shape_of(made) == Lora(
        r=4,
        lora_alpha=8.0,
        lora_dropout=0.1,
        target_modules=["q_proj", "v_proj"],
        use_rslora=True,
        target_parameters=["experts.up"],
    )


def test_what_does_not_exist_is_told_with_what_does(tmp_path: Path) -> None:
    assert told(config("dates", tmp_path)).startswith("train.continue_from: there is no folder and no run 'dates'\n")
    run(tmp_path, "dates", "1")
    assert told(config("date", tmp_path)) == "train.continue_from: run 'date' does not exist\n  did you mean 'dates'?"
    assert f"runs in {tmp_path}: dates" in told(config("no/where", tmp_path))
    with pytest.raises(UserError):
        adapter_of(config("date", tmp_path))


def test_a_run_does_not_go_on_from_its_own_name(tmp_path: Path) -> None:
    """The same command would train on and on."""
    folder = run(tmp_path, "dates", "1")
    message = told(config("dates", tmp_path, name="dates"))
    assert "name of this run itself" in message
    assert f"name=dates-2, or name the run folder: train.continue_from={folder}" in message
    assert mistakes(config(folder, tmp_path, name="dates")) == []


def test_only_completed_runs_have_a_name(tmp_path: Path) -> None:
    run(tmp_path, "dates", "1", "failed")
    assert "no run 'dates' has completed" in told(config("dates", tmp_path))


def test_a_run_that_trained_the_whole_model_is_a_base(tmp_path: Path) -> None:
    folder = tmp_path / "runs/dates/1"
    (folder / "model").mkdir(parents=True)
    (folder / "model/config.json").write_text("{}")
    write_json(folder / "run.json", {"name": "dates", "state": "completed"})
    for named in (folder, "dates"):
        assert told(config(named, tmp_path)).endswith(f"has no adapter\n  its whole model is a base to go on from: "
                                                      f"model.name={folder}/model")  # fmt: skip


def test_an_adapter_that_was_removed_is_told(tmp_path: Path) -> None:
    folder = run(tmp_path, "dates", "1")
    shutil.rmtree(tmp_path / "stages")
    for named in (folder, "dates"):
        assert f"the adapter of {folder} was removed" in told(config(named, tmp_path))


def test_a_folder_of_something_else_is_told(tmp_path: Path) -> None:
    assert "neither a run with an adapter nor a folder with adapter_config.json" in told(config(tmp_path, tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"peft_type": "LOHA", "r": 4}', '{"peft_type": "LORA"}', '{"peft_type": "LORA", "r": "4"}'),
        *('{"peft_type": "LORA", "r": 4, "lora_alpha": "8"}', '{"peft_type": "LORA", "r": 4, "target_modules": [5]}'),
        '{"peft_type": "LORA", "r": 4, "target_modules": 5}',
    ],
)
def test_a_damaged_or_foreign_adapter_is_told(tmp_path: Path, text: str) -> None:
    (adapter(tmp_path) / "adapter_config.json").write_text(text)
    assert "adapter_config.json" in told(config(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        ({"base_model_name_or_path": "some/model"}, {}, "belongs to the base some/model, model.name is embedded:tiny"),
        ({"base_model_name_or_path": "/gone/base"}, {}, "use model.name=/gone/base"),
        ({}, {"lora": Lora(r=8, lora_alpha=8.0)}, "lora.r=8: the adapter of train.continue_from has 4"),
        ({}, {"lora": Lora(r=4, lora_alpha=16.0)}, "lora.lora_alpha=16: the adapter of train.continue_from has 8"),
        ({}, {"lora": Lora(use_dora=True)}, "lora.use_dora=true: the adapter of train.continue_from has false"),
        ({"use_dora": True}, {}, "set lora.use_dora=true, or choose method=dora"),
        ({"use_rslora": True}, {}, "set lora.use_rslora=true"),
        ({}, {"lora": Lora(target_modules=["q_proj"])}, "lora.target_modules=[q_proj]: the adapter of"),
        ({}, {"lora": Lora(target_parameters=["w"])}, "lora.target_parameters=[w]: the adapter of"),
        ({}, {"lora": Lora(init_lora_weights="pissa")}, "the adapter has begun already"),
        ({"init_lora_weights": "pissa"}, {}, "it fits only its own base"),
        ({}, {"adapter": "none"}, "does not go with method=full"),
        ({"modules_to_save": ["lm_head"]}, {}, "it has modules_to_save"),
        ({"bias": "all"}, {}, "it has bias=all"),
        ({"rank_pattern": {"q_proj": 8}}, {}, "it has rank_pattern"),
        ({"rank_pattern": {".*\\.q_proj": 8}}, {}, "it has rank_pattern"),
        ({"alpha_pattern": {"q_proj": 8}}, {}, "it has alpha_pattern"),
        ({"target_modules": ".*q_proj"}, {}, "it has target_modules=.*q_proj (an expression)"),
        ({"target_modules": ["q_proj", "lm_head"]}, {}, "it has target_modules with lm_head"),
        ({"layers_to_transform": [0]}, {}, "it has layers_to_transform"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, changes: dict[str, Any], asked: Any, message: str) -> None:
    assert message in told(config(adapter(tmp_path, **changes), tmp_path, **asked))


def test_what_peft_writes_for_experts_is_no_pattern_of_the_users(tmp_path: Path) -> None:
    own = {"rank_pattern": {".*\\.gate_up_proj": 8}, "alpha_pattern": {".*\\.gate_up_proj": 16}}
    own |= {"target_parameters": ["gate_up_proj", "down_proj"], "bias": "none", "modules_to_save": None}
    assert mistakes(config(adapter(tmp_path, **own), tmp_path)) == []


def test_the_order_of_targets_and_a_start_that_is_over_do_not_matter(tmp_path: Path) -> None:
    made = adapter(tmp_path, init_lora_weights="gaussian")
    assert mistakes(config(made, tmp_path, lora=Lora(target_modules=["v_proj", "q_proj"]))) == []


def test_the_same_folder_by_two_names_is_the_same_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "base")
    (tmp_path / "link").symlink_to("base")
    monkeypatch.chdir(tmp_path)
    made = adapter(tmp_path / "a", base_model_name_or_path=str(tmp_path / "base"))
    assert mistakes(config(made, tmp_path, model=Model(name="./link"))) == []


def test_its_bytes_count_and_not_its_place(tmp_path: Path) -> None:
    hashes = Hashes(tmp_path / "memory.json")

    def of(named: str | Path) -> str:
        asked = config(named, tmp_path / "outputs")
        return gather(STAGES["train"], asked, {"prepare": "ab"}, {"sets": ""}, hashes).fingerprint()

    folder = run(tmp_path / "outputs", "dates", "1")
    one = of("dates")
    assert of(folder) == one
    moved = Path(shutil.copytree(folder / "adapter", tmp_path / "moved"))
    assert of(moved) == one
    (moved / "README.md").write_text("no part of it")
    assert of(moved) == one
    (moved / "adapter_model.safetensors").write_bytes(b"Weights")
    assert of(moved) != one
    plain = replace(config(folder, tmp_path), train=Train(learning_rate=2e-4))
    assert gather(STAGES["train"], plain, {"prepare": "ab"}, {"sets": ""}, hashes).fingerprint() != one


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_the_loaded_adapter_is_the_same_and_trains_in_float32(tmp_path: Path, settings: dict[str, Any]) -> None:
    base = write_model(tmp_path / "base", dtype=torch.bfloat16)
    made = write_adapter(tmp_path, base, **settings) / "adapter"
    ids = torch.arange(40).reshape(1, 40)
    with torch.no_grad():
        fixed = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), made)
        expected = fixed.eval()(ids).logits
    found = load_continued(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), made, dropout=0.5)
    trained = {name: weights for name, weights in found.named_parameters() if weights.requires_grad}
    assert {weights.dtype for weights in trained.values()} == {torch.float32}
    assert trained
    assert all("lora_" in name for name in trained)
    assert {weights.dtype for name, weights in found.named_parameters() if name not in trained} == {torch.bfloat16}
    assert found.peft_config["default"].lora_dropout == 0.5
    with torch.no_grad():
        assert torch.equal(found.eval()(ids).logits, expected)
