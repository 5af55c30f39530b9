"""The tree of errors: exit codes, suggestions, and the way between processes."""

import pickle

import pytest

from sft_runner import errors
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
