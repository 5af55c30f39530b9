"""Who may import what: data flows one way, and nothing heavy is imported before there is work."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "sft_runner"
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "vllm", "bitsandbytes", "matplotlib", "pandas")
HEAVY += ("mlflow", "tensorboard", "wandb")
WORK = ("stages/", "training/", "merging/", "evaluation/", "exporting/", "model/", "data/")
"""Where the work of stages is: the only folders that may import what is heavy."""


def imports(path: Path, at_start: bool = False) -> Iterator[str]:
    """Modules that a file imports: everywhere, or only those that run when it is imported."""
    tree = ast.parse(path.read_text())
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        if at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_start and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        pending += ast.iter_child_nodes(node)


def uses(path: Path, *packages: str) -> list[str]:
    return [name for name in imports(path) if name.split(".")[0] in packages]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_import_rules(path: Path) -> None:
    place = path.relative_to(SOURCE).as_posix()
    if not place.startswith("config/") and place != "cli.py":
        assert not uses(path, "hydra", "omegaconf"), "Hydra is known to cli and config only"
    for tracker in ("mlflow", "tensorboard", "wandb"):
        if place != f"tracking/{tracker}.py":
            assert not uses(path, tracker), f"{tracker} is known to tracking/{tracker}.py only"
    if not place.startswith(WORK):
        assert not uses(path, "torch", "trl", "transformers", "peft", "datasets", "vllm")
    if place.startswith(WORK):
        assert not [name for name in imports(path) if name.startswith("sft_runner.tracking")], "told, never asked"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_planning_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys; from sft_runner import load, plan; print(plan(load('recipe=quickstart')));"
        "import sft_runner.cli;"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]; assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "prepare" in ended.stdout


def test_nothing_names_code_to_run() -> None:
    for path in MODULES:
        assert "instantiate" not in path.read_text()
    for folder in ("conf", "recipes"):
        for path in (SOURCE.parents[1] / folder).rglob("*.yaml"):
            assert "_target_" not in path.read_text()
