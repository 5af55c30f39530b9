"""A file of the configuration, parsed once: values, lines, and keys that stand twice."""

from pathlib import Path

import pytest

from sft_runner.config import composing
from sft_runner.config.composing import load
from sft_runner.config.file import ConfigFile, read
from sft_runner.errors import UserError


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _file(text: str | bytes, name: str = "recipes/r.yaml") -> ConfigFile:
    path = Path(name).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path)


def test_lines() -> None:
    file = _file(
        "# goal: x\n\ndata:\n  path: a\n  sources:\n    'größe 2': {path: b,\n      limit: 3}\n"
        "defaults:\n  - a\n  - b\n"
    )
    assert file.line(("data", "path")) == 4
    assert file.line(("data", "sources", "größe 2", "limit")) == 7
    assert file.line(("defaults", "1")) == 10
    assert file.line(("data", "gone", "further")) == 3
    assert file.line(("gone",)) == 1


@pytest.mark.parametrize("ends", ["\r\n", "\n"])
def test_line_ends_and_a_mark_at_the_beginning(ends: str) -> None:
    file = _file("\ufeff# goal: x" + ends + "lora:" + ends + "  r: 4" + ends)
    assert file.values == {"lora": {"r": 4}}
    assert file.line(("lora", "r")) == 3
    assert file.header == {"goal": "x"}


def test_anchors_and_merged_mappings() -> None:
    file = _file("a: &a\n  x: 1\n  y: 2\nb:\n  <<: *a\n  y: 3\nc: *a\n")
    assert file.values == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}
    assert file.repeated == []
    assert (file.line(("b", "y")), file.line(("b", "x")), file.line(("c", "x"))) == (6, 2, 2)


def test_a_key_that_stands_twice() -> None:
    file = _file("train:\n  seed: 1\nlora: {r: 1, r: 2}\ntrain:\n  seed: 3\nx:\n  - {a: 1,\n     a: 2}\n")
    assert file.repeated == [(("lora", "r"), 3), (("train",), 4), (("x", "0", "a"), 8)]
    assert (file.line(("train", "seed")), file.line(("train", "seed"), first=True)) == (5, 2)


def test_a_recipe_with_a_key_twice_does_not_run() -> None:
    _file("# goal: x\ntrain:\n  seed: 1\n  batch_size: 2\n  seed: 3\n")
    with pytest.raises(UserError) as error:
        load("recipe=r", "hardware=cpu")
    assert error.value.message == "recipes/r.yaml, line 5: key 'train.seed' is repeated: it stands in line 3 too"


def test_so_does_a_parent_and_a_file_of_a_group() -> None:
    _file("lora: {r: 1}\nlora: {r: 2}\n", "recipes/parent.yaml")
    _file("defaults: [parent]\n")
    _file("name: box\ntflops: 1\ntflops: 2\n", "conf/hardware/box.yaml")
    with pytest.raises(UserError) as error:
        load("recipe=r", "hardware=box")
    assert "recipes/parent.yaml, line 2: key 'lora' is repeated: it stands in line 1 too" in error.value.message
    assert "conf/hardware/box.yaml, line 3: key 'tflops' is repeated: it stands in line 2 too" in error.value.message


BROKEN = {
    "a: 1\n---\nb: 2\n": ", line 2: not valid YAML: but found another document",
    "a:\n\tb: 3\n": ", line 2: not valid YAML: found character that cannot start any token",
    "a: &a [*a]\n": ": its values are nested too deep, or hold themselves",
    "a: &a {b: {c: *a}}\n": ": its values are nested too deep, or hold themselves",
    "[" * 3000: "",
    "a: " + "[" * 3000 + "]" * 3000: ": its values are nested too deep, or hold themselves",
    "x: " + "9" * 6000: ": not valid YAML: Exceeds the limit",
    "? [a, b]\n: 3\n": ", line 1: not valid YAML: found unhashable key",
    "a: !!python/object:os.system 3\n": ", line 1: !!python/object:os.system is no value of a configuration",
    "a: 1\nname: !!timestamp 2020-01-01\n": ", line 2: !!timestamp is no value of a configuration",
    "a: !!bool maybe\n": ": not valid YAML: ",
    "a: !!int ''\n": ": not valid YAML: ",
    "a: !!set {b, c}\n": ", line 1: !!set is no value of a configuration",
    "a: !!binary aGk=\n": ", line 1: !!binary is no value of a configuration",
    "a: 1\nb: {c: '${foo'}\n": ", line 2: '${foo' is not the value of another key",
    "a: {~: 3}\n": ", line 1: the name of 'a.~' is no text",
    "- a\n": ": a recipe is a mapping of keys to values",
    "": ": a recipe is a mapping of keys to values",
    "a: \x00": ": not valid YAML:",
    b"a: \xff\n": ": not valid YAML:",
}


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: repr(text[:20]))
def test_what_cannot_be_read_is_told_in_one_error(text: str | bytes) -> None:
    file = _file(text)
    assert file.values is None
    assert file.error is not None
    assert file.error.message.startswith(f"recipes/r.yaml{BROKEN[text]}")
    assert file.error.hint
    with pytest.raises(UserError):
        load("recipe=r", "hardware=cpu")


def test_numbers_are_read_as_in_other_files() -> None:
    """A recipe and a file of `conf/` mean the same by the same words: `1e-3` is a number, a date is text."""
    file = _file("a: {b: 1e-3, c: 2020-01-01, d: '5e-3', e: on, f: 1_000}\n")
    assert file.values == {"a": {"b": 0.001, "c": "2020-01-01", "d": "5e-3", "e": True, "f": 1000}}


def test_a_text_is_what_was_written() -> None:
    """Where the schema wants text, a number is none: a commit, or a pattern."""
    file = _file(
        "model: {revision: 1234e56}\ntrain: {extra: {adam_epsilon: 1e-3}}\nevaluate:\n  pattern: 1e3\nname: 0x10\n"
    )
    assert file.values == {
        "model": {"revision": "1234e56"},
        "train": {"extra": {"adam_epsilon": 0.001}},
        "evaluate": {"pattern": "1e3"},
        "name": "0x10",
    }
    run = load("recipe=r", "hardware=cpu", "model.name=a/b", "data.path=x", "evaluate.metrics=[pattern]")
    assert (run.config.model.revision, run.config.evaluate.pattern) == ("1234e56", "1e3")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("lora:\n  target_modules: [q_proj, v_proj]\n  target_modules: all-linear\n", 3, "lora.target_modules"),
        ("lora:\n  target_modules: [q_proj, v_proj]\n  target_modules: [1e3]\n", 3, "lora.target_modules"),
        ("lora:\n  target_modules: [q_proj]\n  target_modules:\n", 3, "lora.target_modules"),
        ("model: {revision: 1e3}\nmodel: {}\n", 2, "model"),
        ("name: 1e3\nname: 2e3\n", 2, "name"),
    ],
)
def test_a_text_that_stands_twice_stops_only_its_own_recipe(text: str, line: int, key: str) -> None:
    _file(text)
    assert composing.asked(["recipe=quickstart", "hardware=cpu"])[0].model.name
    with pytest.raises(UserError, match=f"recipes/r.yaml, line {line}: key '{key}' is repeated"):
        load("recipe=r", "hardware=cpu")


def test_the_text_that_holds_is_taken() -> None:
    assert _file("name: 1e3\nname: 2e3\n").values == {"name": "2e3"}
    assert _file("model: {revision: 1e3, revision: abc}\n").values == {"model": {"revision": "abc"}}
    merged = _file("x: &x {revision: 1e3, name: 1e4}\nmodel: {<<: *x, name: 2e4}\ntrain: {extra: *x}\n")
    assert merged.values == {
        "x": {"revision": 1000.0, "name": 10000.0},
        "model": {"revision": "1e3", "name": "2e4"},
        "train": {"extra": {"revision": 1000.0, "name": 10000.0}},
    }
    lists = _file("x: &x [1e3, a]\nlora: {target_modules: *x}\n")
    assert lists.values == {"x": [1000.0, "a"], "lora": {"target_modules": ["1e3", "a"]}}


IN_CONF = {
    "conf/model/m.yaml": ("name: a/b\nrevision: 1234e56\n", 2, "model.revision=1234e56"),
    "conf/method/m.yaml": (
        "# @package _global_\nlora:\n  target_modules: [a,\n    1_0]\n",
        4,
        "lora.target_modules.1=1_0",
    ),
    "conf/local/default.yaml": ("name: 0123\n", 1, "name=0123"),
}


@pytest.mark.parametrize("name", IN_CONF)
def test_a_text_of_conf_that_hydra_reads_as_another_one_is_refused(name: str) -> None:
    text, line, said = IN_CONF[name]
    _file(text, name)
    words = [] if "local" in name else [f"{Path(name).parent.name}=m"]
    with pytest.raises(UserError) as error:
        load("hardware=cpu", *words)
    assert error.value.message.startswith(f"{name}, line {line}: {said}: it is read as the number ")
    assert error.value.hint == "write it in quotes"


def test_a_number_of_conf_that_stays_the_same_text_is_none() -> None:
    _file("name: 3060\nmemory_gb: 8.50\n", "conf/hardware/box.yaml")
    _file("name: a/b\nrevision: '1234e56'\n", "conf/model/m.yaml")
    config = load("hardware=box", "model=m").config
    assert (config.hardware.name, config.model.revision) == ("3060", "1234e56")


def test_a_choice_without_a_group_is_told() -> None:
    _file("defaults:\n  - '': a\n")
    with pytest.raises(UserError, match="recipes/r.yaml, line 2: "):
        load("recipe=r", "hardware=cpu")


def test_one_odd_recipe_stops_nobody_else() -> None:
    for number, text in enumerate(BROKEN):
        _file(text, f"recipes/odd{number}.yaml")
    assert composing.asked(["recipe=quickstart", "hardware=cpu"])[0].model.name


def test_a_mark_before_a_package_is_refused() -> None:
    """Hydra does not see `# @package` behind it."""
    file = _file("\ufeff# @package _global_\nlora: {r: 3}\n", "conf/data/x.yaml")
    assert file.error is not None
    assert file.error.message == "conf/data/x.yaml, line 1: it begins with a byte order mark"
    assert _file("\ufeff# @package _global_\nlora: {r: 3}\n").error is None


def test_a_large_file() -> None:
    file = _file("data:\n  columns:\n" + "".join(f"    c{i}: v{i}\n" for i in range(5_000)))
    assert file.line(("data", "columns", "c4999")) == 5_002


MISSPELT = {
    "evaluate:\n  gate:\n    loss: {min: 0, max: 3}\n": (2, "evaluate.gate", "evaluate.gates"),
    "data:\n  source: {a: {path: x}}\n": (2, "data.source", "data.sources"),
    "train:\n  early_stoping:\n    patience: 3\n    min_delta: 1\n": (2, "train.early_stoping", "train.early_stopping"),
    "trian: {seed: 3}\n": (1, "trian", "train"),
}


@pytest.mark.parametrize("text", MISSPELT)
def test_a_misspelt_part_is_told_once(text: str) -> None:
    line, key, meant = MISSPELT[text]
    _file(text)
    with pytest.raises(UserError) as error:
        load("recipe=r", "hardware=cpu")
    assert error.value.show() == f"recipes/r.yaml, line {line}: key '{key}' does not exist\n  did you mean '{meant}'?"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("evaluate.gate.loss.max=3", "evaluate.gates"),
        ("evaluate.gate={loss:{max:3}}", "evaluate.gates"),
        ("data.source.a.path=x", "data.sources"),
        ("train.early_stoping.patience=3", "train.early_stopping.patience"),
        ("evaluat.gates.loss.max=3", "evaluate.gates"),
        ("lroa.r=3", "lora.r"),
        ("train.extr.a=2", "train.extra"),
        ("lora.rank=3", "lora.r"),
    ],
)
def test_a_misspelt_word_is_put_right_part_by_part(word: str, meant: str) -> None:
    with pytest.raises(UserError) as error:
        load("hardware=cpu", word)
    assert error.value.hint == f"did you mean '{meant}'?"


def test_a_key_with_a_dot_is_told_how_to_write_it() -> None:
    _file("lora.r: 4\n")
    with pytest.raises(UserError) as error:
        load("recipe=r", "hardware=cpu")
    assert error.value.message == "recipes/r.yaml, line 1: key 'lora.r' is written with a dot"
    assert error.value.hint == "a part has its keys below it: lora: {r: ...}"
