"""`sft-runner lint` as it is typed, and as pre-commit runs it; what is shipped is without a finding."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command import sft
from linted import written
from sft_runner.commands.lint import main

ROOT = Path(__file__).parents[2]
FILES = {
    "recipes/a.yaml": "lora:\n  rr: 4, 100%\n",
    "recipes/b.yaml": "defaults:\n  - override /model: qwen2.5-1.5b\ntrain: {learning_rate: 0.1}\n",
}
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "mlflow", "bitsandbytes", "matplotlib", "pandas", "mcp")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with an error and a warning."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, FILES)
    return tmp_path


def test_what_is_shipped_has_no_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["--strict"]) == 0
    assert ": 0 errors, 0 warnings, 0 notes" in capsys.readouterr().out


def test_the_command_line(folder: Path) -> None:
    ended = sft("lint", cwd=folder)
    assert ended.code == 2, ended.said
    assert "recipes/a.yaml:6: error: key 'lora.rr' does not exist [unknown-key]\n  did you mean 'lora.r'?" in ended.out
    assert "recipes/b.yaml:7: warning: train.learning_rate=1e-1 is above" in ended.out
    assert ended.out.rstrip().endswith("1 error, 1 warning, 0 notes")
    assert "(2 of your own, " in ended.out
    assert not ended.err
    assert sorted(path.name for path in folder.iterdir()) == ["recipes"]
    missing = sft("lint", "recipes/none.yaml", cwd=folder)
    assert missing.code == 2
    assert "recipes/none.yaml: there is no such file" in missing.err


def test_exit_codes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes/b.yaml"]) == 0
    assert main(["recipes/b.yaml", "--strict"]) == 2
    assert main(["recipes/a.yaml"]) == 2
    (folder / "README.md").write_text("x")
    capsys.readouterr()
    assert main(["README.md"]) == 0
    assert "README.md is no recipe and no file of conf/" in capsys.readouterr().err


def test_a_folder_without_files_of_its_own_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    shown = capsys.readouterr()
    assert "has no recipes and no conf of its own" in shown.err
    assert "(0 of your own, " in shown.out
    assert main(["--strict", "."]) == 2


def test_what_lies_outside_of_the_repository_is_a_notice_without_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "here/.git").mkdir(parents=True)
    os.chdir(folder / "here")  # the fixture goes back
    assert main(["--github", str(folder / "recipes/a.yaml")]) == 2
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("::notice title=sft-runner lint%3A unknown-key::")
    assert "recipes/a.yaml:6: key 'lora.rr' does not exist" in first


def test_annotations_for_github(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = folder / "a, b"
    shutil.move(folder / "recipes", project / "recipes")
    (folder / ".git").mkdir()
    os.chdir(project)  # the fixture goes back
    assert main(["--github", "recipes"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "::error file=a%2C b/recipes/a.yaml,line=6,col=3,title=sft-runner lint%3A unknown-key::"
        "key 'lora.rr' does not exist%0Adid you mean 'lora.r'?"
    )
    assert lines[1].startswith("::warning file=a%2C b/recipes/b.yaml,line=7,col=9,")


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "recipes"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["files"], found["errors"], found["warnings"], found["notes"]) == (2, 1, 1, 0)
    first = found["findings"][0]
    assert (first["path"], first["line"], first["column"]) == ("recipes/a.yaml", 6, 3)
    assert (first["rule"], first["severity"]) == ("unknown-key", "error")
    assert main(["--json", "recipes/none.yaml"]) == 2
    assert "recipes/none.yaml" in json.loads(capsys.readouterr().out)["error"]


def test_the_rules_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rules"]) == 0
    assert "learning-rate" in capsys.readouterr().out


def test_nothing_heavy_is_imported(folder: Path) -> None:
    program = (
        "import sys; from sft_runner.commands.lint import main; main([]);"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]; assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_hundred_recipes_take_less_than_composing_them_with_hydra() -> None:
    """Beside Hydra composing ten of them in one run, so that a slow machine does not decide."""
    program = [sys.executable, str(ROOT / "benchmarks" / "lint.py"), "--hydra", "10"]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    found = (re.match(r"(.*?)\s+([\d.]+) s", line) for line in ended.stdout.splitlines()[1:])
    seconds = {line[1]: float(line[2]) for line in found if line}
    assert seconds["lint"] < 5 * seconds["Hydra, composing"]  # of a tenth of them: half of Hydra's time
    assert seconds["with records"] < 10 * seconds["Hydra, composing"]


@pytest.mark.slow
def test_pre_commit_runs_the_hook(folder: Path) -> None:
    """The real pre-commit on a repository of the hooks and one of a user; git speaks to neither network nor home."""
    pytest.importorskip("pre_commit")
    hooks = folder / "hooks"
    hooks.mkdir()
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", hooks)
    (folder / "README.md").write_text("x")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PRE_COMMIT_HOME": str(folder / "home"),
        "GIT_ALLOW_PROTOCOL": "file",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }

    def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)

    for place in (hooks, folder):
        assert run("git", "init", "-q", cwd=place).returncode == 0
    for words in (["add", "-A"], ["commit", "-q", "-m", "hooks"]):
        assert run("git", *words, cwd=hooks).returncode == 0
    assert run("git", "add", "recipes", "README.md", cwd=folder).returncode == 0
    command = [sys.executable, "-m", "pre_commit", "try-repo", str(hooks), "sft-runner-lint", "--files"]
    broken = run(*command, "recipes/a.yaml", "README.md", cwd=folder)
    assert broken.returncode == 1, broken.stdout + broken.stderr
    assert "recipes/a.yaml:6: error: key 'lora.rr' does not exist [unknown-key]" in broken.stdout
    other = run(*command, "recipes/b.yaml", "README.md", cwd=folder)  # a.yaml is not asked for
    assert other.returncode == 0, other.stdout + other.stderr
    assert "Passed" in other.stdout
    assert "Skipped" in run(*command, "README.md", cwd=folder).stdout


def test_the_project_uses_its_own_hooks() -> None:
    yaml = pytest.importorskip("yaml")
    offered = {one["id"]: one for one in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    used = {one["id"]: one for repository in repositories for one in repository["hooks"]}
    for name, hook in offered.items():
        assert used[name]["entry"].startswith(hook["entry"])
        assert hook["language"] == used[name]["language"] == "system"
    for hooks in (offered, used):
        hook = hooks["sft-runner-lint"]
        assert (hook["pass_filenames"], hook.get("always_run", False), hook["require_serial"]) == (True, False, True)
        pattern = re.compile(hook["files"])
        assert all(
            map(pattern.search, ["recipes/a.yaml", "sub/conf/model/a.yml", "recipes/a.lock", "recipes/a.results.md"])
        )
        assert not any(map(pattern.search, ["docs/a.yaml", "recipes/recipe.schema.json", "recipes/examples/qa.jsonl"]))
        lock = hooks["sft-runner-lock"]
        assert lock["pass_filenames"] is False
        assert re.search(lock["files"], "recipes/a.lock")
        assert not re.search(lock["files"], "sub/recipes/a.yaml")  # `lock --check` looks at this folder only
