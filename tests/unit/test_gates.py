"""`evaluate.gates`: what each limit means, what is wrong with one before anything runs, what is said of a verdict."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sft_runner import load, plan, screen
from sft_runner.commands import models
from sft_runner.config import sources
from sft_runner.config.schema import Config
from sft_runner.disk import write_json
from sft_runner.errors import GateFailed, UserError, UserErrors
from sft_runner.evaluation import gates
from sft_runner.evaluation.verdict import Verdict

TWO = "data.sources={a: {path: 'embedded:dates'}, b: {path: 'embedded:dates'}}"
SETS = "evaluate.sets={general: {path: 'embedded:dates', limit: 5}}"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    sources.forget()


SCORES: dict[str, Any] = {
    "base": {"exact_match": 0.25, "loss": 2.0, "perplexity": math.exp(2), "rows": 100},
    "tuned": {"exact_match": 0.5, "loss": 1.0, "perplexity": math.exp(1), "token_accuracy": 0.8, "rows": 100},
    "gain": {"exact_match": 0.25, "loss": 1.0, "perplexity": math.exp(2) - math.exp(1)},
    "intervals": {
        "exact_match": {
            "base": {"low": 0.17, "high": 0.34},
            "tuned": {"low": 0.4, "high": 0.6},
            "gain": {"low": 0.15, "high": 0.35},
        },
        "loss": {"tuned": {"low": 0.8, "high": 1.2}, "gain": {"low": 0.5, "high": 1.5}},
        "token_accuracy": {"tuned": {"low": 0.9, "high": 1.0}},
    },
}
"""A model that got better, on the held-out rows."""


def scores(**parts: Any) -> dict[str, Any]:
    """The scores with `by`, `sets` or `benchmarks`: name -> (base, tuned) of loss."""
    found: dict[str, Any] = json.loads(json.dumps(SCORES))
    for part, named in parts.items():
        for index, side in enumerate(("base", "tuned")):
            found[side][part] = {name: {"loss": values[index]} for name, values in named.items()}
        found["gain"][part] = {name: {"loss": values[0] - values[1]} for name, values in named.items()}
    return found


SIDES = ("base", "tuned")


def judged(wanted: dict[str, Any], found: dict[str, Any] | None = None, **data: Any) -> list[Verdict]:
    config = Config()
    config.evaluate.gates = wanted
    config.data.sources = data.get("sources", {})
    return gates.judge(config, {"evaluate": {"metrics": SCORES if found is None else found}})


@pytest.mark.parametrize(
    ("metric", "limits", "found", "passed", "missed_by"),
    [
        ("exact_match", {"min": 0.5}, 0.5, True, None),
        ("exact_match", {"min": 0.6}, 0.5, False, 0.1),
        ("exact_match", {"max": 0.4}, 0.5, False, 0.1),
        ("exact_match", {"min_gain": 0.25}, 0.25, True, None),
        ("exact_match", {"min_gain": 0.3}, 0.25, False, 0.05),
        ("loss", {"min_gain": 1.1}, 1.0, False, 0.1),
        ("loss", {"max": 1}, 1.0, True, None),
        ("loss", {"max_ratio": 0.5}, 0.5, True, None),
        ("loss", {"max_ratio": 0.4}, 0.5, False, 0.1),
        ("exact_match", {"min": 0.45, "sure": True}, 0.5, False, 0.05),
        ("exact_match", {"min": 0.4, "sure": True}, 0.5, True, None),
        ("exact_match", {"max": 0.55, "sure": True}, 0.5, False, 0.05),
        ("exact_match", {"min_gain": 0.2, "sure": True}, 0.25, False, 0.05),
        ("loss", {"max_ratio": 0.75, "sure": True}, 0.5, True, None),  # (2 - 0.5) / 2
        ("loss", {"max_ratio": 0.7, "sure": True}, 0.5, False, 0.05),
        ("perplexity", {"max_ratio": 0.6, "sure": True}, math.exp(-1), False, math.exp(-0.5) - 0.6),
        ("perplexity", {"max_ratio": 0.61, "sure": True}, math.exp(-1), True, None),
        ("token_accuracy", {"min": 0.85, "sure": True}, 0.8, False, 0.05),  # an interval need not hold the score
        ("token_accuracy", {"max": 0.85, "sure": True}, 0.8, False, 0.15),
    ],
)
def test_each_limit(metric: str, limits: dict[str, Any], found: float, passed: bool, missed_by: float | None) -> None:
    (verdict,) = judged({metric: limits})
    assert (verdict.gate, verdict.wanted, verdict.passed) == (metric, next(iter(limits.values())), passed)
    assert verdict.found == pytest.approx(found)
    assert verdict.missed_by == (None if missed_by is None else pytest.approx(missed_by))


def test_a_gain_of_five_points_is_five_points_in_floating_numbers() -> None:
    tuned = {"base": {"exact_match": 0.25}, "tuned": {"exact_match": 0.3}, "gain": {"exact_match": 0.3 - 0.25}}
    assert tuned["gain"]["exact_match"] < 0.05
    (verdict,) = judged({"exact_match": {"min_gain": 0.05}}, tuned)
    assert verdict.passed
    assert str(verdict) == "exact_match gain 0.05 ≥ min_gain 0.05"


def test_sets_groups_and_benchmarks() -> None:
    found = scores(sets={"general": (1.0, 1.5)}, by={"unseen": (2.0, 1.0)}, benchmarks={"task": (3.0, 2.0)})
    verdicts = judged(
        {
            "general": {"loss": {"max_ratio": 1.02}},
            "unseen": {"loss": {"max": 1.0}},
            "benchmarks": {"task": {"loss": {"min_gain": 0.5}}},
            "loss": {"max": 1},
        },
        found,
    )
    assert [(one.gate, one.found, one.passed) for one in verdicts] == [
        ("general.loss", 1.5, False),
        ("unseen.loss", 1.0, True),
        ("benchmarks.task.loss", 1.0, True),
        ("loss", 1.0, True),
    ]


def test_the_only_source_is_all_rows_and_another_one_is_not() -> None:
    wanted = {"mine": {"loss": {"max": 3}}}
    assert judged(wanted, sources={"mine": {}})[0].found == 1.0
    both: dict[str, Any] = {"mine": {}, "other": {"held_out": 0}}
    assert judged(wanted, sources=both)[0].found is None
    assert judged(wanted, scores(by={"mine": (2.0, 1.5)}), sources=both)[0].found == 1.5


@pytest.mark.parametrize(
    ("limits", "found", "says"),
    [
        ({"min": 0.1}, {"base": {}, "tuned": {}}, "exact_match was not measured, min 0.1"),
        ({"min": 0.1}, {"tuned": {"exact_match": math.nan}}, "exact_match was not measured, min 0.1"),
        ({"min_gain": 0.1}, {"tuned": {"exact_match": 1.0}}, "exact_match gain was not measured, min_gain 0.1"),
        ({"min": 0.1, "sure": True}, {"tuned": {"exact_match": 1.0}}, "exact_match has no interval, min 0.1"),
    ],
)
def test_what_was_not_measured_has_not_passed(limits: dict[str, Any], found: dict[str, Any], says: str) -> None:
    (verdict,) = judged({"exact_match": limits}, found)
    assert not verdict.passed
    assert verdict.missed_by is None
    assert str(verdict) == says
    with pytest.raises(GateFailed, match=r"^evaluate\.gates: exact_match"):
        gates.require([verdict])


def test_what_was_measured_instead_is_named() -> None:
    found = {side: {"benchmarks": {"gsm8k": {"acc_a": 0.5, "acc_b": 0.6, "acc_a_stderr": 0.1}}} for side in SIDES}
    verdicts = judged({"benchmarks": {"gsm8k": {"acc": {"min": 0.3}}}}, found)
    assert verdicts[0].measured == ("acc_a", "acc_b")
    with pytest.raises(GateFailed, match="benchmarks.gsm8k.acc was not measured") as caught:
        gates.require(verdicts)
    assert "measured there: acc_a, acc_b" in caught.value.hint
    assert "train it better" not in caught.value.hint
    with pytest.raises(GateFailed, match="has no interval") as caught:
        gates.require(judged({"exact_match": {"min": 0.1, "sure": True}}, {"tuned": {"exact_match": 1.0}}))
    assert "hold out more rows" in caught.value.hint
    assert "train it better" not in caught.value.hint


def test_what_the_base_has_no_score_of_stops_before_the_training() -> None:
    config = Config()
    config.evaluate.gates = {"loss": {"max": 1}, "exact_match": {"min": 0.5}, "general": {"loss": {"max": 1}}}
    base = {"loss": math.inf, "perplexity": 3.0, "rows": 4, "sets": {"general": {"loss": 2.0}}}
    with pytest.raises(UserError, match=r"^evaluate\.gates\.exact_match was not measured$") as caught:
        gates.require_measured(config, base)
    assert caught.value.hint == "measured there: perplexity"
    gates.require_measured(config, base | {"exact_match": 0.0})
    with pytest.raises(UserErrors, match=r"general\.loss was not measured"):
        gates.require_measured(config, base | {"sets": {}})


def test_the_gain_of_a_benchmark_is_the_one_that_was_told() -> None:
    found = scores(benchmarks={"task": (3.0, 2.0)})
    found["gain"]["benchmarks"]["task"]["loss"] = -1.0  # by the harness more is better
    assert judged({"benchmarks": {"task": {"loss": {"min_gain": 0}}}}, found)[0].missed_by == 1.0
    del found["gain"]["benchmarks"]["task"]["loss"]
    assert judged({"benchmarks": {"task": {"loss": {"min_gain": 0}}}}, found)[0].found is None


def test_a_ratio_to_a_base_of_nothing() -> None:
    nothing = {"base": {"loss": 0.0}, "tuned": {"loss": 0.0}}
    assert judged({"loss": {"max_ratio": 1}}, nothing)[0].passed
    assert not judged({"loss": {"max_ratio": 1e9}}, {"base": {"loss": 0.0}, "tuned": {"loss": 0.1}})[0].passed


def test_before_the_model_is_evaluated_nothing_is_judged() -> None:
    config = Config()
    config.evaluate.gates = {"exact_match": {"min": 1}}
    assert gates.judge(config, {"baseline": {"metrics": {"base": {"exact_match": 0.0}}}}) == []


def test_the_worst_miss_is_told_first_and_all_are_counted() -> None:
    verdicts = judged({"exact_match": {"min": 0.51, "min_gain": 0.9}, "loss": {"max": 2}})
    assert [one.limit for one in gates.failed(verdicts)] == ["min_gain", "min"]
    with pytest.raises(GateFailed) as caught:
        gates.require(verdicts)
    assert caught.value.message == (
        "evaluate.gates: exact_match gain 0.25 < min_gain 0.9, missed by 0.65; 2 of 3 limits are not met"
    )
    assert "force=[serve]" in caught.value.hint
    assert caught.value.exit_code == 1
    gates.require([one for one in verdicts if one.passed])


def test_a_score_just_below_its_limit_does_not_look_equal() -> None:
    (verdict,) = judged({"exact_match": {"min": 0.6}}, {"tuned": {"exact_match": 0.59996}})
    assert str(verdict) == "exact_match 0.59996 < min 0.6"


def test_what_is_held_back_unless_it_is_forced() -> None:
    failing, passing = judged({"exact_match": {"min": 0.9}}), judged({"exact_match": {"min": 0.1}})
    assert gates.held_back(failing, []) == ["export", "serve"]
    assert gates.held_back(failing, ["serve"]) == ["export"]
    assert gates.held_back(passing, []) == []


def test_verdicts_come_back_from_a_run_json(tmp_path: Path) -> None:
    verdicts = judged({"exact_match": {"min": 0.9, "min_gain": 0.1, "sure": True}, "general": {"loss": {"max": 1}}})
    write_json(tmp_path / "run.json", gates.told(verdicts))
    state = json.loads((tmp_path / "run.json").read_text())
    assert state["fit_to_serve"] is False
    assert gates.read(state) == verdicts
    state["gates"][0]["later"] = "a field of another version"
    assert gates.read(state) == verdicts
    assert gates.read({}) == []


def test_the_table() -> None:
    table = screen.verdicts(
        judged({"exact_match": {"min": 0.9, "sure": True}, "loss": {"max": 1.5}, "general": {"loss": {"max": 1}}})
    )
    assert table.splitlines() == [
        "  gate          limit  wanted        found  95 % interval",
        "  exact_match   min    0.9 for sure  0.5    0.4 to 0.6     missed by 0.5",
        "  loss          max    1.5           1      0.8 to 1.2     passed",
        "  general.loss  max    1             -      -              not measured",
    ]
    table = screen.verdicts(judged({"loss": {"max": 1.5, "sure": True}}, {"tuned": {"loss": 1.0}}))
    assert table.splitlines()[1] == "  loss  max    1.5 for sure  1      -              no interval"


def test_the_list_of_models_tells_which_is_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = {
        "a": gates.told(judged({"exact_match": {"min": 0.6}})) | {"state": "failed"},
        "b": gates.told(judged({"exact_match": {"min": 0.4}})) | {"state": "completed"},
        "c": {"state": "completed", "fit_to_serve": None, "gates": []},
    }
    for name, state in states.items():
        (tmp_path / "runs" / name / "1" / "model").mkdir(parents=True)
        write_json(tmp_path / "runs" / name / "1" / "run.json", {"name": name, "started": "2026-01-01T10:00", **state})
    assert models.main(["--output-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "not fit to serve: exact_match 0.5 < min 0.6" in said
    assert said.count("fit to serve") == 2
    assert len(said.splitlines()) == 5


# Mistakes, before anything runs.


def refused(*words: str) -> str:
    """What is said of a command line that cannot run."""
    with pytest.raises(UserError) as caught:
        load("recipe=quickstart", "hardware=cpu", *words)
    return caught.value.show()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["exact_mach: {min: 1}"], ["metric 'exact_mach' does not exist", "'exact_match'"]),
        (["rouge1: {min: 0.3}"], ["evaluate.gates.rouge1: rouge1 is not measured", "evaluate.metrics=[...,rouge1]"]),
        (["exact_match: {minimum: 0.6}"], ["limit 'minimum' does not exist", "'min'"]),
        (["exact_match: {min_gian: 0.6}"], ["limit 'min_gian' does not exist", "'min_gain'"]),
        (["exact_match: {min: '0.6'}"], ["min: '0.6' is not a number", "without quotes"]),
        (["exact_match: {min: high}"], ["min: 'high' is not a number"]),
        (["exact_match: {min: true}"], ["min: true is not a number"]),
        (["exact_match: {min: null}"], ["min: null is not a number"]),
        (["loss: {max: .inf}"], ["'.inf' is not a number"]),
        (["exact_match: {min: 0.6, max: 0.5}"], ["min 0.6 is more than max 0.5"]),
        (["exact_match: {min: 60}"], ["exact_match is a share", "did you mean 0.6?"]),
        (["exact_match: {min_gain: 5}"], ["exact_match is a share", "did you mean 0.05?"]),
        (["exact_match: {min: -1}"], ["exact_match.min=-1: every model passes", "from 0 to 1"]),
        (["exact_match: {min: 200}"], ["exact_match.min=200: no model passes"]),
        (["exact_match: {min_gain: -2}"], ["min_gain=-2: every model passes"]),
        (["bleu: {min: 200}", "evaluate.metrics=[bleu]"], ["bleu.min=200: no model passes", "from 0 to 100"]),
        (["bleu: {max: 101}", "evaluate.metrics=[bleu]"], ["bleu.max=101: every model passes"]),
        (["loss: {max: -1}"], ["loss.max=-1: no model passes", "never below 0"]),
        (
            ["b: {loss: {max: 2}}", TWO, "data.sources.b.held_out=0"],
            ["evaluate.gates.b.loss: no row of b is held out", "data.sources.b.held_out"],
        ),
        (["exact_match: {}"], ["no limit is set", "min_gain"]),
        (["exact_match: {sure: true}"], ["no limit is set"]),
        (["exact_match: {min: 0.1, sure: yes}"], ["sure: 'yes' is neither true nor false"]),
        (["exact_match: 0.6"], ["0.6 is no mapping of limits", "exact_match: {min: 0.6}"]),
        (["perplexity: {max_ratio: 0}"], ["a ratio is above 0"]),
        (["exact_match: {max_ratio: 1.02}"], ["stops a model that got better", "min_gain"]),
        (["generall: {perplexity: {max: 2}}", SETS], ["no set or source 'generall'", "'general'"]),
        (["other: {perplexity: {max: 2}}"], ["no set or source 'other'", "evaluate.sets: {other:"]),
        (["general: {perplexty: {max: 2}}", SETS], ["metric 'perplexty' does not exist", "'perplexity'"]),
        (["general: {rouge1: {min: 0.2}}", SETS], ["rouge1 is not measured"]),
        (["general: {perplexity: {maximum: 2}}", SETS], ["general.perplexity: limit 'maximum'", "'max'"]),
        (["general: 3", SETS], ["evaluate.gates.general: 3 is no mapping of metrics", "max_ratio"]),
        (["general: {}", SETS], ["is no mapping of metrics"]),
        (["benchmarks: {gsm8k: {acc: {min: 0.1}}}"], ["no benchmark is run", "evaluate.benchmarks=[gsm8k]"]),
        (
            ["benchmarks: {gsm9k: {acc: {min: 0.1}}}", "evaluate.benchmarks=[gsm8k]"],
            ["task 'gsm9k' does not exist", "'gsm8k'"],
        ),
        (
            ["benchmarks: {gsm8k: {acc: {min: 0.1, sure: true}}}", "evaluate.benchmarks=[gsm8k]"],
            ["benchmarks have no interval"],
        ),
    ],
)
def test_mistakes_are_told_with_the_way_out(words: list[str], says: list[str]) -> None:
    gate, *others = words
    said = refused(f"evaluate.gates={{{gate}}}", *others)
    assert "evaluate.gates" in said
    for text in says:
        assert text in said


def test_all_mistakes_at_once() -> None:
    said = refused("evaluate.gates={exact_match: {mim: 1, min: 2}, wrong: {min: 1, max: 2}, loss: 3}")
    assert said.count("evaluate.gates.") == 4


def test_a_recipe_is_told_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    text = "defaults:\n  - quickstart\n  - _self_\nevaluate:\n  gates:\n    exact_match: {min: 0.5}\n    loss:\n"
    (tmp_path / "recipes" / "strict.yaml").write_text(text + "      maxx: 3\n")
    (tmp_path / "recipes" / "stricter.yaml").write_text("defaults:\n  - strict\n  - _self_\nname: stricter\n")
    for recipe in ("strict", "stricter"):
        with pytest.raises(UserError) as caught:
            load(f"recipe={recipe}", "hardware=cpu")
        assert caught.value.show().startswith("recipes/strict.yaml, line 8: evaluate.gates.loss: limit 'maxx'")
    with pytest.raises(UserErrors) as several:
        load("recipe=strict", "hardware=cpu", "evaluate.gates.exact_match.min=7")
    said = several.value.show()
    assert "error: evaluate.gates.exact_match.min=7" in f"error: {said}", "that is not what the recipe says"
    assert "recipes/strict.yaml, line 8" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluate.gates={exact_match: {min: 0.6}}"], {"exact_match": {"min": 0.6}}),
        (["evaluate.gates.exact_match={min: 0.6}"], {"exact_match": {"min": 0.6}}),
        (["evaluate.gates.exact_match.min=0.6"], {"exact_match": {"min": 0.6}}),
        (
            ["evaluate.gates.exact_match.min=0.6", "evaluate.gates.loss.max=2", "~evaluate.gates.exact_match"],
            {"loss": {"min_gain": 0, "max": 2}},
        ),
        (
            [SETS, "evaluate.gates.general.perplexity.max_ratio=1.02"],
            {"general": {"perplexity": {"max_ratio": 1.02}}},
        ),
    ],
)
def test_gates_are_composed_from_the_command_line(words: list[str], expected: dict[str, Any]) -> None:
    recipes_own = {"loss": {"min_gain": 0}}
    assert load("recipe=quickstart", "hardware=cpu", *words).config.evaluate.gates == recipes_own | expected


def test_a_list_is_no_gate_and_no_set() -> None:
    assert "evaluate.gates is a mapping, such as {exact_match: {min: 0.6}}" in refused("evaluate.gates=[exact_match]")
    assert "evaluate.sets is a mapping, such as {NAME: {path: my.jsonl}}" in refused("evaluate.sets=[a]")
    assert "Config" not in refused("evaluate.sets=[a]", "evaluate.gates=loss", "data.sources=[a]")


def test_gates_of_a_recipe_are_changed_and_removed(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    text = (
        "defaults: [quickstart, _self_]\nevaluate:\n  gates:\n    exact_match: {min: 0.5}\n    perplexity: {max: 3}\n"
    )
    (tmp_path / "recipes" / "strict.yaml").write_text(text)
    words = ("recipe=strict", "hardware=cpu")
    of_quickstart = {"loss": {"min_gain": 0}}
    both = {"exact_match": {"min": 0.5}, "perplexity": {"max": 3}}
    assert load(*words).config.evaluate.gates == of_quickstart | both
    changed = load(*words, "evaluate.gates.exact_match.min=0.7", "~evaluate.gates.perplexity")
    assert changed.config.evaluate.gates == of_quickstart | {"exact_match": {"min": 0.7}}


def test_the_plan_names_gates_and_what_is_doubtful(tmp_path: Path) -> None:
    words = ("recipe=quickstart", "hardware=cpu", "tracking=none", f"output_dir={tmp_path}", SETS)
    shown = str(plan(load(*words, "evaluate.gates={exact_match: {min: 0.6, sure: true}, loss: {min: 0.5}}")))
    assert "gates: loss min_gain 0 min 0.5, exact_match min 0.6 for sure" in shown
    assert "also scored: general up to 5 rows" in shown
    assert "evaluate.gates.loss.min stops a model that is too good" in shown
    shown = str(plan(load(*words, "stage=train", "evaluate.gates.exact_match.min=0.6")))
    assert "evaluate.gates without effect: stage=train ends before" in shown
    assert "without effect" not in str(plan(load(*words, "stage=train"))), "those of the recipe are for later"
    shown = str(plan(load(*words, "evaluate.metrics=[bleu]", "evaluate.gates.bleu.min=0.6")))
    assert "bleu goes up to 100" in shown


def test_gates_are_in_no_fingerprint(tmp_path: Path) -> None:
    words = ("recipe=quickstart", "hardware=cpu", "tracking=none", f"output_dir={tmp_path}")
    without, with_gates = (
        plan(load(*words, *more)) for more in ((), ("evaluate.gates={exact_match: {min: 0.6}, loss: {max: 2}}",))
    )
    assert [step.fingerprint for step in without.steps] == [step.fingerprint for step in with_gates.steps]


def test_a_verdict_is_what_reports_read() -> None:
    (verdict,) = judged({"exact_match": {"min": 0.6}})
    assert asdict(verdict) == {
        "gate": "exact_match",
        "limit": "min",
        "wanted": 0.6,
        "found": 0.5,
        "passed": False,
        "missed_by": pytest.approx(0.1),
        "interval": (0.4, 0.6),
        "sure": False,
        "measured": (),
    }
