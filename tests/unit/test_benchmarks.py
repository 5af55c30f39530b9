"""The benchmarks run: on a random model and a few rows, so that they do not rot between two looks at them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from random_models import chat_row, write_model, write_rows

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path

from benchmarks import quality, rows, trainers

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    tokens = rows.shortened(folder / "prepare", folder / "rows", 8)
    task = trainers.Task(folder / "base", folder / "rows", folder / "work", batch_size=4, micro_batch=4, length=256)
    found = {"sft_runner": trainers.sft_runner(task), "TRL": trainers.trl(task)}
    for one in found.values():
        assert 0 < one.cpu_seconds and one.memory > 1e8 and one.loss > 1, one
    assert abs(found["sft_runner"].loss - found["TRL"].loss) < 1e-3 * found["TRL"].loss, found
    losses = {way: [quality.held_out_loss(task, one.adapter, 4)] for way, one in found.items()}
    print(tokens, quality.verdict(losses))
"""


@pytest.mark.slow
def test_trainers_get_the_same_rows(tmp_path: Path) -> None:
    """Same rows, same start, same order: the losses of this project and of bare TRL agree."""
    write_model(tmp_path / "base")
    rows = [chat_row("Say it " * (i % 5), "abc" * (1 + i % 7), i) for i in range(12)]
    write_rows(tmp_path / "prepare", rows, rows[:4])
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert "no worse than TRL" in ended.stdout
