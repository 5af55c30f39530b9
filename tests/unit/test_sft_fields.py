"""`train.extra` knows the fields of the installed TRL without importing it."""

import json
import subprocess
import sys

import pytest

from sft_runner.config.schema import Config, flatten
from sft_runner.config.sft_fields import OWNED, check_extra, sft_fields
from sft_runner.errors import UnknownName


@pytest.mark.slow
def test_the_fields_are_those_of_the_dataclass() -> None:
    program = (
        "import dataclasses, json; from trl import SFTConfig;"
        "print(json.dumps([field.name for field in dataclasses.fields(SFTConfig)]))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert sft_fields() == set(json.loads(ended.stdout.splitlines()[-1]))


def test_every_owned_field_exists() -> None:
    assert OWNED.keys() <= sft_fields()


def test_every_owner_that_looks_like_a_key_is_one() -> None:
    keys = set(flatten(Config()))
    parts = {key.split(".")[0] for key in keys}
    for owner in OWNED.values():
        word = owner.split()[0].rstrip(",")
        if word.split(".")[0] in parts and "." in word and not word.endswith("*"):
            assert word in keys, owner


def test_nothing_is_imported() -> None:
    program = (
        "import sys; from sft_runner.config.sft_fields import sft_fields; assert len(sft_fields()) > 100;"
        "assert not {'trl', 'transformers', 'torch'} & sys.modules.keys()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_good_fields() -> None:
    assert check_extra({}) == []
    assert check_extra({"adam_beta2": 0.99, "neftune_noise_alpha": 5, "loss_type": "dft"}) == []


def test_a_misspelt_field() -> None:
    (error,) = check_extra({"adam_bata2": 0.99})
    assert isinstance(error, UnknownName)
    assert "train.extra: SFTConfig field 'adam_bata2' does not exist" in error.message
    assert error.hint == "did you mean 'adam_beta2'?"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rate", "use train.learning_rate"),
        ("per_device_train_batch_size", "use hardware.per_device_train_batch_size"),
        ("gradient_accumulation_steps", "use train.batch_size"),
        ("max_length", "use data.max_length"),
        ("output_dir", "use output_dir"),
        ("resume_from_checkpoint", "not needed: the same command resumes"),
        ("packing", "use train.packing"),
        ("padding_free", "use train.packing, whose passes have no padding with flash attention"),
        ("pad_to_multiple_of", "use train.packing, which makes passes as long as their longest row"),
        ("eval_packing", "use train.eval_steps, which looks at held-out rows with the code of the evaluate stage"),
        ("trust_remote_code", "not supported: code of a model's own is never run"),
        ("push_to_hub", "not supported: nothing is uploaded"),
        ("deepspeed", "not supported yet: one process on one device trains"),
    ],
)
def test_a_field_that_another_key_owns(name: str, hint: str) -> None:
    (error,) = check_extra({name: 1})
    assert error.message == f"train.extra.{name} cannot be set here"
    assert error.hint == hint


def test_all_mistakes_are_told() -> None:
    assert len(check_extra({"adam_bata2": 1, "packing": True, "tf32": True, "fsdp": ""})) == 3
