"""What nobody may slip past a lock: gutted entries, edited files, another spelling, another machine's settings."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from locks import COMMIT, HUB_MODEL, write_project, write_snapshot
from sft_runner import load, plan
from sft_runner.commands.lock import main
from sft_runner.config import sources
from sft_runner.config.schema import Config, Quantization
from sft_runner.errors import MachineError, UserError
from sft_runner.fingerprint import Hashes
from sft_runner.model import files
from sft_runner.review.lock import libraries
from sft_runner.review.lock.addresses import has_secret
from sft_runner.serving import engine, vllm

Lock = Callable[..., int]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the recipe `mine`, and an empty hub cache."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(write_project(folder))
    monkeypatch.setattr(files.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(files.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "memory"))
    yield folder
    sources.forget()
    libraries.version.cache_clear()


@pytest.fixture
def lock(project: Path) -> Lock:
    """The command as another process would run it."""

    def run(*words: str) -> int:
        sources.forget()
        libraries.version.cache_clear()
        return main(list(words))

    return run


@pytest.fixture
def check(lock: Lock, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The exit code of `--check`, and what it says."""

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        return lock("--check", *words), capsys.readouterr().out

    return run


Check = Callable[..., tuple[int, str]]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refused(run: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        run()
    return caught.value.show()


def change(path: Path, how: Callable[[dict[str, object]], object]) -> None:
    """Edit the entry of `cpu` as its values."""
    values = yaml.safe_load(path.read_text())
    how(values["presets"]["cpu"])
    path.write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (lambda entry: entry.update(stages={}), "the fingerprint of 'prepare' is missing"),
        (lambda entry: entry["stages"].pop("train"), "the fingerprint of 'train' is missing"),
        (lambda entry: entry["versions"].pop("train"), "the stage 'train' has no version"),
        (lambda entry: entry.update(tokenizer=None), "are known together or not at all"),
        (lambda entry: entry.update(template=None), "'template' is missing"),
        (lambda entry: entry["model"].update(sha256=None), "neither 'commit' nor 'sha256' is known"),
        (lambda entry: entry["model"].update(own_code="false"), "'own_code' is 'false', and not true"),
        (lambda entry: entry["model"].update(own_code=False), "'own_code' is False, and not true"),
        (lambda entry: entry.update(note="x"), "'note' is nothing that a lock says"),
        (lambda entry: entry["model"].update(revision="x"), "'revision' is nothing that a lock says"),
        (lambda entry: entry["data"].update(rows=20), "'rows' is nothing that a lock says"),
        (lambda entry: entry["data"]["sources"]["rows.jsonl"].update(x=1), "'x' is nothing that a lock says"),
        (lambda entry: entry["data"].pop("sha256"), "'sha256' is missing"),
        (lambda entry: entry.update(libraries=None), "'libraries' is None, and not a mapping"),
        (lambda entry: entry.update(libraries={}), "torch: not in the lock"),
        (lambda entry: entry.update(stages={}, versions={}), "stage train: not in the lock"),
        (lambda entry: entry.update(settings={}), "train.learning_rate "),
        (lambda entry: entry.update(data="open", stages={}), "data: open -> rows.jsonl"),
    ],
)
def test_a_gutted_lock_is_refused(
    how: Callable[[dict[str, object]], object], expected: str, project: Path, lock: Lock, check: Check
) -> None:
    lock("mine")
    change(project / "recipes/mine.lock", how)
    code, said = check()
    assert (code, expected in said) == (2, True), said


def test_a_library_that_the_lock_does_not_hold(project: Path, lock: Lock, check: Check) -> None:
    lock("mine")
    change(project / "recipes/mine.lock", lambda entry: entry["libraries"].update(peft=None))  # type: ignore[attr-defined]
    code, said = check()
    assert code == 0
    assert "note: recipes/mine.lock, line " in said
    assert "peft not checked: the lock does not hold it" in said
    assert check("--strict")[0] == 2
    (told,) = [one for one in plan(load("recipe=mine", "hardware=cpu", "locked=true")).run.warnings if "held" in one]
    assert told.startswith(f"locked=true: peft is not held, and {libraries.version('peft')} here: recipes/mine.lock")
    assert told.endswith("make it where it is installed: sft-runner lock mine --hardware cpu")
    change(project / "recipes/mine.lock", lambda entry: entry["libraries"].update(trl="0.1"))  # type: ignore[attr-defined]
    locked = refused(lambda: plan(load("recipe=mine", "hardware=cpu", "locked=true")))
    assert "  - trl 0.1 -> " in locked
    assert "peft" not in locked


def test_counts_of_rows_are_believed_unless_it_is_strict(project: Path, lock: Lock, check: Check) -> None:
    lock("mine")
    assert check("--strict") == (0, "1 lock: all in order\n")
    edit(project / "recipes/mine.lock", "rows: 20", "rows: 99")
    assert check()[0] == 0
    code, said = check("--strict")
    assert (code, "data: rows.jsonl (99 -> 20 rows)" in said) == (2, True)


def test_a_flipped_byte_under_the_old_time(project: Path, lock: Lock, check: Check) -> None:
    rows = project / "rows.jsonl"
    os.utime(rows, (1e9, 1e9))  # old enough to be remembered
    lock("mine")
    edit(rows, "It is 3.", "It is 4.")
    os.utime(rows, (1e9, 1e9))
    code, said = check()
    assert (code, "data: rows.jsonl (20 rows, other bytes)" in said) == (2, True)
    assert Hashes().of(rows) == Hashes(project / "nothing").of(rows)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "generation_config.json"])
def test_an_edited_file_of_a_hub_model(name: str, project: Path, lock: Lock, check: Check, tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "hub")
    lock("mine", f"model.name={HUB_MODEL}")
    assert check("--strict")[0] == 0
    with (snapshot / name).open("ab") as file:
        file.write(b" ")
    code, said = check()
    part = "tokenizer" if name == "generation_config.json" else "model"
    assert (code, f": cpu: {part}: " in said) == (2, True), said


def test_the_weights_of_a_hub_model_are_told_by_the_name_of_their_blob(
    project: Path, lock: Lock, check: Check, tmp_path: Path
) -> None:
    """As the hub client lays them down: a link to a file that is called by its SHA-256."""
    snapshot = write_snapshot(tmp_path / "hub")
    weights, blobs = snapshot / "model.safetensors", snapshot.parents[1] / "blobs"
    lock("mine", f"model.name={HUB_MODEL}")  # from a cache without links
    blobs.mkdir()
    blob = weights.rename(blobs / Hashes(tmp_path / "none").of(weights))
    weights.symlink_to(Path("../../blobs") / blob.name)
    assert check("--strict") == (0, "1 lock: all in order\n")
    other = blobs / ("0" * 64)
    other.write_bytes(blob.read_bytes())
    weights.unlink()
    weights.symlink_to(Path("../../blobs") / other.name)
    assert "model: someone/tiny: weights or config.json" in check()[1]


@pytest.mark.parametrize("name", ["README.md", "eval_results.json", "params.json", "requirements.txt"])
@pytest.mark.parametrize("own", [True, False])
def test_what_else_was_downloaded_is_nothing_to_a_lock(
    own: bool, name: str, project: Path, lock: Lock, tmp_path: Path
) -> None:
    folder = write_snapshot(tmp_path / "hub")
    folder = folder.rename(tmp_path / "own") if own else folder
    lock("mine", f"model.name={folder if own else HUB_MODEL}")

    def parts() -> list[object]:
        entry = yaml.safe_load((project / "recipes/mine.lock").read_text())["presets"]["cpu"]
        return [entry[part] for part in ("model", "tokenizer", "template")]

    before = parts()
    (folder / name).write_text("{}")
    lock("mine")
    assert parts() == before


def test_a_file_that_the_settings_of_a_tokenizer_name(project: Path, lock: Lock, check: Check, tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "hub")
    edit(snapshot / "tokenizer_config.json", "{", '{"fast_tokenizer_files": ["tokenizer.4.0.json", "../x.json"], ')
    (snapshot / "tokenizer.4.0.json").write_text("{}")
    (snapshot.parent / "x.json").write_text("{}")
    lock("mine", f"model.name={HUB_MODEL}")
    (snapshot.parent / "x.json").write_text("[]")
    assert check("--strict")[0] == 0
    (snapshot / "tokenizer.4.0.json").write_text("[]")
    code, said = check()
    assert (code, ": cpu: tokenizer: " in said) == (2, True), said


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "additional_chat_templates/rag.jinja", "qwen.tiktoken"])
def test_every_file_that_a_tokenizer_may_read(
    name: str, project: Path, lock: Lock, check: Check, tmp_path: Path
) -> None:
    snapshot = write_snapshot(tmp_path / "hub")
    (snapshot / name).parent.mkdir(exist_ok=True)
    (snapshot / name).write_text("a")
    lock("mine", f"model.name={HUB_MODEL}")
    (snapshot / name).write_text("b")
    code, said = check()
    assert (code, ": cpu: tokenizer: " in said) == (2, True), said


def test_a_model_folder_by_another_spelling(project: Path, lock: Lock, check: Check, tmp_path: Path) -> None:
    folder = write_snapshot(tmp_path / "hub").rename(project / "own model")
    lock("mine", f"model.name='{folder}'")
    entry = yaml.safe_load((project / "recipes/mine.lock").read_text())["presets"]["cpu"]
    assert entry["model"]["name"] == "own model"
    assert entry["words"] == ["model.name='own model'"]
    edit(project / "recipes/mine.lock", "model.name='own model'", "model.name='./own model'")
    assert check() == (0, "1 lock: all in order\n")
    edit(folder / "config.json", "{", "{ ")
    assert ": cpu: model: " in check()[1]


def test_words_that_say_nothing_are_left_out(project: Path, lock: Lock, check: Check) -> None:
    rows = project / "rows.jsonl"
    lock("mine", "name=x", "output_dir=/tmp/x", "stage=train", "tracking=none", "dry_run=true", "force=[train]",
         f"data.path={rows}", "lora.r=4")  # fmt: skip
    entry = yaml.safe_load((project / "recipes/mine.lock").read_text())["presets"]["cpu"]
    assert entry["words"] == ["data.path=rows.jsonl", "lora.r=4"]
    assert {"evaluate", "serve"} <= {*entry["stages"]}
    assert check() == (0, "1 lock: all in order\n")


def test_this_machines_own_settings_stay_out(project: Path, lock: Lock, check: Check) -> None:
    (project / "conf/local").mkdir(parents=True)
    local = project / "conf/local/default.yaml"
    local.write_text("lora: {r: 2}\nlocked: true\n")
    lock("mine")
    path = project / "recipes/mine.lock"
    assert "lora.r: 8" in path.read_text()
    assert check() == (0, "1 lock: all in order\n")
    said = refused(lambda: plan(load("recipe=mine", "hardware=cpu")))
    assert "  - lora.r 8 -> 2 (conf/local/default.yaml, line 1)" in said
    local.write_text("locked: true\n")
    assert plan(load("recipe=mine", "hardware=cpu", "locked=false", "lora.r=4")).steps  # a default, taken back


def test_they_stay_out_of_what_only_hydra_composes(project: Path, lock: Lock, check: Check, tmp_path: Path) -> None:
    (project / "conf/local").mkdir(parents=True)
    (project / "conf/local/default.yaml").write_text("lora: {r: 2}\n")
    (tmp_path / "more").mkdir()
    lock("mine", f"hydra.searchpath=[file://{tmp_path}/more]")
    assert "lora.r: 8" in (project / "recipes/mine.lock").read_text()
    assert check() == (0, "1 lock: all in order\n")


def test_the_lock_of_a_recipe_that_is_gone_hides_no_shipped_one(project: Path, lock: Lock, check: Check) -> None:
    lock("mine")
    (project / "recipes/mine.lock").rename(project / "recipes/qa.lock")
    assert check() == (
        2,
        "recipes/qa.lock, line 1: its recipe recipes/qa.yaml is gone; remove the lock too\n1 lock: 1 not in order\n",
    )


def test_a_source_by_another_name(project: Path, lock: Lock, check: Check) -> None:
    other = (project / "rows.jsonl").read_text().replace("It", "He")
    (project / "other.jsonl").write_text(other)
    edit(
        project / "recipes/mine.yaml",
        "  path: rows.jsonl\n",
        "  sources:\n    a: {path: rows.jsonl}\n    b: {path: other.jsonl}\n",
    )
    lock("mine")
    edit(project / "recipes/mine.yaml", "    b:", "    rows:")
    code, said = check()
    assert code == 2
    assert ": data: b is called rows\n" in said
    assert "other bytes" not in said


def test_a_link_stays_one_and_a_mode_too(project: Path, lock: Lock, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.lock"
    link = project / "recipes/mine.lock"
    target.write_text("")
    target.chmod(0o640)
    link.symlink_to(target)
    assert lock("mine") == 0  # an empty lock holds nothing that could be lost
    assert link.is_symlink()
    assert "presets:" in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_a_link_that_leads_nowhere_is_one_line(project: Path, lock: Lock) -> None:
    (project / "recipes/mine.lock").symlink_to("none/mine.lock")
    with pytest.raises(MachineError, match="none/mine.lock: cannot be written"):
        lock("mine")


def test_other_line_ends(project: Path, lock: Lock, capsys: pytest.CaptureFixture[str]) -> None:
    lock("mine")
    path = project / "recipes/mine.lock"
    text = path.read_bytes()
    path.write_bytes(text.replace(b"\n", b"\r\n"))
    assert lock("--check") == 0
    capsys.readouterr()
    lock("mine")
    assert capsys.readouterr().out == "recipes/mine.lock: cpu: written, with other line ends\n"
    assert path.read_bytes() == text


def test_data_with_other_line_ends(project: Path, lock: Lock, check: Check) -> None:
    lock("mine")
    rows = project / "rows.jsonl"
    text = rows.read_bytes()
    rows.write_bytes(text.replace(b"\n", b"\r\n"))
    assert ": data: rows.jsonl (20 rows, other line ends)" in check()[1]
    lock("mine")
    rows.write_bytes(text)
    assert ": data: rows.jsonl (20 rows, other line ends)" in check()[1]
    rows.write_bytes(text.replace(b"3", b"4"))
    assert ": data: rows.jsonl (20 rows, other bytes)" in check()[1]


def test_hints_can_be_pasted(project: Path, lock: Lock, check: Check) -> None:
    (project / "recipes/mine.yaml").rename(project / "recipes/my own.yaml")
    assert "make it: sft-runner lock 'my own'" in check("my own")[1]
    (project / "recipes/my own.lock").write_text("")
    assert "the lock is empty\n  run sft-runner lock 'my own'" in check()[1]
    (project / "recipes/my own.lock").write_text("<<<<<<< HEAD\n")
    said = check()[1]
    assert "git checkout --ours -- 'recipes/my own.lock'" in said
    assert "then run sft-runner lock 'my own'" in said


def test_a_sweep_and_a_secret_are_no_words_of_a_lock(project: Path, lock: Lock) -> None:
    said = refused(lambda: lock("mine", "lora.r=4,8"))
    assert "lora.r=4,8 is several values" in said
    assert "-m" not in said
    said = refused(lambda: lock("mine", 'data.path="https://bob:hunter2@example.org/x.jsonl"'))
    assert "https://***@example.org" in said
    assert "hunter2" not in said
    secret = "git+https://bob:hunter2@example.org/a/b@" + COMMIT
    assert "hunter2" not in refused(lambda: lock("mine", f'data.path="{secret}"'))
    assert not (project / "recipes/mine.lock").exists()


TOKEN = "ghp_" + "a1" * 20


@pytest.mark.parametrize(
    ("word", "secret"),
    [
        (f"data.path='git+https://example.org/a/b@{COMMIT}#subdirectory=data'", False),
        (f"data.path='git+ssh://git@example.org/a/b@{COMMIT}'", False),
        ("data.path='https://example.org/x.jsonl?download=true&tokenizer=x#rows'", False),
        ("data.path='https://bob:${oc.env:PASSWORD}@example.org/x'", False),
        (f"data.path='git+ssh://git:pw@example.org/a/b@{COMMIT}'", True),
        (f"data.path='git+https://{TOKEN}@example.org/a/b@{COMMIT}'", True),
        ("data.path='https://token:@example.org/x'", True),
        ("data.path='https://example.org/x?a=b&access_token=c#rows'", True),
        ("data.path='https://example.org/x?X-Amz-Signature=c'", True),
        (f"data.path='https://example.org/x?a={TOKEN}'", True),
    ],
)
def test_only_a_secret_in_an_address_is_refused(word: str, secret: bool) -> None:
    assert has_secret(word) is secret


def test_data_of_a_git_repository_is_locked(project: Path, lock: Lock, check: Check, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "sub").mkdir(parents=True)
    shutil.copy(project / "rows.jsonl", there / "sub")
    git = ["git", "-C", str(there), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert lock("mine", f"data.path='git+file://{there}@{commit}#subdirectory=sub'") == 0
    assert check("--strict") == (0, "1 lock: all in order\n")


def test_packages_that_take_part_by_configuration() -> None:
    config = Config(quantization=Quantization("none"))
    config = replace(config, hardware=replace(config.hardware, attn_implementation="flash_attention_2"))
    config = replace(config, train=replace(config.train, extra={"use_liger_kernel": True}))
    assert {*libraries.wanted(config)} - {*libraries.ALWAYS} == {"flash-attn", "liger-kernel"}
    assert "jinja2" in libraries.ALWAYS


@pytest.mark.parametrize("library", ["lib", "lib64"])
def test_vllm_is_looked_up_beside_the_interpreter_that_runs_it(library: str, tmp_path: Path) -> None:
    """The recipe names that interpreter, and may be a stranger's: it is not run."""
    site = tmp_path / library / "python3.12/site-packages"
    (site / "vllm-0.32.0+cu129.dist-info").mkdir(parents=True)
    (site / "vllm_flash_attn-2.0.dist-info").mkdir()
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    python.chmod(0o755)

    def version(path: Path) -> str | None:
        config = Config()
        config = replace(config, serve=replace(config.serve, engine="vllm", python=str(path)))
        return libraries.versions(config)["vllm"]

    assert version(python) == "0.32.0"
    assert version(tmp_path / "none/bin/python") is None
    assert version(Path("~nobody-of-this-name/python")) is None
    (site / "vllm-0.31.0.dist-info").mkdir()
    assert version(python) is None  # which of them holds, only the interpreter could say
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "answer", ["[]", "{}", "3", '{"missing": [], "version": 3}', '{"missing": 1, "version": ""}', ""]
)
def test_another_program_than_an_interpreter(answer: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{answer}'\n")
    python.chmod(0o755)
    with pytest.raises(MachineError, match="does not work as a Python interpreter"):
        engine.require(vllm.PACKAGE, str(python))
