"""Git repositories as sources: fetched from a bare repository on this machine."""

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from sft_runner.config.schema import Data
from sft_runner.data.files import check, content_hash, fetch, missing, read, source_files
from sft_runner.data.sources import sources_of
from sft_runner.data.sources.git import GitAddress
from sft_runner.errors import DataError, MachineError, UserError

GOOD = '{"question": "q", "answer": "a"}\n'


def git(folder: Path, *words: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    named = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(folder), *named, *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


class Repository:
    """A bare repository with two commits, and the sum of what could go wrong in it."""

    def __init__(self, folder: Path) -> None:
        work, self.bare = folder / "work", folder / "bare" / "project.git"
        work.mkdir()
        git(work, "init", "-q")
        (work / "docs src" / "sub").mkdir(parents=True)
        (work / "docs src" / "rows.jsonl").write_text(GOOD)
        (work / "docs src" / "sub" / "more.jsonl").write_text(GOOD)
        (work / "large").mkdir()
        (work / "large" / "other.jsonl").write_text(GOOD * 1000)
        (work / "docs src" / "link.jsonl").symlink_to("/etc/hostname")
        (work / ".gitattributes").write_text("*.jsonl filter=evil\n")
        git(work, "add", "-A")
        git(work, "commit", "-qm", "first")
        self.first = git(work, "rev-parse", "HEAD")
        (work / "docs src" / "rows.jsonl").write_text(GOOD * 2)
        git(work, "commit", "-qam", "second")
        self.bare.parent.mkdir()
        git(folder, "clone", "-q", "--bare", str(work), str(self.bare))
        git(self.bare, "config", "uploadpack.allowFilter", "true")

    def at(self, commit: str, more: str = "#subdirectory=docs%20src") -> Data:
        return Data(path=f"git+file://{self.bare}@{commit}{more}")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Repository(tmp_path)


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache/sft_runner/git").iterdir() if path.suffix != ".lock")


def test_a_folder_is_fetched_as_of_its_commit(repository: Repository, tmp_path: Path) -> None:
    data = repository.at(repository.first)
    assert missing(data) == [data.path]
    with pytest.raises(MachineError, match="is not on this machine"):
        content_hash(data)
    check(data)
    fetch(data)
    (folder,) = kept(tmp_path)
    files = source_files(data)
    root = tmp_path / "cache/sft_runner/git" / folder / "docs src"
    assert [path.relative_to(root).as_posix() for path in files] == ["link.jsonl", "rows.jsonl", "sub/more.jsonl"]
    assert missing(data) == []
    assert files[1].read_text() == GOOD, "the commit, not the branch"
    assert not (root.parent / "large").exists(), "nothing beside the folder"
    assert not (root.parent / ".git").exists()
    assert sources_of(data)[0].name == "docs src"
    fetch(data)


def test_a_link_does_not_lead_to_files_of_this_machine(repository: Repository) -> None:
    data = repository.at(repository.first)
    fetch(data)
    link = source_files(data)[0]
    assert not link.is_symlink()
    assert link.read_text() == "/etc/hostname"


def test_two_commits_are_two_sources(repository: Repository, tmp_path: Path) -> None:
    first, second = repository.at(repository.first), repository.at(git(repository.bare, "rev-parse", "main"))
    fetch(first)
    fetch(second)
    assert len(kept(tmp_path)) == 2
    assert content_hash(first) != content_hash(second)
    rows = read(sources_of(second)[0], Data(path=second.path, bad_rows="drop"), Counter())
    assert [row.source for row in rows] == ["rows.jsonl:1", "rows.jsonl:2", "sub/more.jsonl:1"]


def test_a_whole_repository_is_fetched_without_a_folder(repository: Repository) -> None:
    data = repository.at(repository.first, "")
    fetch(data)
    assert len(source_files(data)) == 4
    assert sources_of(data)[0].name == "project"


def test_a_fetch_that_was_killed_leaves_nothing_that_counts(repository: Repository, tmp_path: Path) -> None:
    data = repository.at(repository.first)
    address = GitAddress.parsed(str(data.path))
    partial = address._folder().with_suffix(".partial")
    (partial / "docs src").mkdir(parents=True)
    (partial / "docs src" / "half.jsonl").write_text(GOOD[:5])
    assert missing(data) == [data.path]
    fetch(data)
    assert [path.name for path in source_files(data)] == ["link.jsonl", "rows.jsonl", "more.jsonl"]
    assert not partial.exists()


def test_hooks_filters_and_the_repository_around_have_no_part(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, mark = tmp_path / "template", tmp_path / "ran"
    (template / "hooks").mkdir(parents=True)
    (template / "hooks" / "post-checkout").write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    (template / "hooks" / "post-checkout").chmod(0o755)
    (tmp_path / "gitconfig").write_text(f"[init]\n templateDir = {template}\n[core]\n hooksPath = {template}/hooks\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "work" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "work"))
    fetch(repository.at(repository.first))
    assert not mark.exists()
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_WORK_TREE")
    assert git(tmp_path / "work", "rev-parse", "HEAD") == git(repository.bare, "rev-parse", "main")


def test_what_cannot_be_fetched_is_told_in_one_line(repository: Repository, tmp_path: Path) -> None:
    for data in (repository.at("0" * 40), Data(path=f"git+file://{tmp_path}/none.git@{'0' * 40}")):
        with pytest.raises(MachineError, match=r"data\.path: file://.* at 000000000000 cannot be fetched: ") as caught:
            fetch(data)
        assert "\n" not in caught.value.message
        assert missing(data)
    with pytest.raises(DataError, match="there is no folder none in "):
        fetch(repository.at(repository.first, "#subdirectory=none"))
    assert all(name.endswith(".partial") for name in kept(tmp_path))


def test_git_must_be_there(repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="cannot be fetched") as caught:
        fetch(repository.at(repository.first))
    assert "is git installed?" in caught.value.hint


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("git+https://example.org/a/b", "names no commit"),
        ("git+https://example.org/a/b#subdirectory=c", "names no commit"),
        ("git+https://example.org/a/b@main", "'main' is not a commit of 40 hexadecimal digits"),
        (f"git+http://example.org/a/b@{COMMIT}", "is no address of a git repository"),
        (f"git+ext::sh -c date@{COMMIT}", "is no address of a git repository"),
        (f"git+ssh://-oProxyCommand=date/a@{COMMIT}", "is no address of a git repository"),
        (f"git+file://a/b@{COMMIT}", "is no address of a git repository"),
        (f"git+https://me:secret@example.org/a/b@{COMMIT}", "must not carry a user or a password"),
        (f"git+https://token@example.org/a/b@{COMMIT}", "must not carry a user or a password"),
        (f"git+https://example.org/a/b@{COMMIT}#subdirectory=../c", "names no folder"),
        (f"git+https://example.org/a/b@{COMMIT}#subdirectory=", "names no folder"),
        (f"git+https://example.org/a/b@{COMMIT}#subdirectory=.git", "names no folder"),
        (f"git+https://example.org/a/b@{COMMIT}#subdirectory=a%0Ab", "names no folder"),
        (f"git+https://example.org/a/b@{COMMIT}#egg=c", "names no folder"),
    ],
)
def test_an_address_that_is_not_well_formed_is_told(path: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        sources_of(Data(path=path))
    assert told in caught.value.show()
    assert "secret" not in caught.value.show()


@pytest.mark.parametrize(
    ("path", "url", "subdirectory"),
    [
        (f"git+https://example.org/a/b.git@{COMMIT}#subdirectory=docs_src/", "https://example.org/a/b.git", "docs_src"),
        (f"git+ssh://git@example.org/a/b@{COMMIT}", "ssh://git@example.org/a/b", ""),
    ],
)
def test_addresses_are_pips(path: str, url: str, subdirectory: str) -> None:
    assert GitAddress.parsed(path) == GitAddress(url, COMMIT, subdirectory)
