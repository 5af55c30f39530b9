"""A wheel carries `conf`, `recipes` and the embedded model; the user's own folders still come first."""

import subprocess
import sys
from pathlib import Path

import pytest

from command import sft

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_an_installed_wheel_plans_and_finds_the_users_recipes(tmp_path: Path) -> None:
    wheels, site, work = tmp_path / "wheels", tmp_path / "site", tmp_path / "work"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    assert (site / "sft_runner" / "conf" / "sft.yaml").is_file()
    (work / "recipes").mkdir(parents=True)
    (work / "recipes" / "mine.yaml").write_text("# goal: mine\ndefaults: [quickstart, _self_]\nlora: {r: 3}\n")
    listed = sft("recipes", cwd=work, PYTHONPATH=str(site))
    assert "mine" in listed.out
    assert "quickstart" in listed.out
    planned = sft("recipe=mine", "dry_run=true", cwd=work, PYTHONPATH=str(site))
    assert planned.code == 0, planned.said
    assert "r=3" in planned.out
