"""Planted changes in real git repositories: what `sft-runner diff` shows of each, and that it shows nothing else."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sft_runner.commands.diff import main
from sft_runner.errors import UserError
from sft_runner.model.files import EMBEDDED
from sft_runner.review.diff.changes import Change, Difference, Value
from sft_runner.review.diff.git import Repository
from sft_runner.review.diff.markdown import markdown
from sft_runner.review.diff.sides import sides
from sft_runner.review.diff.values import clean, pair
from sft_runner.review.diff.values import text as told

ALL = {"prepare", "baseline", "train", "merge", "evaluate", "serve"}
TRAINED = {"train", "merge", "evaluate", "serve"}
ROWS = '{"question": "a", "answer": "b"}\n{"question": "c", "answer": "d"}\n'
FILES = {
    "recipes/parent.yaml": """\
# command: sft-runner recipe=parent hardware=card
defaults:
  - override /model: tiny
  - override /data: qa
  - override /method: ours
data:
  path: data/rows
train:
  num_train_epochs: 2
  batch_size: 16
""",
    "recipes/child.yaml": "defaults:\n  - parent\ntrain:\n  batch_size: 4\n",
    "recipes/dates.yaml": """\
defaults:
  - override /model: tiny
  - override /data: dates
  - override /method: ours
train: {batch_size: 8, save_steps: 100}
evaluate:
  limit: ${train.batch_size}
  gates:
    loss: {min_gain: 0}
""",
    "recipes/styled.yaml": """\
defaults:
  - override /model: tiny
  - override /data: dates
data:
  template: templates/chat.jinja
""",
    "recipes/local.yaml": "defaults:\n  - override /data: dates\nmodel:\n  name: models/small\n",
    "recipes/scored.yaml": """\
defaults:
  - override /model: tiny
  - override /data: dates
evaluate:
  sets:
    exam: {path: data/exam.jsonl}
""",
    "recipes/pinned.yaml": "defaults:\n  - override /model: pinned\n  - override /data: dates\n",
    "recipes/größer 2.yaml": "defaults: [override /model: tiny, override /data: dates]\nname: larger\nlora: {r: 4}\n",
    "conf/method/ours.yaml": "# @package _global_\nadapter: lora\ntrain: {learning_rate: 5e-3}\n",
    "conf/hardware/card.yaml": """\
name: card
memory_gb: 12.9
per_device_train_batch_size: 16
quantization_bits: none
dtype: bfloat16
optim: adamw_torch
""",
    "conf/model/pinned.yaml": f"name: nobody/nothing\nrevision: {'a' * 40}\n",
    "conf/data/unused.yaml": "format: qa\nlimit: 5\n",
    "conf/local/default.yaml": "train: {seed: 1}\n",
    "data/rows/a.jsonl": ROWS,
    "data/rows/more/b.jsonl": ROWS,
    "data/exam.jsonl": ROWS,
    "templates/chat.jinja": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    ".gitignore": "outputs/\ndata/rows/more/ignored.jsonl\n",
}


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    ).stdout


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "a change")
    return git(folder, "rev-parse", "HEAD").strip()


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with everything in it, committed once."""
    folder = tmp_path_factory.mktemp("committed")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "data/rows/more/ignored.jsonl").write_text(ROWS)
    (folder / "models/small").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(EMBEDDED / "tiny" / name, folder / "models/small" / name)
    (folder / "models/small/model.safetensors").write_bytes(b"weights")
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


@pytest.fixture
def project(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(committed, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


@dataclass
class Shown:
    """What a recipe is to be shown with."""

    keys: set[str] = field(default_factory=set)
    stages: set[str] = field(default_factory=set)
    kind: str = "changed"
    plan: set[str] | None = None
    """Figures that differ; None where the test does not say."""


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return edit


def written(name: str, text: str | None) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(text)

    return edit


def both(*edits: Callable[[Path], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        for one in edits:
            one(folder)

    return edit


RATE = Shown({"train.learning_rate"}, TRAINED, plan=set())
BATCH = {"train.batch_size"}
MOVED = both(
    replaced("recipes/parent.yaml", "  num_train_epochs: 2\n", ""),
    replaced("conf/method/ours.yaml", "learning_rate: 5e-3", "learning_rate: 5e-3, num_train_epochs: 2"),
)
PLANTED: dict[str, tuple[Callable[[Path], None], dict[str, Shown]]] = {
    "a group value that three recipes use": (
        replaced("conf/method/ours.yaml", "5e-3", "1e-3"),
        {"parent": RATE, "child": RATE, "dates": RATE},
    ),
    "a data byte": (
        replaced("data/rows/a.jsonl", '"b"', '"B"'),
        {"parent": Shown(stages=ALL, plan=set()), "child": Shown(stages=ALL, plan=set())},
    ),
    "a data file in a folder below": (
        written("data/rows/more/b.jsonl", ROWS * 20),
        {"parent": Shown(stages=ALL, plan={"rows", "steps"}), "child": Shown(stages=ALL)},
    ),
    "a data file that is gone": (
        written("data/rows/more/b.jsonl", None),
        {"parent": Shown(stages=ALL), "child": Shown(stages=ALL)},
    ),
    "all of the data is gone": (
        both(
            written("data/rows/a.jsonl", None),
            written("data/rows/more/b.jsonl", None),
            written("data/rows/more/ignored.jsonl", None),
        ),
        {"parent": Shown(stages=ALL, kind="broken"), "child": Shown(stages=ALL, kind="broken")},
    ),
    "a template's byte": (
        replaced("templates/chat.jinja", ": ", " - "),
        {"styled": Shown(stages=ALL, plan=set())},
    ),
    "a byte of a model's weights": (
        written("models/small/model.safetensors", "other"),
        {"local": Shown(stages={"baseline"} | TRAINED, plan=set())},
    ),
    "a byte of a model's tokenizer": (
        replaced("models/small/tokenizer_config.json", "{", "{ "),
        {"local": Shown(stages=ALL, plan=set())},
    ),
    "the source of an interpolation": (
        replaced("recipes/dates.yaml", "batch_size: 8", "batch_size: 4"),
        {"dates": Shown({"train.batch_size", "evaluate.limit"}, ALL - {"prepare"})},
    ),
    "a parent": (
        replaced("recipes/parent.yaml", "epochs: 2", "epochs: 3"),
        {name: Shown({"train.num_train_epochs"}, TRAINED) for name in ("parent", "child")},
    ),
    "one value of a parent is said again by its child": (
        replaced("recipes/parent.yaml", "batch_size: 16", "batch_size: 32"),
        {"parent": Shown(BATCH, TRAINED)},
    ),
    "a gate": (
        replaced("recipes/dates.yaml", "min_gain: 0", "min_gain: 0.5"),
        {"dates": Shown({"evaluate.gates.loss.min_gain"}, plan=set())},
    ),
    "save_steps": (replaced("recipes/dates.yaml", "100", "50"), {"dates": Shown({"train.save_steps"}, plan=set())}),
    "the bytes of a set": (
        replaced("data/exam.jsonl", '"b"', '"B"'),
        {"scored": Shown(stages={"baseline", "evaluate"}, plan=set())},
    ),
    "a pinned revision": (
        replaced("conf/model/pinned.yaml", "a" * 40, "b" * 40),
        {"pinned": Shown({"model.revision"}, ALL, plan=set())},
    ),
    "a hardware value of fit": (
        replaced("conf/hardware/card.yaml", "batch_size: 16", "batch_size: 2"),
        {
            "parent": Shown({"hardware.per_device_train_batch_size"}, plan={"memory while training", "micro-batch"}),
            "local hardware=card": Shown({"hardware.per_device_train_batch_size"}),
        },
    ),
    "an approximation": (
        replaced("conf/hardware/card.yaml", "dtype: bfloat16", "dtype: float32"),
        {
            "parent": Shown({"hardware.dtype"}, ALL - {"prepare"}),
            "local hardware=card": Shown({"hardware.dtype"}, ALL - {"prepare"}),
        },
    ),
    "the rank, and the scale that is filled in from it": (
        replaced("recipes/größer 2.yaml", "r: 4", "r: 16"),
        {"größer 2": Shown({"lora.r", "lora.lora_alpha"}, TRAINED)},
    ),
    "the command in a header": (
        replaced("recipes/parent.yaml", "hardware=card", "hardware=card train.seed=5"),
        {"parent": Shown({"train.seed"}, TRAINED)},
    ),
    "a recipe that is not added yet": (
        written("recipes/fresh.yaml", "defaults:\n  - parent\nlora:\n  r: 2\n"),
        {"fresh": Shown({"lora.r"}, ALL, kind="added")},
    ),
    "a recipe that is gone": (written("recipes/styled.yaml", None), {"styled": Shown(kind="removed")}),
    "no YAML any more": (
        written("recipes/styled.yaml", "data: [\n"),
        {"styled": Shown(kind="broken")},
    ),
    "a merge in progress": (
        replaced("recipes/dates.yaml", "train:", "<<<<<<< HEAD\ntrain:"),
        {"dates": Shown(kind="broken")},
    ),
    "a key that does not exist": (
        replaced("recipes/child.yaml", "batch_size", "batchsize"),
        {"child": Shown(kind="broken")},
    ),
    "a choice that is gone": (
        written("conf/model/pinned.yaml", None),
        {"pinned": Shown(kind="broken")},
    ),
    "a value that is typed otherwise": (replaced("conf/method/ours.yaml", "5e-3", '"0.005"'), {}),
    "white space": (replaced("recipes/child.yaml", "train:\n  batch", "\n\ntrain:\n\n     batch"), {}),
    "line ends": (replaced("recipes/child.yaml", "\n", "\r\n"), {}),
    "a comment": (replaced("conf/hardware/card.yaml", "12.9", "12.9   # all that there is"), {}),
    "key order": (
        replaced("recipes/dates.yaml", "batch_size: 8, save_steps: 100", "save_steps: 100, batch_size: 8"),
        {},
    ),
    "a key that moves into the group": (MOVED, {"dates": Shown({"train.num_train_epochs"}, TRAINED)}),
    "a key that moves from recipe to parent": (
        both(
            written("recipes/child.yaml", "defaults:\n  - middle\n"),
            written("recipes/middle.yaml", "defaults:\n  - parent\ntrain:\n  batch_size: 4\n"),
        ),
        {"middle": Shown({"train.batch_size"}, ALL, kind="added")},
    ),
    "another name for a recipe": (
        both(written("recipes/styled.yaml", None), written("recipes/renamed.yaml", FILES["recipes/styled.yaml"])),
        {},
    ),
    "a group file that nobody uses": (replaced("conf/data/unused.yaml", "5", "6"), {}),
    "this machine's own settings": (replaced("conf/local/default.yaml", "1", "2"), {}),
    "a file that is no part of it": (written("README.md", "# hello\n"), {}),
    "the right to run a file": (lambda folder: os.chmod(folder / "data/rows/a.jsonl", 0o755), {}),
}


def diff(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main([*words, "--json"])
    captured = capsys.readouterr()
    assert "sft-runner-diff-" not in captured.out + captured.err
    return code, json.loads(captured.out)


ONLY = ("--recipe", "parent", "--recipe", "local")
TOGETHER: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (
        (),
        (
            "a data byte",
            "a template's byte",
            "a byte of a model's weights",
            "the bytes of a set",
            "a pinned revision",
            "a gate",
            "the rank, and the scale that is filled in from it",
        ),
    ),
    (
        (),
        (
            "the source of an interpolation",
            "a byte of a model's tokenizer",
            "a data file in a folder below",
            "no YAML any more",
            "a recipe that is not added yet",
        ),
    ),
    ((), ("a parent", "save_steps", "a recipe that is gone", "a choice that is gone")),
    ((), ("all of the data is gone", "a merge in progress")),
    ((), ("a group value that three recipes use",)),
    ((), ("a data file that is gone",)),
    ((), ("the command in a header", "a key that does not exist")),
    ((), ("one value of a parent is said again by its child", "another name for a recipe")),
    ((), ("a key that moves into the group",)),
    ((), ("a key that moves from recipe to parent",)),
    (ONLY, ("a hardware value of fit",)),
    (ONLY, ("an approximation",)),
    (
        (),
        (
            "a value that is typed otherwise",
            "white space",
            "line ends",
            "a comment",
            "key order",
            "a group file that nobody uses",
            "this machine's own settings",
            "a file that is no part of it",
            "the right to run a file",
        ),
    ),
]
"""Changes that touch different recipes, or none, with words of the command: each pair of sides costs half a second."""


def test_every_change_is_tried() -> None:
    assert sorted(name for _, names in TOGETHER for name in names) == sorted(PLANTED)


@pytest.mark.parametrize(("words", "names"), TOGETHER, ids=lambda one: " + ".join(one) if one else "")
def test_planted_changes(
    words: tuple[str, ...], names: tuple[str, ...], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted: dict[str, Shown] = {}
    for name in names:
        edit, shown = PLANTED[name]
        assert not wanted.keys() & shown.keys(), "each change must be seen by itself"
        edit(project)
        wanted |= shown
    before = git(project, "status", "--porcelain"), sorted(os.listdir(project / ".git"))
    code, found = diff(capsys, *words)
    changes = {change["case"]: change for change in found["changes"]}
    assert set(changes) == set(wanted)
    for case, shown_case in wanted.items():
        change = changes[case]
        assert change["kind"] == shown_case.kind, change
        assert {value["key"] for value in change["values"]} == shown_case.keys, case
        assert {again["stage"] for again in change["stages"]} == shown_case.stages, case
        if shown_case.plan is not None:
            assert {figure["name"] for figure in change["figures"]} == shown_case.plan, case
    assert code == (2 if wanted else 0)
    assert (git(project, "status", "--porcelain"), sorted(os.listdir(project / ".git"))) == before


def test_old_new_and_the_line_that_set_each(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replaced("conf/method/ours.yaml", "train:", "# slower\ntrain:")(project)
    replaced("conf/method/ours.yaml", "5e-3", "1e-3")(project)
    replaced("recipes/child.yaml", "  batch_size: 4", "  batch_size: 2\n  learning_rate: 2e-3")(project)
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert "2 recipes: dates, parent\n  train.learning_rate  0.005 → 0.001" in shown
    assert "(conf/method/ours.yaml, line 3 → conf/method/ours.yaml, line 4)" in shown
    assert "0.005 → 0.002  (conf/method/ours.yaml, line 3 → recipes/child.yaml, line 5)" in shown
    assert (
        "runs again  train: train.learning_rate 0.005 → 0.001\n  runs again  merge, evaluate: because train runs"
        in shown
    )
    assert "runs again  serve: because merge runs" in shown
    assert shown.splitlines()[-1].startswith("recipes: 3 change; stages that run again: train 3x, merge 3x")


def test_causes_are_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a data byte", "a template's byte", "a byte of a model's weights", "a pinned revision"):
        PLANTED[name][0](project)
    _, found = diff(capsys)
    first = {
        change["case"]: {name: change["stages"][0][name] for name in ("stage", "why")} for change in found["changes"]
    }
    assert first["parent"] == {"stage": "prepare", "why": "the bytes of data/rows/a.jsonl"}
    assert first["styled"] == {"stage": "prepare", "why": "the bytes of templates/chat.jinja"}
    assert first["local"] == {"stage": "baseline", "why": "the model differs"}
    assert first["pinned"] == {"stage": "prepare", "why": "the tokenizer differs"}


def test_a_group_file_that_no_recipe_uses_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PLANTED["a group file that nobody uses"][0](project)
    written("conf/data/other.yaml", "format: qa\n")(project)
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "conf/data/unused.yaml differs, and no recipe uses it\n" in shown
    assert "conf/data/other.yaml differs, and no recipe uses it\n" in shown


def test_two_commits(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = git(project, "rev-parse", "HEAD").strip()
    git(project, "switch", "-q", "-c", "topic")
    PLANTED["a gate"][0](project)
    commit(project)
    git(project, "switch", "-q", "main")
    PLANTED["a pinned revision"][0](project)
    commit(project)
    PLANTED["save_steps"][0](project)
    cases = {
        (): {"dates": {"train.save_steps"}},
        (first,): {"dates": {"train.save_steps"}, "pinned": {"model.revision"}},
        ("main..topic",): {"dates": {"evaluate.gates.loss.min_gain"}, "pinned": {"model.revision"}},
        ("main...topic",): {"dates": {"evaluate.gates.loss.min_gain"}},
        ("HEAD..HEAD",): {},
    }
    for words, wanted in cases.items():
        code, found = diff(capsys, *words)
        assert {c["case"]: {v["key"] for v in c["values"]} for c in found["changes"]} == wanted
        assert code == (2 if wanted else 0)
    git(project, "stash", "-q")
    git(project, "switch", "-q", "topic")
    _, found = diff(capsys)
    assert found["told"][0].endswith("(the merge base with main)")
    assert [change["case"] for change in found["changes"]] == ["dates"]


def test_words_of_the_command(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PLANTED["a group value that three recipes use"][0](project)
    code, found = diff(capsys, "HEAD", "train.learning_rate=1e-4")
    assert (code, found["changes"]) == (0, [])
    _, found = diff(capsys, "HEAD", "method=full", "--recipe", "dates", "hardware=h100")
    assert found["changes"] == []
    _, found = diff(capsys, "--recipe", "größer 2", "HEAD", "method=ours")
    (change,) = found["changes"]
    assert [value["new"] for value in change["values"]] == ["0.001"]


def test_in_a_folder_below_the_top(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    below = project / "models" / "ours"
    shutil.copytree(project / "recipes", below / "recipes")
    for name in ("conf", "templates", "models"):
        shutil.copytree(project / name, below / name, ignore=shutil.ignore_patterns("ours"))
    (below / "data").mkdir()
    shutil.copy(project / "data/exam.jsonl", below / "data/exam.jsonl")
    replaced("recipes/parent.yaml", "data/rows", "../../data/rows")(below)
    replaced("recipes/dates.yaml", "train:", "data: {sources: {a: {path: ../../../beside.jsonl}}, path: null}\ntrain:")(
        below
    )
    (project.parent / "beside.jsonl").write_text(ROWS)
    commit(project)
    monkeypatch.chdir(below)
    assert diff(capsys) == (0, {**diff(capsys)[1], "changes": []})
    PLANTED["a data byte"][0](project)
    PLANTED["a gate"][0](below)
    _, found = diff(capsys)
    assert {c["case"]: len(c["stages"]) for c in found["changes"]} == {"child": 6, "parent": 6, "dates": 0}
    assert not any(any(c["errors"]) for c in found["changes"])


def test_large_files_and_links(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pointer of git-lfs is its bytes where they are here; a link out of the repository is not followed."""
    name = hashlib.sha256(ROWS.encode()).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize {len(ROWS)}\n"
    written("data/exam.jsonl", pointer)(project)
    (project / "recipes/link.yaml").symlink_to("/etc/passwd")
    commit(project)
    written("data/exam.jsonl", ROWS)(project)
    kept = project / ".git/lfs/objects" / name[:2] / name[2:4] / name
    kept.parent.mkdir(parents=True)
    kept.write_text(ROWS)
    (project / "recipes/link.yaml").unlink()
    assert diff(capsys)[1]["notes"] == ["recipes/link.yaml: a link that leads out of the repository is not followed"]
    assert diff(capsys)[0] == 0
    kept.unlink()
    _, found = diff(capsys)
    assert [(change["case"], change["stages"][0]["stage"]) for change in found["changes"]] == [("scored", "baseline")]
    assert "git lfs fetch" in found["notes"][1]


def test_a_header_with_a_sweep(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written("recipes/child.yaml", "# command: sft-runner -m recipe=child lora.r=4,8\ndefaults: [parent]\n")(project)
    commit(project)
    replaced("recipes/child.yaml", "lora.r=4,8", "lora.r=2,8")(project)
    _, found = diff(capsys)
    (change,) = found["changes"]
    assert {value["key"]: (value["old"], value["new"]) for value in change["values"]} == {
        "lora.r": ("4", "2"),
        "lora.lora_alpha": ("8.0", "4.0"),
    }


def test_secrets_are_masked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written("recipes/child.yaml", "defaults: [parent]\ndata: {chat_template_kwargs: {api_key: hunter1}}\n")(project)
    commit(project)
    replaced("recipes/child.yaml", "hunter1", "hunter2")(project)
    for form in ("--json", "--md"):
        assert main([form]) == 2
        shown = capsys.readouterr().out
        assert "hunter" not in shown
        assert "***" in shown.replace("&#42;", "*")


def test_markdown_is_escaped_and_short() -> None:
    changes = [
        Change(f"recipe_{number}", "changed", (Value("evaluate.pattern", "`a|b`<i>", f"{number}" * 30, "a_b", ""),))
        for number in range(300)
    ]
    shown = markdown(Difference(("old", "new"), changes, unused=["conf/data/a_b.yaml"] * 3000))
    assert shown.startswith("<!-- sft-runner diff -->\n**recipes: 300 change; no stage runs again**")
    assert "<code>&#96;a&#124;b&#96;&lt;i&gt;</code>" in shown
    assert "more recipes change; `sft-runner diff` shows all" in shown
    assert 50_000 < len(shown) < 65_536
    whole = markdown(Difference(("old", "new"), changes[:2]))
    assert "Shortened" not in whole
    assert whole.count("#### <code>recipe&#95;") == 2


def test_bad_references(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "mian": ("git reference 'mian' does not exist", "did you mean 'main'?"),
        "main..topik": ("git reference 'topik' does not exist", "known: HEAD, main"),
        "-p": ("git reference '-p' does not exist", ""),
        "main:conf": ("git reference 'main:conf' does not exist", ""),
        "": ("git reference '' does not exist", ""),
    }
    for word, (message, hint) in cases.items():
        with pytest.raises(UserError) as raised:
            sides(word, (), ())
        assert raised.value.message == message
        assert raised.value.hint.startswith(hint)
    with pytest.raises(UserError, match="git reference '--output=x' does not exist"):
        sides("--output=x", (), ())
    assert not (project / "x").exists()
    for _ in range(2):  # also where nothing changes
        with pytest.raises(UserError, match="recipe 'datse' does not exist"):
            main(["--recipe", "datse"])
        PLANTED["a gate"][0](project)
    with pytest.raises(UserError, match="lora.rr=2: key 'lora.rr' does not exist"):
        main(["lora.rr=2"])
    with pytest.raises(UserError, match="one pair of sides"):
        main(["main", "HEAD"])
    capsys.readouterr()


def test_no_repository_no_git_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no git repository around"):
        main([])
    git(tmp_path, "init", "-q")
    with pytest.raises(UserError, match="the repository has no commit yet"):
        main([])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git is not on this machine"):
        main([])


def test_a_shallow_clone(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(project, "switch", "-q", "-c", "topic")
    PLANTED["a gate"][0](project)
    commit(project)
    git(project, "switch", "-q", "main")
    git(tmp_path, "clone", "-q", "--depth", "1", "--branch", "topic", f"file://{project}", "shallow")
    monkeypatch.chdir(tmp_path / "shallow")
    for words in ([], ["main"], ["HEAD~1"]):
        with pytest.raises(UserError, match="shallow clone") as raised:
            main(words)
        assert "fetch-depth: 0" in raised.value.hint
    assert main(["HEAD"]) == 0


def keys(found: dict[str, Any]) -> dict[str, set[str]]:
    return {change["case"]: {value["key"] for value in change["values"]} for change in found["changes"]}


def stages(found: dict[str, Any]) -> dict[str, set[str]]:
    return {change["case"]: {again["stage"] for again in change["stages"]} for change in found["changes"]}


def test_links_inside_the_repository_are_followed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe, data, and the whole folder of recipes behind tracked links."""
    shutil.move(project / "recipes", project / "common")
    (project / "recipes").symlink_to("common")
    shutil.move(project / "common/dates.yaml", project / "elsewhere.yaml")
    (project / "common/dates.yaml").symlink_to("../elsewhere.yaml")
    shutil.move(project / "data/exam.jsonl", project / "exam_2.jsonl")
    (project / "data/exam.jsonl").symlink_to("../exam_2.jsonl")
    commit(project)
    replaced("elsewhere.yaml", "min_gain: 0", "min_gain: 1")(project)
    written("exam_2.jsonl", ROWS * 2)(project)
    _, found = diff(capsys, "HEAD")
    assert keys(found) == {"dates": {"evaluate.gates.loss.min_gain"}, "scored": set()}
    assert stages(found)["scored"] == {"baseline", "evaluate"}
    assert (project / "data/exam.jsonl").read_text() != ROWS


def test_links_that_a_commit_alone_has_lead_nowhere(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project.parent / "outside.yaml").write_text("lora: {r: 2}\nhunter2: [\n")
    (project / "recipes/leak.yaml").symlink_to(project.parent / "outside.yaml")
    (project / "recipes/other.yaml").symlink_to("../../outside.yaml")
    (project / "data/exam.jsonl").unlink()
    (project / "data/exam.jsonl").symlink_to("/etc/passwd")
    for words in (("HEAD",), ("HEAD~1..HEAD",)):
        code, found = diff(capsys, *words) if words == ("HEAD",) else (commit(project), diff(capsys, *words)[1])
        assert {change["case"] for change in found["changes"]} == {"scored"}
        assert len([note for note in found["notes"] if note.endswith("is not followed")]) == 2, "no configuration"
        assert "hunter2" not in json.dumps(found)
    for target in (None, "/etc/hosts"):
        (project / "data/exam.jsonl").unlink()
        (project / "data/exam.jsonl").symlink_to(target) if target else written("data/exam.jsonl", ROWS)(project)
        _, found = diff(capsys, "HEAD~1..HEAD")
        assert [(change["case"], change["kind"]) for change in found["changes"]] == [("scored", "broken")]
        assert "data/exam.jsonl: a link that leads out of the repository is not followed" in found["notes"]


@pytest.mark.parametrize("tracked", [True, False])
def test_a_data_folder_behind_a_link_out_of_the_repository(
    project: Path, capsys: pytest.CaptureFixture[str], tracked: bool
) -> None:
    shutil.move(project / "data", project.parent / "elsewhere")
    if not tracked:
        commit(project)
    (project / "data").symlink_to(project.parent / "elsewhere")
    if tracked:
        commit(project)
    replaced("recipes/parent.yaml", "num_train_epochs: 2", "num_train_epochs: 3")(project)
    _, found = diff(capsys, "HEAD")
    assert keys(found) == {"parent": {"train.num_train_epochs"}, "child": {"train.num_train_epochs"}}
    assert {change["kind"] for change in found["changes"]} == {"changed"}
    assert all(one["figures"] and set(stages(found)[one["case"]]) == TRAINED for one in found["changes"])
    assert [note for note in found["notes"] if note.startswith("data: a link that leads out")]
    git(project, "commit", "-q", "-a", "-m", "a change")
    assert keys(diff(capsys, "HEAD~1..HEAD")[1]) == keys(found)


def test_a_folder_that_a_link_replaces(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its files of the old side are those of the commit; a full path into the repository stays inside."""
    shutil.move(project / "data", project.parent / "elsewhere")
    (project / "data").symlink_to(project.parent / "elsewhere")
    written("exam.jsonl", ROWS * 2)(project.parent / "elsewhere")
    _, found = diff(capsys, "HEAD")
    assert stages(found)["scored"] == {"baseline", "evaluate"}
    (project / "data").unlink()
    shutil.move(project.parent / "elsewhere", project / "kept")
    (project / "data").symlink_to(project / "kept")
    commit(project)
    written("kept/exam.jsonl", ROWS)(project)
    _, found = diff(capsys, "HEAD")
    assert stages(found) == {"scored": {"baseline", "evaluate"}}


def test_the_environment_and_the_home_are_not_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"PRIVATE_WORD": "topsecretvalue", "PRIVATE_RATE": "0.00123", "HOME": "/home/somebody"}.items():
        monkeypatch.setenv(name, value)
    replaced("recipes/child.yaml", "train:", "name: x${oc.env:PRIVATE_WORD}\ntrain:")(project)
    replaced("recipes/dates.yaml", "train: {", "train: {learning_rate: '${oc.env:PRIVATE_RATE}', ")(project)
    replaced("recipes/styled.yaml", "  template", "  max_length: ${oc.env:PRIVATE_WORD}\n  template")(project)
    replaced("recipes/local.yaml", "models/small", "/home/somebody/model")(project)
    for form in ([], ["--md"], ["--json"]):
        assert main(form) == 2
        shown = capsys.readouterr().out
        for private in ("topsecretvalue", "0.00123", "/home/somebody"):
            assert private not in shown
    assert {change["case"] for change in json.loads(shown)["changes"]} == {"child", "dates", "styled", "local"}
    assert "${oc.env:PRIVATE_RATE}" in shown


@pytest.mark.parametrize("word", ["data", "train", "parent", "settings"])
def test_a_variable_with_an_ordinary_word(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    """It is masked in values, and renames nothing."""
    monkeypatch.setenv("WORD", word)
    replaced("recipes/styled.yaml", "data:\n", "data:\n  columns: {system: '${oc.env:WORD}'}\n")(project)
    commit(project)
    replaced("recipes/parent.yaml", "path: data/rows", "path: ./data/rows")(project)
    replaced("recipes/parent.yaml", "num_train_epochs: 2", "num_train_epochs: 3")(project)
    replaced("recipes/styled.yaml", "template:", "limit: 1\n  template:")(project)
    replaced("recipes/local.yaml", "models/small", "./models/none")(project)
    _, found = diff(capsys, "HEAD")
    epochs = {"data.path", "train.num_train_epochs"}
    assert keys(found) == {"parent": epochs, "child": epochs, "styled": {"data.limit"}, "local": {"model.name"}}
    assert {value["new_place"] for one in found["changes"] for value in one["values"] if value["key"] in epochs} == {
        "recipes/parent.yaml, line 7",
        "recipes/parent.yaml, line 9",
    }
    assert set(stages(found)["styled"]) == ALL
    if word == "data":
        paths = [value["new"] for one in found["changes"] for value in one["values"] if value["key"] == "data.path"]
        assert set(paths) == {"./${oc.env:WORD}/rows"}


@pytest.mark.parametrize(
    "said",
    ["${oc.env:'WORD'}", '${oc.env:"WORD"}', "'${oc.env:''WORD''}'", '"${oc.env:\\"WORD\\"}"'],
)
def test_a_quoted_name_of_a_variable(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    """An error tells the value, which only the mask keeps back."""
    monkeypatch.setenv("WORD", "hunter22")
    replaced("recipes/styled.yaml", "data:\n", f"data:\n  max_length: {said}\n")(project)
    _, found = diff(capsys, "HEAD")
    assert "hunter22" not in json.dumps(found)
    assert "${oc.env:WORD}" in found["changes"][0]["errors"][1]


def test_values_that_differ_never_look_alike() -> None:
    long = "word " * 60
    for old, new in (
        (0.00012345678, 0.00012345679),
        (None, "null"),
        (1, "1"),
        (True, "true"),
        ("a", "a\n"),
        ("", None),
    ):
        assert told("key", old) != told("key", new)
    one, other = pair(f"{long}a", f"{long}b")
    assert one != other
    assert max(len(one), len(other)) < 110
    token = "hf_" + "aB3" * 12
    value = {"list": [{"api_key": "hunter2"}, token], "auth": "hunter2", "headers": {"Authorization": "Bearer hunter2"}}
    assert "hunter2" not in told("data.x", value)
    assert token not in told("data.x", value)
    assert clean(f"no folder {token}") == "no folder ***"


def test_what_cannot_run_is_not_called_unchanged(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replaced("recipes/child.yaml", "batch_size", "batchsize")(project)
    replaced("recipes/scored.yaml", "data: dates", "data: qa")(project)
    replaced("recipes/local.yaml", "models/small", "./models/none")(project)
    commit(project)
    replaced("conf/data/unused.yaml", "5", "6")(project)
    code, found = diff(capsys, "HEAD")
    assert (code, found["changes"]) == (0, [])
    assert [case for case, _ in found["broken"]] == ["child", "local", "scored"]
    replaced("recipes/child.yaml", "4", "2")(project)
    written("README.md", "all are looked at")(project)
    code, found = diff(capsys, "HEAD")
    assert (code, [(change["case"], change["kind"]) for change in found["changes"]]) == (2, [("child", "stuck")])
    assert [case for case, _ in found["broken"]] == ["local", "scored"]


def test_data_that_is_on_neither_side_is_told_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("scored", "styled"):
        text_of = FILES[f"recipes/{name}.yaml"].replace("data: dates", "data: qa")
        written(f"recipes/{name}.yaml", f"# command: sft-runner recipe={name} data.path=my.jsonl\n{text_of}")(project)
    commit(project)
    replaced("recipes/styled.yaml", "data:\n", "lora: {r: 2}\ndata:\n")(project)
    replaced("conf/data/unused.yaml", "5", "6")(project)
    _, found = diff(capsys, "HEAD")
    assert found["notes"] == ["data: my.jsonl is not here: rows, steps and time are not told"]
    assert [(change["case"], change["kind"]) for change in found["changes"]] == [("styled", "changed")]


def test_no_filter_program_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(".gitattributes", "*.jsonl filter=mine\n")(project)
    commit(project)
    for kind in ("clean", "smudge", "process"):
        git(project, "config", f"filter.mine.{kind}", f"touch {project / 'ran'}; cat")
    git(project, "config", "filter.mine.required", "true")
    os.utime(project / "data/exam.jsonl", (1e9, 1e9))
    os.chmod(project / "data/rows/a.jsonl", 0o755)
    assert diff(capsys, "HEAD")[0] == 0
    assert not (project / "ran").exists()


def test_only_what_recipes_read_is_written(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Path] = []
    write = Repository.write
    monkeypatch.setattr(Repository, "write", lambda self, files: (asked.extend(files), write(self, files)))
    written("big/film.bin", "x" * 100)(project)
    commit(project)
    for name in ("big/film.bin", "data/rows/a.jsonl", "recipes/dates.yaml"):
        written(name, (project / name).read_text() + "\n")(project)
    diff(capsys, "HEAD")
    assert {path.name for path in asked} == {"a.jsonl", "dates.yaml"}


def test_a_preset_that_changes_many_recipes_is_one_block(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replaced("conf/hardware/card.yaml", "optim: adamw_torch", "optim: adamw_torch\nmax_length: 512")(project)
    commit(project)
    replaced("conf/hardware/card.yaml", "max_length: 512", "max_length: 256")(project)
    assert main(["HEAD", "--recipe", "dates", "--recipe", "pinned", "--recipe", "parent"]) == 2
    shown = capsys.readouterr().out
    assert "3 recipes: dates hardware=card, parent, pinned hardware=card" in shown
    assert "512 → 256  (conf/hardware/card.yaml, line 7)" in shown
    assert "512 → 256  (filled in: hardware=card caps" in shown


def submodule(folder: Path) -> Path:
    """A repository of its own with rows."""
    folder.mkdir()
    (folder / "c.jsonl").write_text(ROWS)
    git(folder, "init", "-q")
    commit(folder)
    return folder


def test_a_submodule_that_moved_is_not_called_unchanged(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inner = submodule(project / "data/rows/inner")
    commit(project)
    (inner / "c.jsonl").write_text(ROWS * 2)
    commit(inner)
    code, found = diff(capsys, "HEAD")
    assert (code, found["changes"]) == (2, [])
    assert "data/rows/inner: another commit of this submodule" in found["unknown"][0]


def test_a_submodule_counts_by_what_recipes_read_of_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is changed in it and not committed there cannot be compared; where nobody reads it, it does not matter."""
    inner, _ = submodule(project / "data/rows/inner"), submodule(project / "vendor")
    commit(project)
    (project / "vendor/c.jsonl").write_text(ROWS * 2)
    code, found = diff(capsys, "HEAD")
    assert (code, found["unknown"]) == (0, [])
    written("inner/.gitattributes", "*.jsonl filter=f\n")(inner.parent)
    git(inner, "config", "filter.f.clean", f"touch {project.parent}/ran; cat")
    written("inner/c.jsonl", ROWS.replace("b", "B"))(inner.parent)
    code, found = diff(capsys, "HEAD")
    assert (code, found["changes"]) == (2, [])
    assert "data/rows/inner: another commit of this submodule, or changes in it" in found["unknown"][0]
    assert not (project.parent / "ran").exists()
    code, found = diff(capsys, "HEAD..HEAD")
    assert (code, found["unknown"]) == (0, [])


def test_a_submodule_that_is_as_it_was_is_not_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever lies in it untracked, git is told not to look at it, or git cannot look into it."""
    inner = submodule(project / "data/rows/inner")
    commit(project)
    (inner / "c.pyc").write_text("rubbish")
    code, found = diff(capsys, "HEAD")
    assert (code, found["unknown"]) == (0, [])
    git(project, "update-index", "--assume-unchanged", "data/rows/inner")
    code, found = diff(capsys, "HEAD")
    assert (code, found["unknown"]) == (0, [])
    git(project, "update-index", "--no-assume-unchanged", "data/rows/inner")
    shutil.rmtree(inner / ".git")
    (inner / ".git").write_text("gitdir: nowhere\n")
    code, found = diff(capsys, "HEAD")
    assert code in (0, 2)
    assert found["changes"] == []


@pytest.mark.parametrize("mark", ["--assume-unchanged", "--skip-worktree"])
def test_files_that_git_does_not_look_at(mark: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run reads what is there, whatever git was told."""
    git(project, "config", "core.autocrlf", "input")
    for name in ("data/rows/a.jsonl", "recipes/dates.yaml", "templates/chat.jinja"):
        git(project, "update-index", mark, name)
    assert diff(capsys, "HEAD")[1]["changes"] == []
    (project / "templates/chat.jinja").write_bytes(FILES["templates/chat.jinja"].replace("\n", "\r\n").encode())
    PLANTED["a data byte"][0](project)
    PLANTED["a gate"][0](project)
    assert git(project, "status", "--porcelain") == ""
    code, found = diff(capsys, "HEAD")
    assert code == 2
    assert stages(found) == {"parent": ALL, "child": ALL, "dates": set()}
    assert diff(capsys, "HEAD..HEAD") == (0, {**diff(capsys, "HEAD..HEAD")[1], "changes": []})


@pytest.fixture
def monorepo(tmp_path: Path) -> Path:
    """A repository whose project is in a folder of it."""
    folder = tmp_path / "monorepo"
    recipe = "defaults: [override /model: tiny, override /data: dates]\n"
    written("ml/recipes/a.yaml", f"{recipe}lora: {{r: 4}}\n")(folder)
    written("docs/b.md", "hello\n")(folder)
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


def test_git_may_have_started_it(monorepo: Path) -> None:
    """In a linked worktree git tells hooks and aliases its folder, not the top of the tree."""
    linked = monorepo.parent / "linked"
    git(monorepo, "worktree", "add", "-q", str(linked), "-b", "topic")
    replaced("ml/recipes/a.yaml", "r: 4", "r: 8")(linked)
    alias = f"!cd ml && env | grep -q ^GIT_DIR= && '{sys.executable}' -m sft_runner diff HEAD --json"
    words = ["git", "-c", f"alias.review={alias}", "review"]
    ended = subprocess.run(words, cwd=linked, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    (change,) = json.loads(ended.stdout)["changes"]
    assert (change["case"], change["kind"]) == ("a", "changed")


def test_a_folder_that_is_no_project(monorepo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced("ml/recipes/a.yaml", "r: 4", "r: 8")(monorepo)
    for place, hint in ((".", "ml"), ("docs", "../ml"), ("ml/recipes", "..")):
        monkeypatch.chdir(monorepo / place)
        with pytest.raises(UserError, match="has no recipes and no conf, on neither side") as raised:
            main([])
        assert raised.value.hint == f"run it in the folder {hint}"
    commit(monorepo)
    monkeypatch.chdir(monorepo / "ml")
    shutil.rmtree("recipes")
    assert main(["HEAD"]) == 2  # all of them are gone


def test_folders_of_killed_commands_are_removed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    place = tmp_path / "passing"
    for name in (f"sft-runner-diff-{ended.pid}-x/old", f"sft-runner-diff-{os.getpid()}-x", "else"):
        (place / name).mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    PLANTED["a gate"][0](project)
    assert main(["--recipe", "dates"]) == 2
    capsys.readouterr()
    assert sorted(os.listdir(place)) == ["else", f"sft-runner-diff-{os.getpid()}-x"]
