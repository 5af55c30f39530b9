"""Every rule of lint finds what it is for, in the line where it stands, and nothing in what is right."""

from pathlib import Path

import pytest

from linted import HEADER, found, written
from sft_runner.errors import UserError
from sft_runner.review.lint.linting import RULES, lint
from sft_runner.review.lint.screen import rules

ROOT = Path(__file__).parents[2]
TINY = "defaults:\n  - override /model: tiny\n"
TASK = "# @package _global_\nevaluate:\n  max_new_tokens: 33\n"
REAL = "defaults:\n  - override /model: qwen2.5-1.5b\n"
CASES: dict[str, tuple[dict[str, str], list[tuple[str, int, str]]]] = {
    "nothing wrong": ({"recipes/a.yaml": TINY + "lora: {r: 4}\n"}, []),
    "a name that can name no run": (
        {"recipes/Größe 1.yaml": HEADER.replace("recipe={name}", "'recipe=Größe 1'") + TINY},
        [("recipes/Größe 1.yaml", 4, "contradiction")],
    ),
    "no YAML": ({"recipes/a.yaml": "lora: {r: 4\ntrain: {}\n"}, [("recipes/a.yaml", 6, "not-yaml")]),
    "a list": ({"recipes/a.yaml": "- 1\n"}, [("recipes/a.yaml", 1, "not-yaml")]),
    "empty": (
        {"recipes/a.yaml": "# goal: none\n"},
        [("recipes/a.yaml", 1, "not-yaml"), ("recipes/a.yaml", 1, "header")],
    ),
    "a mistyped key": ({"recipes/a.yaml": "lora:\n  rr: 4\n"}, [("recipes/a.yaml", 6, "unknown-key")]),
    "a mistyped choice": (
        {"recipes/a.yaml": "defaults:\n  - override /method: qlroa\n"},
        [("recipes/a.yaml", 6, "unknown-choice")],
    ),
    "a wrong type": ({"recipes/a.yaml": "train:\n  learning_rate: fast\n"}, [("recipes/a.yaml", 6, "wrong-value")]),
    "a preset's key": ({"recipes/a.yaml": "hardware: {memory_gb: 8}\n"}, [("recipes/a.yaml", 5, "hardware-in-recipe")]),
    "a key twice": ({"recipes/a.yaml": "lora:\n  r: 4\n  r: 8\n"}, [("recipes/a.yaml", 7, "repeated-key")]),
    "values that clash": (
        {"recipes/a.yaml": TINY + "lora:\n  r: 3\n  init_lora_weights: orthogonal\n"},
        [("recipes/a.yaml", 9, "contradiction")],
    ),
    "a value beside a choice": (
        {"recipes/a.yaml": TINY + "  - override /method: full\nquantization: {bits: '8'}\n"},
        [("recipes/a.yaml", 8, "contradiction")],
    ),
    "a value that is none of its choices": (
        {"recipes/a.yaml": TINY + "quantization:\n  bits: '5'\n"},
        [("recipes/a.yaml", 8, "contradiction")],
    ),
    "a gate of what is not measured": (
        {"recipes/a.yaml": TINY + "evaluate:\n  gates:\n    chrf: {min: 20}\n"},
        [("recipes/a.yaml", 9, "contradiction")],
    ),
    "a model folder that is not there": (
        {"recipes/a.yaml": "model:\n  name: ./nowhere\n"},
        [("recipes/a.yaml", 6, "contradiction")],
    ),
    "an unknown key of a source": (
        {
            "recipes/a.yaml": HEADER.replace(" data.path=my.jsonl", "").format(name="a")
            + TINY
            + "data:\n  sources:\n    one: {path: my.jsonl, wieght: 2}\n",
            "my.jsonl": "{}\n",
        },
        [("recipes/a.yaml", 9, "contradiction")],
    ),
    "nothing held out": (
        {"recipes/a.yaml": TINY + "data:\n  held_out: 0\n"},
        [("recipes/a.yaml", 8, "contradiction")],
    ),
    "a parent that clashes": (
        {
            "recipes/a.yaml": TINY + "lora:\n  r: 3\n  init_lora_weights: orthogonal\n",
            "recipes/b.yaml": "defaults:\n  - a\ntrain: {batch_size: 4}\n",
        },
        [("recipes/a.yaml", 9, "contradiction")],
    ),
    "a child that clashes with its parent": (
        {
            "recipes/a.yaml": TINY + "lora: {init_lora_weights: orthogonal}\n",
            "recipes/b.yaml": "defaults:\n  - a\n  - _self_\nlora:\n  r: 3\n",
        },
        [("recipes/b.yaml", 9, "contradiction")],
    ),
    "a choice that clashes with itself": (
        {"conf/method/a.yaml": "# @package _global_\nlora:\n  r: 3\n  init_lora_weights: orthogonal\n"},
        [("conf/method/a.yaml", 4, "contradiction")],
    ),
    "a choice for another model": (
        {"conf/method/a.yaml": "# @package _global_\nlora: {target_modules: [Wqkv]}\n"},
        [],
    ),
    "a choice of no part": ({"conf/method/a.yaml": "adapter: lora\n"}, [("conf/method/a.yaml", 1, "package-header")]),
    "a command of another recipe": (
        {"recipes/a.yaml": HEADER.format(name="b") + TINY},
        [("recipes/a.yaml", 4, "command")],
    ),
    "a command that does not parse": (
        {"recipes/a.yaml": HEADER.format(name="'a") + TINY},
        [("recipes/a.yaml", 4, "command")],
    ),
    "a command with a mistyped key": (
        {"recipes/a.yaml": HEADER.format(name="a lora.rr=4") + TINY},
        [("recipes/a.yaml", 4, "command")],
    ),
    "a command with a mistyped preset": (
        {"recipes/a.yaml": HEADER.replace("=cpu", "=rtx306").format(name="a") + TINY},
        [("recipes/a.yaml", 4, "command")],
    ),
    "a command without data": (
        {"recipes/a.yaml": HEADER.replace(" data.path=my.jsonl", "").format(name="a") + TINY},
        [("recipes/a.yaml", 4, "command")],
    ),
    "a command on a card that is too small": (
        {
            "recipes/a.yaml": HEADER.replace("cpu", "rtx3060").format(name="a")
            + "defaults:\n  - override /model: qwen2.5-7b\n  - override /method: full\n"
        },
        [("recipes/a.yaml", 4, "command")],
    ),
    "a command that sweeps": (
        {"recipes/a.yaml": HEADER.replace("runner ", "runner -m ").format(name="a lora.r=4,8") + TINY},
        [],
    ),
    "a learning rate": (
        {"recipes/a.yaml": REAL + "train:\n  learning_rate: 0.1\n"},
        [("recipes/a.yaml", 8, "learning-rate")],
    ),
    "the same learning rate with another method": (
        {"recipes/a.yaml": REAL + "  - override /method: full\ntrain:\n  learning_rate: 2e-4\n"},
        [("recipes/a.yaml", 9, "learning-rate")],
    ),
    "a learning rate of a choice": (
        {"conf/method/a.yaml": "# @package _global_\ntrain: {learning_rate: 0.1}\n"},
        [("conf/method/a.yaml", 2, "learning-rate")],
    ),
    "an adapter that is not made": (
        {"recipes/a.yaml": TINY + "  - override /method: full\nlora:\n  r: 8\n"},
        [("recipes/a.yaml", 9, "no-effect")],
    ),
    "answers that nobody scores": (
        {"recipes/a.yaml": TINY + "evaluate:\n  metrics: []\n  max_new_tokens: 9\n"},
        [("recipes/a.yaml", 9, "no-effect")],
    ),
    "an export that is not made": (
        {"recipes/a.yaml": TINY + "gguf: {type: f16}\n"},
        [("recipes/a.yaml", 7, "no-effect")],
    ),
    "vLLM's key of another server": (
        {"recipes/a.yaml": TINY + "serve:\n  tensor_parallel_size: 2\nevaluate: {engine: transformers}\n"},
        [("recipes/a.yaml", 8, "no-effect")],
    ),
    "a gate that stops the good": (
        {"recipes/a.yaml": TINY + "evaluate:\n  gates:\n    loss: {min: 0.5}\n"},
        [("recipes/a.yaml", 9, "doubtful")],
    ),
    "a value that the command beats": (
        {"recipes/a.yaml": HEADER.format(name="a lora.r=8") + TINY + "lora:\n  r: 4\n"},
        [("recipes/a.yaml", 8, "overruled")],
    ),
    "a choice that the command beats": (
        {"recipes/a.yaml": HEADER.format(name="a model=qwen2.5-0.5b") + TINY},
        [("recipes/a.yaml", 6, "overruled")],
    ),
    "a value that a parent beats": (
        {
            "recipes/a.yaml": TINY + "lora: {r: 4}\n",
            "recipes/b.yaml": "defaults:\n  - _self_\n  - a\nlora:\n  r: 8\n",
        },
        [("recipes/b.yaml", 9, "overruled")],
    ),
    "a child that beats its parent": (
        {"recipes/a.yaml": TINY + "lora: {r: 4}\n", "recipes/b.yaml": "defaults:\n  - a\n  - _self_\nlora:\n  r: 8\n"},
        [],
    ),
    "this machine's own settings": (
        {
            "recipes/a.yaml": TINY + "train: {batch_size: 4}\n",
            "conf/local/default.yaml": "train: {batch_size: 2}\noutput_dir: /scratch\n",
        },
        [],
    ),
    "no header": ({"recipes/a.yaml": "# mine\n" + TINY}, [("recipes/a.yaml", 1, "header")]),
    "half a header": (
        {
            "recipes/a.yaml": "".join(line for line in HEADER.format(name="a").splitlines(True) if "result" not in line)
            + TINY
        },
        [("recipes/a.yaml", 1, "header")],
    ),
    "a command of any machine": (
        {"recipes/a.yaml": HEADER.replace(" hardware=cpu", "").format(name="a") + TINY},
        [("recipes/a.yaml", 4, "no-preset")],
    ),
    "data that is not there": (
        {
            "recipes/a.yaml": HEADER.replace(" data.path=my.jsonl", "").format(name="a")
            + TINY
            + "data:\n  path: no.jsonl\n"
        },
        [("recipes/a.yaml", 8, "missing-path")],
    ),
    "rows to score that are not there": (
        {"recipes/a.yaml": TINY + "evaluate:\n  sets:\n    general:\n      path: no.jsonl\n"},
        [("recipes/a.yaml", 10, "missing-path")],
    ),
    "a template that is not there": (
        {"recipes/a.yaml": TINY + "data:\n  template: no.jinja\n"},
        [("recipes/a.yaml", 8, "missing-path")],
    ),
    "data of a choice that is not there": (
        {"conf/data/a.yaml": "path: no.jsonl\n"},
        [("conf/data/a.yaml", 1, "missing-path")],
    ),
    "data at an address that may move": (
        {"conf/data/a.yaml": "path: hf://datasets/some/rows\n"},
        [("conf/data/a.yaml", 1, "missing-path")],
    ),
    "data of a commit that is not fetched": ({"conf/data/a.yaml": f"path: hf://datasets/some/rows@{'a' * 40}\n"}, []),
    "a path of one machine": (
        {"recipes/a.yaml": TINY + "tracking: {tensorboard: {enabled: true, dir: ~/boards}}\n"},
        [("recipes/a.yaml", 7, "absolute-path")],
    ),
    "a tag of a model": (
        {"conf/model/a.yaml": "name: some/model\nrevision: main\n"},
        [("conf/model/a.yaml", 2, "unpinned")],
    ),
    "a commit of a model": ({"conf/model/a.yaml": f"name: some/model\nrevision: {'a' * 40}\n"}, []),
    "another suffix": ({"recipes/a.yml": "lora: {r: 4}\n"}, [("recipes/a.yml", 1, "unread-file")]),
    "a folder below": ({"recipes/old/a.yaml": "lora: {r: 4}\n"}, [("recipes/old/a.yaml", 1, "unread-file")]),
    "a group that is none": ({"conf/hardwar/a.yaml": "memory_gb: 8\n"}, [("conf/hardwar/a.yaml", 1, "unread-file")]),
    "a file beside the groups": ({"conf/a.yaml": "lora: {r: 4}\n"}, [("conf/a.yaml", 1, "unread-file")]),
    "a shipped name": (
        {"conf/method/qlora.yaml": "# @package _global_\nquantization: {bits: '4'}\n"},
        [("conf/method/qlora.yaml", 1, "hides-shipped")],
    ),
    "a lock of nothing": ({"recipes/quikstart.lock": "version: 1\n"}, [("recipes/quikstart.lock", 1, "orphan")]),
    "a record of nothing": ({"recipes/a.results.md": "# a\n"}, [("recipes/a.results.md", 1, "orphan")]),
    "a preset without memory": ({"conf/hardware/a.yaml": "name: a\n"}, [("conf/hardware/a.yaml", 1, "preset")]),
    "a preset of another name": (
        {"conf/hardware/a.yaml": "memory_gb: 8\nname: b\n"},
        [("conf/hardware/a.yaml", 2, "preset")],
    ),
    "a lock with a merge conflict": (
        {"recipes/a.yaml": TINY, "recipes/a.lock": "version: 1\n<<<<<<< ours\npresets: {}\n"},
        [("recipes/a.lock", 2, "broken-lock")],
    ),
    "a lock from a newer version": (
        {"recipes/a.yaml": TINY, "recipes/a.lock": "version: 99\npresets: {}\n"},
        [("recipes/a.lock", 1, "broken-lock")],
    ),
    "a record with a merge conflict": (
        {"recipes/a.yaml": TINY, "recipes/a.results.md": "# a\n\n<<<<<<< ours\n"},
        [("recipes/a.results.md", 3, "stale-record")],
    ),
    "a choice without override": (
        {"recipes/a.yaml": "defaults:\n  - /model: tiny\n"},
        [("recipes/a.yaml", 6, "defaults")],
    ),
    "a choice with a mistyped mark": (
        {"recipes/a.yaml": "defaults:\n  - overide /model: tiny\n"},
        [("recipes/a.yaml", 6, "defaults")],
    ),
    "an override without a slash": (
        {"conf/method/a.yaml": "# @package _global_\ndefaults:\n  - override model: tiny\n"},
        [("conf/method/a.yaml", 3, "defaults")],
    ),
    "two choices in one group": (
        {"recipes/a.yaml": TINY + "  - override /data: qa\n  - override /data: alpaca\n"},
        [("recipes/a.yaml", 8, "defaults")],
    ),
    "a group of one's own": (
        {
            "recipes/a.yaml": "defaults:\n  - /tasks: a\n  - override /model: tiny\n",
            "recipes/b.yaml": "defaults:\n  - a\n  - override /tasks: b\n",
            "conf/tasks/a.yaml": TASK,
            "conf/tasks/b.yaml": TASK,
        },
        [],
    ),
    "a group of one's own that a parent chooses in": (
        {
            "recipes/a.yaml": "defaults:\n  - /tasks: a\n  - override /model: tiny\n",
            "recipes/b.yaml": "defaults:\n  - a\n  - /tasks: a\n",
            "conf/tasks/a.yaml": TASK,
        },
        [("recipes/b.yaml", 7, "defaults")],
    ),
    "a group of one's own twice": (
        {"recipes/a.yaml": "defaults:\n  - /tasks: a\n  - /tasks: a\n", "conf/tasks/a.yaml": TASK},
        [("recipes/a.yaml", 7, "defaults")],
    ),
    "a group of one's own without a slash": (
        {
            "recipes/a.yaml": "defaults:\n  - tasks: a\n",
            "recipes/b.yaml": "defaults:\n  - /tasks: a\n  - override /model: tiny\n",
            "conf/tasks/a.yaml": TASK,
        },
        [("recipes/a.yaml", 6, "defaults")],
    ),
    "a commit that is a number": (
        {"conf/model/a.yaml": "name: some/model\nrevision: 1234e56\n"},
        [("conf/model/a.yaml", 2, "wrong-value")],
    ),
    "a parent that is not there": (
        {"conf/method/a.yaml": "# @package _global_\ndefaults:\n  - loar\nlora: {r: 3}\n"},
        [("conf/method/a.yaml", 3, "unknown-choice")],
    ),
    "a parent below an override": (
        {"recipes/a.yaml": TINY, "recipes/b.yaml": TINY + "  - a\n"},
        [("recipes/b.yaml", 7, "defaults")],
    ),
    "a choice filled in from nowhere": (
        {"conf/method/a.yaml": "# @package _global_\ntrain:\n  seed: ${data.sed}\n"},
        [("conf/method/a.yaml", 3, "contradiction")],
    ),
    "a variable that is not set": (
        {"recipes/a.yaml": TINY + "data:\n  template: ${oc.env:NO_SUCH_THING}\n"},
        [("recipes/a.yaml", 8, "unset-variable")],
    ),
    "a byte order mark in conf/sft.yaml": (
        {"conf/sft.yaml": "\ufeff# @package _global_\n" + (ROOT / "conf/sft.yaml").read_text(), "recipes/a.yaml": TINY},
        [("conf/sft.yaml", 1, "package-header"), ("conf/sft.yaml", 1, "hides-shipped")],
    ),
    "a key of conf/sft.yaml": (
        {"conf/sft.yaml": "trian: {}\n" + (ROOT / "conf/sft.yaml").read_text(), "recipes/a.yaml": TINY},
        [("conf/sft.yaml", 1, "unknown-key"), ("conf/sft.yaml", 1, "hides-shipped")],
    ),
    "a model's shape": (
        {
            "conf/model/a.yaml": "name: x/y\narchitecture: {hidden_siz: 4}\n",
            "recipes/a.yaml": "defaults:\n  - override /model: a\n",
        },
        [("conf/model/a.yaml", 2, "contradiction")] * 2,
    ),
    "a model without a name": (
        {"conf/model/a.yaml": "revision: null\n"},
        [("conf/model/a.yaml", 1, "contradiction")],
    ),
    "a model of a folder that is not there": (
        {"conf/model/a.yaml": "name: ./models/x\n"},
        [("conf/model/a.yaml", 1, "contradiction")],
    ),
    "a setting of a choice without effect": (
        {"conf/data/a.yaml": "format: qa\ndocuments:\n  wordings: 3\n"},
        [("conf/data/a.yaml", 3, "no-effect")],
    ),
    "this machine's own rank": (
        {
            "recipes/a.yaml": TINY + "lora: {init_lora_weights: orthogonal}\n",
            "conf/local/default.yaml": "lora: {r: 3}\n",
        },
        [],
    ),
    "the second job of a sweep": (
        {"recipes/a.yaml": HEADER.replace("runner ", "runner -m ").format(name="a train.batch_size=4,0") + TINY},
        [("recipes/a.yaml", 4, "command")],
    ),
    "two commands": (
        {"recipes/a.yaml": HEADER.format(name="a") + "# command:  python -m sft_runner recipe=a lora.r=4\n" + TINY},
        [("recipes/a.yaml", 5, "header")],
    ),
    "a command in two lines": (
        {"recipes/a.yaml": HEADER.replace(" data.path", " \\\n#   data.path").format(name="a") + TINY},
        [],
    ),
    "a command of another program": (
        {"recipes/a.yaml": HEADER.replace("-m sft_runner", "train.py").format(name="a") + TINY},
        [("recipes/a.yaml", 4, "command")],
    ),
    "what is said for one run": (
        {"recipes/a.yaml": TINY + "dry_run: true\nforce: [evaluate]\n"},
        [("recipes/a.yaml", 7, "of-one-run"), ("recipes/a.yaml", 8, "of-one-run")],
    ),
    "a value that somebody must give": (
        {"recipes/a.yaml": TINY + "train:\n  seed: ???\n"},
        [("recipes/a.yaml", 8, "missing-value")],
    ),
    "a column of another format": (
        {"recipes/a.yaml": TINY + "  - override /data: qa\ndata:\n  columns: {prompt: q}\n"},
        [("recipes/a.yaml", 9, "unknown-column")],
    ),
    "a column of another format in one source": (
        {
            "recipes/a.yaml": HEADER.replace(" data.path=my.jsonl", "").format(name="a")
            + TINY
            + "data:\n  sources:\n    x: {path: x.jsonl, format: text, columns: {text: t}}\n"
            + "    y:\n      path: x.jsonl\n      format: qa\n      columns:\n        text: t\n",
            "x.jsonl": "{}\n",
        },
        [("recipes/a.yaml", 14, "unknown-column")],
    ),
    "a share of more than all": (
        {"recipes/a.yaml": TINY + "data:\n  held_out: 1.5\n"},
        [("recipes/a.yaml", 8, "contradiction")],
    ),
    "a share of more than all, of one source": (
        {
            "recipes/a.yaml": HEADER.replace(" data.path=my.jsonl", "").format(name="a")
            + TINY
            + "data:\n  sources:\n    x:\n      path: x.jsonl\n      held_out: 1.5\n",
            "x.jsonl": "{}\n",
        },
        [("recipes/a.yaml", 11, "contradiction")],
    ),
    "a column that is no Jinja": (
        {"recipes/a.yaml": TINY + "data:\n  columns:\n    question: '{{ foo('\n    answer: b\n"},
        [("recipes/a.yaml", 9, "contradiction")],
    ),
    "a column that is no Jinja, of one set": (
        {
            "recipes/a.yaml": TINY
            + "evaluate:\n  sets:\n    x:\n      path: x.jsonl\n      columns: {question: '{% if %}', answer: b}\n",
            "x.jsonl": "{}\n",
        },
        [("recipes/a.yaml", 11, "contradiction")],
    ),
    "steps beside epochs": (
        {"recipes/a.yaml": TINY + "train:\n  max_steps: 10\n  num_train_epochs: 3\n  warmup_steps: 99\n"},
        [("recipes/a.yaml", 9, "improbable"), ("recipes/a.yaml", 10, "improbable")],
    ),
    "a folder called as a recipe": (
        {"recipes/a.yaml/x.txt": ""},
        [("recipes/a.yaml", 1, "not-yaml"), ("recipes/a.yaml", 1, "header")],
    ),
    "a token": (
        {"recipes/a.yaml": TINY + "# hf_abcdefghijklmnopqrstuvwxyzABCDEFGH\n"},
        [("recipes/a.yaml", 7, "secret")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_found_where_it_stands(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, wanted = CASES[case]
    monkeypatch.chdir(tmp_path)
    written(tmp_path, files)
    assert found(tmp_path) == wanted


def test_every_rule_has_a_case_and_a_help() -> None:
    shown = {rule for _, wanted in CASES.values() for _, _, rule in wanted} | {"unused-ignore"}
    assert shown == set(RULES)
    assert all(rule.help.endswith(".") for rule in RULES.values())
    assert len(list(rules())) == len(RULES)


def test_a_row_of_a_record_that_the_recipe_no_longer_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sft_runner.review.record.table import COLUMNS

    monkeypatch.chdir(tmp_path)
    cells = {"words": "`hardware=cpu`", "fingerprint": "`0123456789ab`"}
    table = [COLUMNS, ["---"] * len(COLUMNS), [cells.get(column, "x") for column in COLUMNS]]
    record = "".join(f"| {' | '.join(row)} |\n" for row in table)
    recipe = HEADER.replace(" data.path=my.jsonl", "").format(name="a") + TINY + "  - override /data: dates\n"
    written(tmp_path, {"recipes/a.yaml": recipe, "recipes/a.results.md": record})
    assert found(tmp_path) == [("recipes/a.results.md", 3, "stale-record")]


def test_a_file_that_changed_brings_the_recipes_that_are_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    method = "# @package _global_\nlora: {init_lora_weights: orthogonal}\n"
    recipe = "defaults:\n  - override /model: tiny\n  - override /method: ours\nlora: {r: 3}\n"
    files = {"conf/method/ours.yaml": method, "recipes/a.yaml": recipe, "recipes/other.yaml": TINY}
    files["recipes/child.yaml"] = "defaults:\n  - a\n"
    files["recipes/broken.yaml"] = "lora: {rr: 4}\n"
    written(tmp_path, files)
    report = lint([Path("conf/method/ours.yaml")])
    assert report.files == 3  # itself, a and its child
    assert [(one.path.name, one.rule) for one in report.findings] == [("a.yaml", "contradiction")]
    assert lint([Path("recipes/other.yaml")]).files == 1
    assert lint([Path("recipes/a.yaml")]).files == 2


def test_a_command_that_is_half_written_is_no_matter_of_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is made of is then known without its command."""
    monkeypatch.chdir(tmp_path)
    files = {"recipes/base.yaml": TINY + "lora: {r: 4}\n", "recipes/other.yaml": TINY + "lora: {r: 4}\n"}
    for name, words in {"one": "train.learning_rate=1e-4,[", "two": "hardware="}.items():
        header = HEADER.replace("hardware=cpu data.path=my.jsonl", words)
        files[f"recipes/{name}.yaml"] = f"{header.format(name=name)}defaults:\n  - base\n"
    written(tmp_path, files)
    assert lint([Path("recipes/other.yaml")]).files == 1
    assert lint([Path("recipes/base.yaml")]).files == 3


def test_a_file_of_another_project_is_looked_at_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "part", {"recipes/a.yaml": "defaults:\n  - b\n", "recipes/b.yaml": TINY + "lora: {rr: 4}\n"})
    (finding,) = lint([Path("part/recipes/b.yaml")]).findings
    assert (finding.path, finding.line, finding.rule) == (tmp_path / "part/recipes/b.yaml", 7, "unknown-key")
    assert Path.cwd() == tmp_path


def test_a_file_that_is_nothing_of_ours_is_left_out_and_one_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {"README.md": "# A\n", "recipes/notes.txt": "x\n"})
    report = lint([Path("README.md"), Path("recipes/notes.txt")])
    assert [path.name for path in report.skipped] == ["README.md", "notes.txt"]
    assert not report.files
    written(tmp_path, {".venv/recipes/a.yaml": "lora: {rr: 4}\n", "recipes/b.yaml": TINY})
    whole = lint([Path(".")])
    assert (whole.files, whole.skipped, whole.findings) == (1, (), ())
    with pytest.raises(UserError, match=r"none\.yaml"):
        lint([Path("recipes/none.yaml")])


def test_folders_and_files_that_are_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {"shared/a.yaml": "lora: {rr: 4}\n"})
    (tmp_path / "recipes").symlink_to("shared")
    (tmp_path / "recipes/gone.yaml").symlink_to("nowhere")
    for asked in ("recipes", "recipes/a.yaml"):
        assert "unknown-key" in {one.rule for one in lint([Path(asked)]).findings}
    whole = lint()
    assert whole.own == 2
    assert {("a.yaml", "unknown-key"), ("gone.yaml", "not-yaml")} <= {
        (one.path.name, one.rule) for one in whole.findings
    }


def test_a_preset_that_hides_a_shipped_one_is_told_what_it_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {"conf/hardware/rtx3060.yaml": "name: rtx3060\nmemory_gb: 1\n"})
    errors = [one for one in lint().findings if one.severity == "error"]
    assert {one.path for one in errors} == {tmp_path / "conf/hardware/rtx3060.yaml"}
    assert any("shipped recipe=code" in one.message for one in errors)
