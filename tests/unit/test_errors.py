"""The tree of errors: exit codes, suggestions, and the way between processes."""

import pickle
from pathlib import Path

import pytest

from sft_runner import errors, runner
from sft_runner.config.run import Run
from sft_runner.config.schema import Config
from sft_runner.errors import (
    DataError,
    MachineError,
    SftError,
    StageFailed,
    UnknownName,
    UserError,
    UserErrors,
    raise_all,
    suggestion,
)
from sft_runner.fingerprint import UNRESOLVED, Ingredients
from sft_runner.planning import Plan, Step


def test_exit_codes() -> None:
    codes = {StageFailed: 1, UserError: 2, DataError: 2, MachineError: 3}
    assert {kind: kind("x").exit_code for kind in codes} == codes
    assert UnknownName("recipe", "a", ["b"]).exit_code == 2


def test_a_close_name_is_suggested_and_otherwise_all_are_listed() -> None:
    assert suggestion("rtx306", ["cpu", "rtx3060"]) == "did you mean 'rtx3060'?"
    assert suggestion("zzz", ["cpu", "rtx3060"]) == "known: cpu, rtx3060"
    assert suggestion("zzz", []) == ""


def test_all_or_one_or_none_are_raised() -> None:
    raise_all([])
    with pytest.raises(UserError, match="one"):
        raise_all([UserError("one")])
    with pytest.raises(UserErrors, match="(?s)one.*two"):
        raise_all([UserError("one"), UserError("two")])


def test_the_hint_follows_on_its_own_line() -> None:
    assert UserError("message", "hint").show() == "message\n  hint"
    assert UserError("message").show() == "message"


@pytest.mark.parametrize(
    "error", [StageFailed("a", "b"), UnknownName("recipe", "a", ["ab"]), UserErrors([UserError("a")])]
)
def test_errors_can_be_pickled(error: SftError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.show() == error.show()


def test_the_tree_in_the_docstring_is_complete() -> None:
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, SftError)}
    assert all(name in (errors.__doc__ or "") for name in classes)


@pytest.mark.parametrize(("code", "again"), [(1, True), (2, False), (3, True)])
def test_a_stages_error_has_its_name_once_and_the_way_on_where_the_same_command_can_go_on(
    code: int, again: bool, tmp_path: Path
) -> None:
    step = Step("train", "run", "ab", "", Ingredients("train", 1, {}, {}, "", ""))
    for message in ("train: TRL does not take it", "TRL does not take it"):
        error = runner._failure(step, {"message": message, "hint": "leave it", "exit_code": code}, tmp_path)
        assert error.message == "train: TRL does not take it"
        assert error.exit_code == code
        assert ("same command" in error.hint) is again


def test_a_plan_says_what_is_not_resolved_yet() -> None:
    first = Step("prepare", "run", "ab" * 32, "", Ingredients("prepare", 1, {}, {}, UNRESOLVED, "data"))
    second = Step("train", "run", "cd" * 32, "", Ingredients("train", 1, {}, {"prepare": "ab" * 32}, "model", "data"))
    lines = Plan(Run(Config()), Path(), (first, second)).table()
    assert all(line.split()[2] == "unresolved" for line in lines)
