"""`sft-runner lock`: what it writes, what it keeps, and what `--check` says."""

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from locks import COMMIT, HUB_MODEL, OTHER, write_project, write_recipe, write_snapshot
from sft_runner import load, plan
from sft_runner.commands.lock import main
from sft_runner.config import sources
from sft_runner.config.schema import Config, Quantization
from sft_runner.errors import DataError, MachineError, SftError, UserError
from sft_runner.model import files
from sft_runner.review.lock import file, libraries

Lock = Callable[..., int]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the recipe `mine`, and an empty hub cache."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(write_project(folder))
    monkeypatch.setattr(files.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(files.constants, "HF_HUB_OFFLINE", True)
    libraries.version.cache_clear()
    yield folder
    sources.forget()
    libraries.version.cache_clear()


@pytest.fixture
def lock(project: Path) -> Lock:
    """The command as another process would run it."""

    def run(*words: str) -> int:
        sources.forget()
        return main(list(words))

    return run


def held(project: Path) -> dict[str, dict[str, object]]:
    found = yaml.safe_load((project / "recipes/mine.lock").read_text())
    assert found["version"] == 1
    return found["presets"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refused(run: Callable[[], object], kind: type[SftError] = UserError) -> str:
    with pytest.raises(kind) as caught:
        run()
    return caught.value.show()


def test_a_lock_is_written_read_and_left_as_it_is(
    project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lock("mine") == 0
    path = project / "recipes/mine.lock"
    text, before = path.read_text(), path.stat()
    assert capsys.readouterr().out == "recipes/mine.lock: cpu: written\n"
    assert text.startswith("# What recipe=mine is made of")
    entry = held(project)["cpu"]
    assert entry["words"] == []
    assert entry["data"]["sources"]["rows.jsonl"]["rows"] == 20  # type: ignore[index]
    assert entry["settings"]["train.learning_rate"] == 2e-4  # type: ignore[index]
    assert entry["settings"]["evaluate.gates"] == {"loss": {"max": 100}}  # type: ignore[index]
    assert "+" not in entry["libraries"]["torch"]  # type: ignore[index]
    read = file.read("mine")
    assert read is not None
    assert read.presets["cpu"].versions["train"] >= 1
    assert text.splitlines()[read.line("cpu", "data", "sha256") - 1].strip().startswith("sha256: ")
    assert lock("mine") == 0
    assert capsys.readouterr().out == "recipes/mine.lock: cpu: unchanged\n"
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert lock("--check") == 0
    assert capsys.readouterr().out == "1 lock: all in order\n"
    assert sorted(one.name for one in path.parent.iterdir()) == ["mine.lock", "mine.yaml"]


def test_presets_live_beside_each_other(project: Path, lock: Lock) -> None:
    lock("mine", "--hardware", "cpu", "hardware=rtx3060")
    both = held(project)
    assert list(both) == ["cpu", "rtx3060"]
    assert "bitsandbytes" in both["rtx3060"]["libraries"]  # type: ignore[operator]
    assert "bitsandbytes" not in both["cpu"]["libraries"]  # type: ignore[operator]
    edit(project / "recipes/mine.yaml", "2e-4", "3e-4")
    lock("mine", "--hardware", "rtx3060")
    assert held(project)["cpu"] == both["cpu"]
    assert held(project)["rtx3060"]["settings"]["train.learning_rate"] == 3e-4  # type: ignore[index]
    assert lock("--check", "--hardware", "rtx3060") == 0
    assert lock("--check") == 2


def test_the_words_of_an_entry_are_kept_replaced_or_forgotten(project: Path, lock: Lock) -> None:
    lock("mine", "lora.r=4", "+train.extra.neftune_noise_alpha=5")
    for given, expected in (
        ([], ["lora.r=4", "+train.extra.neftune_noise_alpha=5"]),
        (["lora.r=2"], ["lora.r=2"]),
        (["--fresh"], []),
    ):
        lock("mine", *given)
        assert held(project)["cpu"]["words"] == expected


def test_every_recipe_with_a_lock_is_locked_anew(project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no recipe in ./recipes has a lock" in refused(lambda: lock())
    assert lock("--check") == lock("--check", "--json") == 0  # a hook that is always run
    said = capsys.readouterr()
    assert (said.out, said.err) == ("[]\n", "no recipe in ./recipes has a lock: nothing to check\n" * 2)
    lock("mine")
    edit(project / "recipes/mine.yaml", "held_out: 2", "held_out: 3")
    capsys.readouterr()
    lock()
    assert capsys.readouterr().out == "recipes/mine.lock: cpu: written\n  data.held_out 2 -> 3\n"


def test_what_does_not_count_does_not_drift(project: Path, lock: Lock) -> None:
    lock("mine")
    edit(project / "recipes/mine.yaml", "train:\n", "# a remark\noutput_dir: elsewhere\ntrain:\n  save_steps: 1\n")
    (project / "rows.jsonl").rename(project / "same.jsonl")
    edit(project / "recipes/mine.yaml", "rows.jsonl", "same.jsonl")
    assert lock("--check") == 0


def test_each_drift_has_its_line_in_the_lock(project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    lock("mine")
    edit(project / "recipes/mine.yaml", "2e-4", "1e-4")
    edit(project / "recipes/mine.yaml", "max: 100", "max: 200")
    edit(project / "rows.jsonl", "It is 3.", "It is 4.")
    capsys.readouterr()
    assert lock("--check") == 2
    lines = (project / "recipes/mine.lock").read_text().splitlines()
    said = capsys.readouterr().out.splitlines()
    for line, start, in_lock in zip(
        said[:-1],
        ("data: rows.jsonl (20 rows, other bytes)", "evaluate.gates.loss.max 100 -> 200", "train.learning_rate 0.0002"),
        ("rows.jsonl:", "max: 100", "train.learning_rate: 0.0002"),
        strict=True,
    ):
        place, _, text = line.partition(": cpu: ")
        assert text.startswith(start)
        assert lines[int(place.rpartition(" ")[2]) - 1].strip() == in_lock
    assert said[2].endswith("-> 0.0001 (recipes/mine.yaml, line 10)")
    assert said[-1] == "1 lock: 1 not in order"
    assert lock("--check", "--json") == 2
    assert [one["part"] for one in json.loads(capsys.readouterr().out)] == ["data", "setting", "setting"]
    (project / ".git").mkdir()
    assert lock("--check", "--github") == 2
    assert capsys.readouterr().out.startswith(
        "::error file=recipes/mine.lock,line=16,title=sft-runner lock%3A data::cpu: "
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda text: text.replace("version: 1", "version: 2"),
            "line 3: version 2 of the lock is from a newer sft-runner",
        ),
        (lambda text: text.replace("version: 1", "version: new"), "line 3: the lock is damaged: 'version' is 'new'"),
        (lambda text: text.replace("version: 1\n", ""), "no lock: it does not say its version"),
        (
            lambda text: text.replace(
                "    words: []\n", "<<<<<<< HEAD\n    words: []\n=======\n    words: [a=1]\n>>>>>>> x\n"
            ),
            "line 6: a merge conflict that is not resolved\n  take either side (git checkout --ours -- "
            "recipes/mine.lock), then run sft-runner lock mine",
        ),
        (lambda text: text.replace("    words: []\n", "    words: [\n"), "not valid YAML"),
        (
            lambda text: text.replace("words: []", "words: lora.r=4"),
            "line 6: the lock is damaged: 'words' is 'lora.r=4'",
        ),
        (lambda text: text.replace("rows: 20", "rows: many"), "'rows' is 'many', and not a whole number"),
        (lambda text: text.replace("rows: 20", "rows: true"), "'rows' is True, and not a whole number"),
        (lambda text: text + "    words: []\n", "'words' stands there twice"),
        (lambda text: text.replace("words: []", "words: &a [*a]"), "line 6: the lock is damaged: an alias"),
        (lambda text: text[: text.index("    libraries:")], "line 5: the lock is damaged: 'libraries' is missing"),
        (lambda text: text[: text.index("    libraries:") + 7], "cut off in the middle of a line"),
        (lambda text: "[]\n", "no lock"),
        (lambda text: "version: 1\npresets:\n", "'presets' is None, and not a mapping"),
        (lambda text: text.replace("version: 1", "version: 0"), "0 is no version of a lock"),
    ],
)
def test_a_lock_that_cannot_be_used_is_one_clear_line(
    change: Callable[[str], str], expected: str, project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    lock("mine")
    path = project / "recipes/mine.lock"
    path.write_text(change(path.read_text()))
    before = path.read_text()
    capsys.readouterr()
    assert lock("--check") == 2
    said = capsys.readouterr().out
    assert expected in said
    assert said.count("recipes/mine.lock, line") == 1
    assert expected in refused(lambda: lock("mine"))
    assert path.read_text() == before


def test_a_merge_conflict_is_resolved_by_either_side(
    project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    def git(*words: str) -> int:
        me = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *me, *words], cwd=project, capture_output=True).returncode

    git("init", "-b", "main")
    for branch, new in (("main", "2e-4"), ("other", "3e-4"), ("main", "1e-4")):
        git("switch", "-C", branch) if branch == "other" else git("switch", branch)
        text = (project / "recipes/mine.yaml").read_text()
        (project / "recipes/mine.yaml").write_text(re.sub("learning_rate: .*", f"learning_rate: {new}", text))
        lock("mine")
        git("add", "-A")
        assert git("commit", "-m", "a change") == 0
    assert git("merge", "other") == 1
    git("checkout", "--ours", "--", "recipes/mine.yaml")
    assert lock("--check") == 2
    assert "a merge conflict that is not resolved" in capsys.readouterr().out
    git("checkout", "--theirs", "--", "recipes/mine.lock")
    assert lock("--check") == 2
    assert lock("mine") == 0
    assert lock("--check") == 0


def test_bytes_that_are_no_text(project: Path, lock: Lock) -> None:
    (project / "recipes/mine.lock").write_bytes(b"version: 1\n\xff\n")
    assert "not UTF-8" in refused(lambda: lock("mine"))


def test_a_lock_cut_off_at_any_line_never_passes(project: Path, lock: Lock) -> None:
    lock("mine")
    path = project / "recipes/mine.lock"
    lines = path.read_text().splitlines(keepends=True)
    for kept in range(5, len(lines)):
        path.write_text("".join(lines[:kept]))
        assert lock("--check") == 2, lines[kept]


def test_a_recipe_that_is_gone(project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    lock("mine")
    (project / "recipes/mine.yaml").unlink()
    assert lock("--check") == 2
    assert "recipes/mine.lock, line 1: its recipe recipes/mine.yaml is gone" in capsys.readouterr().out
    assert lock("--check", "mine") == 2
    assert "did you mean 'mine'?" in refused(lambda: lock("--check", "mime"))


def test_a_shipped_recipe_is_locked_where_it_is_copied_to(project: Path, lock: Lock) -> None:
    said = refused(lambda: lock("quickstart"))
    assert "copy it to recipes/quickstart.yaml" in said


def test_a_recipe_that_does_not_compose(project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    lock("mine")
    edit(project / "recipes/mine.yaml", "max_steps", "max_stepz")
    assert lock("--check") == 2
    assert "max_stepz" in capsys.readouterr().out


def test_open_data_is_locked_as_open(project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    edit(project / "recipes/mine.yaml", "  path: rows.jsonl\n", "")
    lock("mine")
    assert "data is not locked" in capsys.readouterr().err
    entry = held(project)["cpu"]
    assert (entry["data"], entry["stages"]) == ("open", {})
    assert entry["versions"]["train"] >= 1  # type: ignore[index]
    assert lock("--check") == 0
    lock("mine", "data.path=rows.jsonl")
    assert held(project)["cpu"]["stages"]
    assert lock("--check") == 0


def test_a_setting_at_its_neutral_value_is_told_by_it(
    project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    lock("mine", "lora.use_dora=true", "data.limit=9")
    edit(project / "recipes/mine.lock", "    - lora.use_dora=true\n    - data.limit=9\n", "    - lora.r=8\n")
    capsys.readouterr()
    assert lock("--check") == 2
    said = capsys.readouterr().out
    assert ": cpu: data.limit 9 -> open (" in said
    assert ": cpu: lora.use_dora True -> False (" in said


def test_a_bad_row_is_told_when_it_is_locked(project: Path, lock: Lock) -> None:
    with (project / "rows.jsonl").open("a") as rows:
        rows.write("{\n")
    assert "line 21" in refused(lambda: lock("mine"))
    (project / "rows.jsonl").unlink()
    assert "there is no file or folder rows.jsonl" in refused(lambda: lock("mine"))


def test_a_model_that_is_not_here(
    project: Path, lock: Lock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("mine", f"model.name={HUB_MODEL}")
    assert "pin it: model.revision=COMMIT" in refused(lambda: lock(*words), MachineError)
    lock(*words, f"model.revision={COMMIT}")
    assert "tokenizer is not locked" in capsys.readouterr().err
    entry = held(project)["cpu"]
    assert entry["model"] == {"name": HUB_MODEL, "commit": COMMIT, "sha256": None}
    assert (entry["tokenizer"], entry["template"], entry["stages"]) == (None, None, {})
    assert lock("--check") == 0
    assert "note: recipes/mine.lock, line 13: cpu: tokenizer not checked" in capsys.readouterr().out
    assert lock("--check", "--strict") == 2
    write_snapshot(tmp_path / "hub")
    assert lock("--check") == 0
    lock("mine")
    assert held(project)["cpu"]["stages"]
    assert held(project)["cpu"]["model"] | {"sha256": None} == entry["model"]  # type: ignore[operator]
    assert lock("--check", "--strict") == 0


def test_what_is_not_on_this_machine_is_a_note(
    project: Path, lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_snapshot(tmp_path / "hub")
    lock("mine", f"model.name={HUB_MODEL}")
    monkeypatch.setattr(files.constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    capsys.readouterr()
    assert lock("--check") == 0
    assert (
        f"note: recipes/mine.lock, line 12: cpu: tokenizer not checked: {HUB_MODEL} is not on"
        in capsys.readouterr().out
    )
    assert lock("--check", "--strict") == 2


@pytest.mark.parametrize("part", ["data.path", "model.name"])
def test_what_is_not_checked_in_is_a_note(
    part: str, project: Path, lock: Lock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data and a model's folder lie on the machine of whoever locks, and not in the repository."""
    place, words = project / "rows.jsonl", list[str]()
    if part == "model.name":
        place, words = shutil.copytree(files.EMBEDDED / "tiny", project / "base"), ["model.name=./base"]
    lock("mine", *words)
    assert lock("--check", "--strict") == 0
    place.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert lock("--check") == 0
    said = capsys.readouterr().out
    assert "note: recipes/mine.lock, line " in said
    assert place.name in said
    assert lock("--check", "--strict") == 2
    edit(project / "recipes/mine.yaml", "learning_rate: 2e-4", "learning_rate: 9e-4")
    assert lock("--check") == 2
    assert "train.learning_rate 0.0002 -> 0.0009" in capsys.readouterr().out
    edit(project / "recipes/mine.yaml", "learning_rate: 9e-4", "learning_rate: 2e-4")
    with pytest.raises(UserError, match=f"{part}: there is no"):
        plan(load("recipe=mine", "hardware=cpu", "locked=true", *words))


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("chat_template.jinja", "<|im_start|>", "<|im_begin|>", "template: "),
        ("tokenizer_config.json", "{", '{"chat_template": "unused", ', "tokenizer: "),
        ("tokenizer_config.json", "{", '{"added": 1, ', "tokenizer: "),
        ("tokenizer.json", "{", "{ ", "tokenizer: "),
        ("config.json", "{", "{ ", "model: "),
    ],
)
def test_model_tokenizer_and_template_are_told_apart(
    name: str,
    old: str,
    new: str,
    expected: str,
    project: Path,
    lock: Lock,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_snapshot(tmp_path / "hub").rename(tmp_path / "own")
    lock("mine", f"model.name={folder}")
    edit(folder / name, old, new)
    capsys.readouterr()
    assert lock("--check") == 2
    said = capsys.readouterr().out.splitlines()[:-1]
    assert len(said) == 1
    assert f"cpu: {expected}" in said[0]


@pytest.mark.parametrize(
    "form", ["{}", '[{{"name": "tool_use", "template": "x"}}, {{"name": "default", "template": {}}}]']
)
def test_a_template_among_the_settings_of_a_tokenizer(
    form: str, project: Path, lock: Lock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_snapshot(tmp_path / "hub").rename(tmp_path / "own")
    text = json.dumps((folder / "chat_template.jinja").read_text())
    (folder / "chat_template.jinja").unlink()
    edit(folder / "tokenizer_config.json", "{", f'{{"chat_template": {form.format(text)}, ')
    lock("mine", f"model.name={folder}")
    edit(folder / "tokenizer_config.json", "<|im_start|>", "<|im_begin|>")
    capsys.readouterr()
    assert lock("--check") == 2
    (said, _) = capsys.readouterr().out.splitlines()
    assert ": cpu: template: " in said


def test_a_template_of_the_users_own(project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    template = project / "own.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    lock("mine", "data.template=own.jinja")
    template.write_text(template.read_text() + " ")
    capsys.readouterr()
    assert lock("--check") == 2
    assert ": template: " in capsys.readouterr().out.splitlines()[0]


def test_another_commit_drifts(project: Path, lock: Lock, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_snapshot(tmp_path / "hub")
    lock("mine", f"model.name={HUB_MODEL}")
    write_snapshot(tmp_path / "hub", OTHER)
    capsys.readouterr()
    assert lock("--check") == 2
    assert f"line 10: cpu: model: commit {COMMIT[:12]} -> {OTHER[:12]}\n" in capsys.readouterr().out


def test_libraries(
    project: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock("mine")
    edit(project / "recipes/mine.lock", "peft: ", "peft: 9")
    capsys.readouterr()
    assert lock("--check") == 2
    assert ": cpu: peft 90.21" in capsys.readouterr().out
    assert lock("--check", "--ignore", "libraries") == 0
    config = Config(quantization=Quantization("4"), export=["gguf"])
    config = replace(config, evaluate=replace(config.evaluate, metrics=["chrf", "rouge1"], benchmarks=["hellaswag"]))
    assert {*libraries.wanted(config)} == {
        *libraries.ALWAYS,
        "bitsandbytes",
        "gguf",
        "lm-eval",
        "rouge-score",
        "sacrebleu",
    }
    assert [*libraries.wanted(Config(quantization=Quantization("none")))] == sorted(libraries.ALWAYS)


def test_a_library_that_is_not_installed_is_held_by_none(
    project: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock("mine", "serve=vllm", "evaluate.engine=transformers")
    assert "vllm is not locked: not installed" in capsys.readouterr().err
    assert held(project)["cpu"]["libraries"]["vllm"] is None  # type: ignore[index]
    assert lock("--check") == 0
    assert lock("--check", "--strict") == 2
    edit(project / "recipes/mine.lock", "vllm: null", "vllm: 0.32.0")
    assert lock("--check") == 0
    assert "note: " in capsys.readouterr().out
    assert lock("--check", "--strict") == 2


def test_several_sources_and_sets(project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ä b", "other"):
        (project / f"{name}.jsonl").write_text((project / "rows.jsonl").read_text())
    edit(
        project / "recipes/mine.yaml",
        "  path: rows.jsonl\n",
        "  sources:\n    a: {path: 'ä b.jsonl'}\n    b: {path: other.jsonl, limit: 7}\n",
    )
    edit(project / "recipes/mine.yaml", "evaluate:\n", "evaluate:\n  sets: {s: {path: rows.jsonl, limit: 3}}\n")
    lock("mine")
    entry = held(project)["cpu"]
    assert {name: rows["rows"] for name, rows in entry["data"]["sources"].items()} == {"a": 20, "b": 7}  # type: ignore[index]
    assert entry["sets"]["sources"]["s"]["rows"] == 3  # type: ignore[index]
    edit(project / "ä b.jsonl", "It", "He")
    edit(project / "rows.jsonl", "It", "He")
    capsys.readouterr()
    assert lock("--check") == 2
    said = capsys.readouterr().out
    assert ": data: a (20 rows, other bytes)" in said
    assert ": sets: s (3 rows, other bytes)" in said
    assert "data: b" not in said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("path: rows.jsonl", "path: row.jsonl"),
        ("name: ./base", "name: ./bas"),
        ("train:", "train:\n  continue_from: x"),
    ],
)
def test_what_is_named_otherwise_and_not_here_drifts(
    old: str, new: str, tmp_path: Path, lock: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what the lock names may be elsewhere."""
    project = Path.cwd()
    write_recipe(project, "./base")
    shutil.copytree(files.EMBEDDED / "tiny", project / "base")
    lock("mine")
    edit(project / "recipes/mine.yaml", old, new)
    capsys.readouterr()
    assert lock("--check") == 2
    assert "there is no" in capsys.readouterr().out


def test_the_same_bytes_in_two_sources_have_rows_of_their_own(project: Path, lock: Lock) -> None:
    recipe, sources_of_it = (
        project / "recipes/mine.yaml",
        "  sources:\n    one: {path: rows.jsonl, limit: 15}\n    two: ",
    )
    edit(recipe, "  path: rows.jsonl\n", f"{sources_of_it}{{path: rows.jsonl, limit: 6}}\n")
    edit(
        recipe, "evaluate:\n", "evaluate:\n  sets: {a: {path: rows.jsonl, limit: 4}, b: {path: rows.jsonl, limit: 3}}\n"
    )
    lock("mine")
    assert [rows["rows"] for rows in held(project)["cpu"]["data"]["sources"].values()] == [15, 6]  # type: ignore[index]
    assert lock("--check") == lock("--check", "--strict") == 0
    assert plan(load("recipe=mine", "hardware=cpu", "locked=true"))


def test_data_without_a_row_to_learn_from_is_not_locked(project: Path, lock: Lock) -> None:
    (project / "rows.jsonl").unlink()
    (project / "rows.jsonl").mkdir()
    (project / "rows.jsonl/short.md").write_text("# A\n\nshort\n")
    assert "has nothing to learn from: 1 files" in refused(lambda: lock("mine", "data=docs"), DataError)
    assert not (project / "recipes/mine.lock").exists()


def test_a_recipe_with_a_name_in_unicode(project: Path, lock: Lock) -> None:
    text = (project / "recipes/mine.yaml").read_text()
    (project / "recipes/dätén zwei.yaml").write_text(text.replace("data:\n", "name: two\ndata:\n", 1))
    assert lock("dätén zwei") == 0
    assert lock("--check", "dätén zwei") == 0


def test_a_model_trained_whole(project: Path, lock: Lock) -> None:
    lock("mine", "adapter=none", "method=full")
    assert held(project)["cpu"]["settings"]["adapter"] == "none"  # type: ignore[index]
    assert lock("--check") == 0


def test_several_recipes_are_locked_as_far_as_they_can_be(
    project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (project / "recipes/mine.yaml").read_text()
    (project / "recipes/bad.yaml").write_text(text.replace("max_steps", "max_stepz"))
    assert lock("bad", "mine") == 2
    said = capsys.readouterr()
    assert said.out == "recipes/mine.lock: cpu: written\n"
    assert "error: bad: recipes/bad.yaml, line 11" in said.err
    assert lock("--check", "--hardware", "rtx3060") == 0
    assert "note: recipes/mine.lock, line 1: nothing checked: it has no entry for rtx3060" in capsys.readouterr().out
    assert lock("--check", "--hardware", "rtx3060", "--strict") == 2


def test_a_full_disk(project: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "no space left on the disk")

    monkeypatch.setattr(os, "replace", full)
    said = refused(lambda: lock("mine"), MachineError)
    assert "no space left" in said
    assert "output_dir" not in said
    assert [one.name for one in (project / "recipes").iterdir()] == ["mine.yaml"]


def test_no_lock_at_all(project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock("--check") == 0
    assert lock("--check", "--strict") == 2
    assert "no recipe in ./recipes has a lock" in capsys.readouterr().err


def test_words_do_not_go_with_a_check(project: Path, lock: Lock) -> None:
    assert "--check takes the words" in refused(lambda: lock("--check", "mine", "lora.r=4"))
    assert "lora.r=4 is for recipes that are named" in refused(lambda: lock("lora.r=4"))
    assert "did you mean 'rtx3060'" in refused(lambda: lock("mine", "--hardware", "rtx3066"))
