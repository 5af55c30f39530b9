"""`# lint: ignore RULE` silences that rule in that line, and says so where it silences nothing."""

from pathlib import Path

import pytest

from linted import found, written

RATE = "defaults:\n  - override /model: qwen2.5-1.5b\ntrain:\n"
CASES: dict[str, tuple[str, list[tuple[int, str]]]] = {
    "at the end of the line": ("  learning_rate: 0.1   # lint: ignore learning-rate\n", []),
    "behind another comment": ("  learning_rate: 0.1   # much # lint: ignore learning-rate\n", []),
    "above the line": ("  # lint: ignore learning-rate\n  learning_rate: 0.1\n", []),
    "two rules": ("  learning_rate: 0.1   # lint: ignore no-effect, learning-rate\n", [(8, "unused-ignore")]),
    "two lines above": (
        "  # lint: ignore learning-rate\n  # lint: ignore no-effect\n  learning_rate: 0.1\n",
        [(9, "unused-ignore")],
    ),
    "with a reason": ("  learning_rate: 0.1   # lint: ignore learning-rate (no-effect: a test) - see 12\n", []),
    "above a comment and a blank line": ("  # lint: ignore learning-rate\n  # much\n\n  learning_rate: 0.1\n", []),
    "quoted in the same line": (
        "  {learning_rate: 0.1, lr_scheduler_type: 'linear # lint: ignore learning-rate'}\n",
        [(8, "contradiction")],
    ),
    "another rule": (
        "  learning_rate: 0.1   # lint: ignore no-effect\n",
        [(8, "learning-rate"), (8, "unused-ignore")],
    ),
    "another line": (
        "  batch_size: 4   # lint: ignore learning-rate\n  learning_rate: 0.1\n",
        [(8, "unused-ignore"), (9, "learning-rate")],
    ),
    "no rule": ("  batch_size: 4   # lint: ignore\n", [(8, "unused-ignore")]),
    "a rule that does not exist": ("  batch_size: 4   # lint: ignore learnin-rate\n", [(8, "unused-ignore")]),
    "a value, not a comment": (
        "  learning_rate: 0.1\ntracking: {mlflow: {experiment: 'x# lint: ignore'}}\n",
        [(8, "learning-rate")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_silenced(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, wanted = CASES[case]
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {"recipes/a.yaml": RATE + text})
    assert [(line, rule) for _, line, rule in found(tmp_path)] == wanted


def test_a_header_is_silenced_in_the_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {"recipes/a.yaml": "# lint: ignore header\n" + RATE + "  batch_size: 4\n"})
    assert not found(tmp_path)


def test_a_silenced_finding_of_a_parent_does_not_come_back_in_its_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parent = RATE + "  learning_rate: 0.1   # lint: ignore learning-rate\n"
    written(tmp_path, {"recipes/a.yaml": parent, "recipes/b.yaml": "defaults:\n  - a\n"})
    assert not found(tmp_path)
