"""The benchmark of the merge runs, and its last line is what it is read for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [[], ["--dora", "--warm"]], ids=["lora", "dora"])
def test_its_last_line_is_the_ratio_to_a_copy(tmp_path: Path, kind: list[str]) -> None:
    command = ["-m", "benchmarks.merge", "--shape", "tiny", "--rounds", "1", "--peers", str(tmp_path), *kind]
    ended = subprocess.run(
        [sys.executable, *command, "--work", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PEERS": ""},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert re.fullmatch(r"sft_runner / cp -r = \d+\.\d\d, medians of 1", lines[-1])
    (needed,) = (found for line in lines if (found := re.fullmatch(r"sft_runner needs ([\d,]+) MB above .*", line)))
    assert int(needed[1].replace(",", "")) < 200
    assert "PEFT is not here, so it is not measured" in lines
    assert not list(tmp_path.iterdir())
