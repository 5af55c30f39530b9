"""What all tests share: no network, no user caches, and the data beside the checkout where it is there."""

import gc
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sft_runner.launcher import Workers

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would children
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: see docs/decisions/0006
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> None:
    """What is imported by now is not looked through whenever rubbish is collected, which models and merges often ask
    for: a million objects of libraries, half a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that is not there yet, for each test another."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_caches(_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """File hashes are remembered in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(next(_caches)))


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Workers"]:
    """One warm worker for all runs that tests start from Python, as a sweep has one for all its jobs."""
    from sft_runner.launcher import Workers
    from sft_runner.runner import PRELOADED

    made = Workers()
    made.start([*PRELOADED, "trl.trainer.sft_trainer"], tmp_path_factory.mktemp("workers") / "worker.log")
    yield made
    made.close()


@pytest.fixture
def shared_data() -> Path:
    """Real data that is not part of the project; tests that want it are skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("no shared data beside this checkout")
    return folder
