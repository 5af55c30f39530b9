"""Base and tuned model are scored on the same rows by the same code, the base once for all adapters."""

import json
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from random_models import (
    Reports,
    chat_row,
    make_rows,
    text_row,
    tokenizer,
    write_adapter,
    write_model,
    write_prepared,
    write_rows,
)
from sft_runner.config.schema import Config, Model
from sft_runner.errors import DataError
from sft_runner.evaluation.metrics.metric import metrics_of
from sft_runner.evaluation.names import ALWAYS
from sft_runner.evaluation.scoring import score
from sft_runner.fingerprint import Hashes, gather
from sft_runner.stages.baseline import Baseline
from sft_runner.stages.evaluate import Evaluate

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a property that has a new name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def config_for(base: Path, bits: str = "none") -> Config:
    config = Config(model=Model(name=str(base)))
    config.quantization.bits = bits
    config.evaluate.max_new_tokens = 8
    config.hardware.per_device_eval_batch_size = 4
    return config


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    base = write_model(tmp_path / "base")
    write_adapter(tmp_path / "train", base, size=0.5)
    (tmp_path / "baseline").mkdir()
    (tmp_path / "evaluate").mkdir()
    prepare = write_prepared(tmp_path / "prepare", held_out=6)
    return {"prepare": prepare, "train": tmp_path / "train", "baseline": tmp_path / "baseline"}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_base_and_tuned_side_by_side(tmp_path: Path, inputs: dict[str, Path]) -> None:
    config = config_for(tmp_path / "base")
    base = Baseline().execute(config, inputs, tmp_path / "baseline", Reports())
    found = Evaluate().execute(config, inputs, tmp_path / "evaluate", Reports())

    rows = make_rows([("Say it " * (i % 5), "abc" * (i + 1)) for i in range(6)])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    expected = score(plain, tokenizer(), rows, metrics_of(["exact_match"]), 8, 1, Reports())
    tuned = score(
        PeftModel.from_pretrained(plain, tmp_path / "train/adapter"),
        tokenizer(), rows, metrics_of(["exact_match"]), 8, 1, Reports(),
    )  # fmt: skip
    assert base.metrics["base"] == pytest.approx(expected.metrics, rel=1e-5)
    assert found.metrics["base"] == base.metrics["base"]
    assert found.metrics["tuned"] == pytest.approx(tuned.metrics, rel=1e-5)
    assert found.metrics["gain"]["loss"] == pytest.approx(expected.metrics["loss"] - tuned.metrics["loss"], rel=1e-4)
    assert abs(found.metrics["gain"]["loss"]) > 0.01
    assert json.loads((tmp_path / "evaluate/scores.json").read_text()) == found.metrics

    written = lines(tmp_path / "evaluate/predictions.jsonl")
    assert [row["source"] for row in written] == list(rows["source"])
    assert [row["base"]["answer"] for row in written] == [row["answer"] for row in expected.predictions]
    assert [row["tuned"]["answer"] for row in written] == [row["answer"] for row in tuned.predictions]
    assert written[1].keys() == {"source", "prompt", "expected", "tokens", "base", "tuned"}
    assert (written[1]["prompt"], written[1]["expected"]) == ([{"role": "user", "content": "Say it "}], "abcabc")
    for result, folder in ((base, "baseline"), (found, "evaluate")):
        assert {file.name for file in (tmp_path / folder).iterdir()} == {*result.artifacts, "statistics.npz"}


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["8", "4"])
def test_a_quantized_base_is_scored_as_training_sees_it(tmp_path: Path, inputs: dict[str, Path], bits: str) -> None:
    config = config_for(tmp_path / "base", bits)
    base = Baseline().execute(config, inputs, tmp_path / "baseline", Reports()).metrics["base"]
    tuned = Evaluate().execute(config, inputs, tmp_path / "evaluate", Reports()).metrics["tuned"]
    (tmp_path / "plain").mkdir()
    plain = Baseline().execute(config_for(tmp_path / "base"), inputs, tmp_path / "plain", Reports()).metrics["base"]
    assert 1e-4 < abs(base["loss"] - plain["loss"]) < 1
    assert abs(tuned["loss"] - base["loss"]) > 0.01


def test_without_held_out_rows_the_key_is_named(tmp_path: Path, inputs: dict[str, Path]) -> None:
    inputs["prepare"] = write_prepared(tmp_path / "empty", held_out=0)
    for stage in (Baseline(), Evaluate()):
        with pytest.raises(DataError, match=r"data\.held_out") as caught:
            stage.execute(config_for(tmp_path / "base"), inputs, tmp_path / stage.name, Reports())
        assert "stage=merge" in caught.value.hint


def test_a_sweep_over_the_adapter_measures_the_base_once(tmp_path: Path, inputs: dict[str, Path]) -> None:
    def fingerprint(config: Config) -> str:
        return gather(Baseline(), config, {"prepare": "0"}, {"sets": ""}, Hashes(tmp_path / "hashes")).fingerprint()

    config = config_for(tmp_path / "base")
    first = fingerprint(config)
    config.lora.r, config.train.learning_rate, config.hardware.per_device_eval_batch_size = 64, 1.0, 1
    assert fingerprint(config) == first
    config.quantization.bits = "4"
    assert fingerprint(config) != first
    config.quantization.bits, config.evaluate.max_new_tokens = "none", 9
    assert fingerprint(config) != first


def test_every_kind_of_row_by_kind(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """A chat, one with tools, a text and code to fill in, held out for several reasons."""
    tool = {"type": "function", "function": {"name": "clock", "parameters": {}}}
    rows = [
        chat_row("What time is it?", "Noon.", 1, kind="unseen", tools=[tool]),
        chat_row("How late is it?", "Noon.", 2, kind="reworded"),
        text_row("once upon a time", 3, kind="unseen"),
        text_row("return 1", 4, prompt="def f():"),
    ]
    inputs["prepare"] = write_rows(tmp_path / "several", rows, rows)
    config = config_for(tmp_path / "base")
    base = Baseline().execute(config, inputs, tmp_path / "baseline", Reports()).metrics["base"]
    found = Evaluate().execute(config, inputs, tmp_path / "evaluate", Reports()).metrics
    assert (found["tuned"]["rows"], found["tuned"]["answers"]) == (4, 3)
    assert found["tuned"]["by"].keys() == {"unseen", "reworded"}
    gained = found["gain"]["by"]["unseen"]
    assert gained.keys() == {*ALWAYS, "exact_match"}
    assert gained["loss"] == pytest.approx(base["by"]["unseen"]["loss"] - found["tuned"]["by"]["unseen"]["loss"])
    written = lines(tmp_path / "evaluate/predictions.jsonl")
    assert [row["kind"] for row in written] == ["unseen", "reworded", "unseen", ""]
    assert [row["prompt"] for row in written[2:]] == ["", "def f():"]
    assert [("answer" in row["base"], "answer" in row["tuned"]) for row in written] == [
        (True, True),
        (True, True),
        (False, False),
        (True, True),
    ]


def test_intervals_and_other_sets(tmp_path: Path, inputs: dict[str, Path]) -> None:
    config = config_for(tmp_path / "base")
    config.evaluate.metrics, config.evaluate.headline = ["exact_match", "chrf", "number"], "chrf"
    lines_of = [json.dumps({"prompt": f"Count to {i}", "completion": "1 2 3 4 5 6"[: 2 * i + 1]}) for i in range(5)]
    (tmp_path / "other.jsonl").write_text("\n".join(lines_of))
    config.evaluate.sets = {"counting": {"path": str(tmp_path / "other.jsonl")}}
    reports = Reports()
    base = Baseline().execute(config, inputs, tmp_path / "baseline", reports)
    assert {"loss", "counting: loss", "generate", "counting: generate"} <= {event["message"] for event in reports}
    assert "number was not measured: it means nothing for any of the 6 rows" in base.notes
    result = Evaluate().execute(config, inputs, tmp_path / "evaluate", Reports())
    found = result.metrics
    for side in ("base", "tuned", "gain"):
        assert found[side]["sets"]["counting"].keys() >= {*ALWAYS, "exact_match", "chrf", "number"}
        assert "number" not in found[side]
        for scores, between in ((found, found["intervals"]), (None, found["intervals"]["sets"]["counting"])):
            value = scores[side]["loss"] if scores else found[side]["sets"]["counting"]["loss"]
            assert between["loss"][side]["low"] < value < between["loss"][side]["high"]
    assert found["tuned"]["sets"]["counting"]["rows"] == 5
    written = lines(tmp_path / "evaluate/predictions.counting.jsonl")
    assert [row["expected"] for row in written] == ["1", "1 2", "1 2 3", "1 2 3 4", "1 2 3 4 5"]
    assert all("number" in row[side] for row in written for side in ("base", "tuned"))
    assert result.artifacts == ["scores.json", "predictions.jsonl", "predictions.counting.jsonl"]
    assert found["gain"]["chrf"] == 0  # nothing is said right, so that nothing varies
    assert "chrf" not in found["intervals"]
    assert result.notes == ["chrf: the gain of 0 has no interval: it is the same however 6 rows are drawn"]


def test_a_doubtful_gain_is_told() -> None:
    import numpy as np

    from sft_runner.stages.evaluate import _doubt

    def told(low: float, high: float) -> list[str]:
        found = {"gain": {"loss": 0.1}, "intervals": {"loss": {"gain": {"low": low, "high": high}}}}
        return _doubt("loss", found, {"loss": np.ones((8, 2))})

    assert told(-0.2, 0.3) == ["loss: no difference can be told on 8 rows (gain 0.1, 95 % interval -0.2 to 0.3)"]
    assert told(0.05, 0.3) == []
    for rows, said in {
        1: "loss: 1 row is too few for an interval (gain 0.1)",
        4: "loss: 4 rows are too few for an interval (gain 0.1)",
        5: "loss: the gain of 0.1 has no interval: it is the same however 5 rows are drawn",
    }.items():
        assert _doubt("loss", {"gain": {"loss": 0.1}, "intervals": {}}, {"loss": np.ones((rows, 2))}) == [said]
    assert _doubt("number", {"gain": {}, "intervals": {}}, {}) == []
