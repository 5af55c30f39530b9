"""Every method through the real stages: it learns the quickstart's task, merges, and resumes exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch

from random_models import Reports
from sft_runner import load
from sft_runner.config.schema import Config
from sft_runner.stages import STAGES
from sft_runner.stages.stage import Result
from trainings import digest, finish, killed, train
from trainings import processes as forked

pytestmark = [
    pytest.mark.slow,
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # LLM.int8 computes so
    pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast from:UserWarning"),
]

LEARNS: dict[str, tuple[list[str], float, int]] = {
    "dora": (["method=dora"], 7e-3, 150),
    "lora_plus": (["method=lora_plus"], 2e-3, 120),
    "full": (["method=full"], 5e-3, 130),
    "rslora": (["lora.use_rslora=true"], 5e-3, 120),
    "pissa": (["lora.init_lora_weights=pissa"], 5e-3, 130),
    "qlora": (["method=qlora"], 1e-2, 150),
    "8-bit lora": (["method=lora", "quantization.bits=8"], 1e-2, 150),
    "qdora": (["method=dora", "quantization.bits=4"], 7e-3, 150),
    "8-bit dora": (["method=dora", "quantization.bits=8"], 7e-3, 150),
}
"""Words of a command, and a learning rate and steps that are enough on the quickstart's 1,900 rows. LoRA itself is in
test_quickstart.py."""
HELD_OUT = 100


class Stages:
    """The stages of a run in this process; those of several methods share what has the same fingerprint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: dict[Path, Result] = {}

    def run(self, name: str, config: Config, own: str) -> tuple[Path, Result]:
        """A stage's folder and result, with the stages before it; `own` names the method."""
        shared = {"prepare": "all", "baseline": f"{config.quantization.bits}-bits"}
        folder = self.folder / f"{name}-{shared.get(name, own)}"
        if folder not in self.results:
            inputs = {earlier: self.run(earlier, config, own)[0] for earlier in STAGES[name].inputs}
            folder.mkdir()
            self.results[folder] = STAGES[name].execute(config, inputs, folder, Reports())
        return folder, self.results[folder]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    return Stages(tmp_path_factory.mktemp("stages"))


@pytest.mark.parametrize("method", LEARNS)
def test_it_learns_the_quickstarts_task(stages: Stages, method: str) -> None:
    words, rate, steps = LEARNS[method]
    held_out = [f"data.held_out={HELD_OUT}", f"evaluate.limit={HELD_OUT}"]
    config = load(
        "recipe=quickstart",
        "hardware=cpu",
        *words,
        f"train.learning_rate={rate}",
        f"train.max_steps={steps}",
        *held_out,
    ).config
    scores = stages.run("evaluate", config, method)[1].metrics
    proof = stages.run("merge", config, method)[1].metrics
    trained = stages.run("train", config, method)[1].metrics
    print(f"{method}: {scores['tuned']['exact_match']:.2f} {scores['tuned']['loss']:.4f} {trained['seconds']:.0f} s")
    assert scores["base"]["exact_match"] < 0.05
    assert scores["tuned"]["exact_match"] >= 0.9
    assert proof["difference"]["relative"] < 1e-4
    assert proof["changed_modules"] == proof["adapted_modules"] > 0


RESUMES: dict[str, dict[str, Any]] = {
    "dora": {"lora__use_dora": True},
    "lora_plus": {"train__loraplus_lr_ratio": 16.0, "train__learning_rate": 1e-3},
    "full": {"adapter": "none", "train__learning_rate": 1e-3},
    "rslora": {"lora__use_rslora": True},
    "pissa": {"lora__init_lora_weights": "pissa"},
    "pissa, faster": {"lora__init_lora_weights": "pissa_niter_16"},
    "olora with dora": {"lora__init_lora_weights": "olora", "lora__use_dora": True},
    "qlora": {"quantization__bits": "4"},
    "8-bit": {"quantization__bits": "8"},
    "qdora": {"quantization__bits": "4", "lora__use_dora": True},
    "8-bit dora": {"quantization__bits": "8", "lora__use_dora": True},
    "bfloat16 weights": {"adapter": "none", "hardware__trained_dtype": "bfloat16", "hardware__dtype": "bfloat16"},
}
"""LoRA itself is in test_train.py."""


@pytest.fixture(scope="module")
def processes() -> Any:
    """Where attempts are forked from."""
    return forked()


@pytest.mark.parametrize("changes", RESUMES.values(), ids=RESUMES)
def test_killed_and_resumed_it_is_the_same(
    processes: Any, world: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Killed while the checkpoint of step 6 is written, it goes on from that of step 3."""
    changes = {"train__max_steps": 7, "lora__lora_dropout": 0.1} | changes
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the attempts that are killed
    try:
        result = train(world, tmp_path / "whole", **changes)
    finally:
        torch.set_num_threads(threads)
    assert result.metrics["loss"] > 0
    killed(processes, world, tmp_path / "train", "save:6", **changes)
    finish(processes, world, tmp_path / "train", 3, **changes)
    assert digest(tmp_path / "train") == digest(tmp_path / "whole")
