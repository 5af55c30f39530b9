"""Data sets on the hub: found in a cache laid out by hand, without a network."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from sft_runner.config.schema import Data
from sft_runner.data.files import check, content_hash, fetch, missing, read, source_files
from sft_runner.data.sources import sources_of
from sft_runner.data.sources.hub import HubAddress
from sft_runner.errors import MachineError, UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GOOD = '{"question": "q", "answer": "a"}\n'


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def snapshot(cache: Path, *names: str, branch: str = "main") -> Path:
    """The data set `org/set` as `hf download` leaves it: blobs, and links to them."""
    folder = cache / "datasets--org--set"
    for name in names:
        link, blob = folder / "snapshots" / COMMIT / name, folder / "blobs" / name.replace("/", "-")
        for path in (link, blob):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(GOOD)
        link.symlink_to(blob)
    (folder / "refs" / branch).parent.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / branch).write_text(COMMIT)
    return folder


def at(revision: str = COMMIT, glob: str = "") -> Data:
    return Data(path=f"hf://datasets/org/set@{revision}" + (f"/{glob}" if glob else ""))


def found(data: Data) -> list[str]:
    return [path.as_posix().partition(f"{COMMIT}/")[2] for path in source_files(data)]


def refused(data: Data) -> str:
    with pytest.raises(UserError) as caught:
        source_files(data)
    return caught.value.show()


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs%2Fconvert%2Fparquet"])
def test_a_branch_or_tag_is_refused_with_the_commit_that_the_cache_knows_it_by(cache: Path, revision: str) -> None:
    snapshot(cache, "rows.jsonl", branch=revision.replace("%2F", "/"))
    said = refused(at(revision, glob="data/*.jsonl"))
    assert "is not a commit" in said
    assert f"pin it, so that the data stays what it is: hf://datasets/org/set@{COMMIT}/data/*.jsonl" in said
    assert "hf://datasets/org/set@COMMIT" in refused(at("other"))


def test_a_commit_that_is_in_the_cache_is_found(cache: Path) -> None:
    snapshot(cache, "README.md", ".gitattributes", "set.py", "rows.jsonl")
    data = at()
    assert found(data) == ["rows.jsonl"]
    assert missing(data) == []
    (source,) = sources_of(data)
    assert source.name == "set"
    assert [row.source for row in read(source, data, Counter())] == ["rows.jsonl:1"]
    check(data)


def test_what_is_not_in_the_cache_is_missing_and_told_in_one_line(cache: Path) -> None:
    snapshot(cache, "rows.jsonl")
    data = at("0" * 40)
    assert missing(data) == [data.path]
    assert source_files(data) == []
    check(data)
    for action in (
        lambda: fetch(data),
        lambda: content_hash(data),
        lambda: list(read(sources_of(data)[0], data, Counter())),
    ):
        with pytest.raises(MachineError, match="data.path: ") as caught:
            action()
        assert "\n" not in caught.value.message


def test_a_download_that_was_cut_off_is_missing(cache: Path) -> None:
    folder = snapshot(cache, "data/train-0.jsonl", "data/train-1.jsonl", "set.py")
    entry = {"size": len(GOOD), "blob_id": "0" * 40}
    listing = {name: entry for name in ("data/train-0.jsonl", "data/train-1.jsonl", "set.py")}
    (folder / "trees").mkdir()
    (folder / "trees" / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": listing}))
    assert missing(at()) == []
    (folder / "snapshots" / COMMIT / "set.py").unlink()
    assert missing(at()) == []
    (folder / "snapshots" / COMMIT / "data/train-1.jsonl").unlink()
    assert missing(at()) == [at().path]
    assert missing(at(glob="data/train-0*")) == []


def test_some_of_the_parts_that_names_tell_of_are_not_the_whole(cache: Path) -> None:
    snapshot(cache, *(f"data/train-{part:05}-of-00003.jsonl" for part in (0, 2)), "data/test-00000-of-00001.jsonl")
    assert missing(at()) == [at().path]
    assert missing(at(glob="data/train-*.jsonl"))
    assert not missing(at(glob="data/test-*.jsonl"))
    assert not missing(at(glob="data/train-00002-of-00003.jsonl"))
    snapshot(cache, "data/train-00001-of-00003.jsonl")
    assert len(found(at(glob="data/train-*.jsonl"))) == 3


def test_several_splits_or_configurations_are_listed(cache: Path) -> None:
    snapshot(
        cache,
        "data/train-00000-of-00002.jsonl",
        "data/train-00001-of-00002.jsonl",
        "data/test-00000-of-00001.jsonl",
        "dataset_infos.json",
    )
    said = refused(at())
    assert "several configurations or splits: data/test*, data/train*" in said
    assert f"hf://datasets/org/set@{COMMIT}/data/test*" in said
    assert found(at(glob="data/test*")) == ["data/test-00000-of-00001.jsonl"]
    assert len(found(at(glob="data/train-*.jsonl"))) == 2
    assert len(found(at(glob="data"))) == 3
    assert found(at(glob="data/train-00001-of-00002.jsonl")) == ["data/train-00001-of-00002.jsonl"]
    assert "there are data/test-00000" in refused(at(glob="data/dev*"))


def test_one_split_over_several_files_is_clear(cache: Path) -> None:
    snapshot(cache, "data/train-0.jsonl", "data/train-1.jsonl")
    assert found(at()) == ["data/train-0.jsonl", "data/train-1.jsonl"]
    snapshot(cache, "other/train-0.jsonl")
    assert "data/train*, other/train*" in refused(at())


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("hf://datasets/org/set", "names no revision\n  pin a commit"),
        ("hf://datasets/org/set/data/a.jsonl", "names no revision"),
        ("hf://datasets/set@main", "is no address of a data set"),
        ("hf://org/model@main", "is no address of a data set"),
        ("hf://datasets/org/set@main/../../x.jsonl", "is no address of a data set"),
        ("hf://datasets/org/set@%2E%2E%2Fx", "is not a commit"),
        (f"hf://datasets/org/--@{COMMIT}", "write hf://datasets/OWNER/NAME@COMMIT"),
    ],
)
def test_an_address_that_is_not_well_formed_is_told(cache: Path, path: str, told: str) -> None:
    assert told in refused(Data(path=path))


def test_nothing_but_data_files_is_ever_asked_for() -> None:
    for glob in ("", "*", "data/*", "data", "set.py", "**/*.py"):
        patterns = HubAddress("org/set", COMMIT, glob)._patterns()
        assert patterns
        assert all(pattern.endswith((".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".gz")) for pattern in patterns)


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """A hub with one data set, as small as its client takes it; the paths that were asked for."""
    files = {"data/train.jsonl": GOOD.encode(), "set.py": b"raise SystemExit", "README.md": b"# set"}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if "/revision/" in self.path:
                self._say(json.dumps({"id": "org/set", "sha": COMMIT}).encode(), "application/json")
            elif "/tree/" in self.path:
                listed = [{"type": "file", "path": n, "size": len(b), "oid": "0" * 40} for n, b in files.items()]
                self._say(json.dumps(listed).encode(), "application/json")
            else:
                self._say(files[self.path.partition(f"/resolve/{COMMIT}/")[2]], "text/plain")

        do_HEAD = do_GET

        def _say(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            headers = {"ETag": f'"{len(content):040}"', "X-Repo-Commit": COMMIT, "Content-Type": kind}
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_a_data_set_is_fetched_without_its_code(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    """In a process of its own, because the client reads its address when it is imported."""
    address, asked = hub
    program = (
        "from sft_runner.config.schema import Data; from sft_runner.data.files import fetch, missing, source_files;"
        f"data = Data(path='hf://datasets/org/set@{COMMIT}'); assert missing(data); fetch(data);"
        "assert not missing(data); print(*(path.name for path in source_files(data)))"
    )
    environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "PATH": "/usr/bin:/bin"}
    environment |= {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["train.jsonl"]
    assert asked
    assert not [path for path in asked if path.endswith(".py")]
    shutil.rmtree(tmp_path / "hub")
