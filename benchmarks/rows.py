"""Rows as the prepare stage writes them, and a part of them."""

import shutil
from pathlib import Path

from sft_runner.data.prepared import HELD_OUT, TRAIN

SEED = 0


def prepare(model: str, rows: Path, folder: Path, length: int, *overrides: str) -> tuple[Path, Path]:
    """Prepare a file of rows for a model; returns the folder of the model and that of the rows."""
    from sft_runner import load
    from sft_runner.model.files import require
    from sft_runner.stages.prepare import Prepare

    words = ("hardware=cpu", f"model.name={model}", f"data.path={rows}", f"data.max_length={length}", *overrides)
    config = load(*words).config
    folder.mkdir(parents=True)
    Prepare().execute(config, {}, folder, lambda **_: None)
    return Path(require(config.model)), folder


def shortened(prepared: Path, folder: Path, rows: int) -> int:
    """Rows drawn from those to learn, in their order, and all held-out ones; returns the tokens to learn from."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with pa.memory_map(str(prepared / TRAIN)) as file:
        table = pa.ipc.open_stream(file).read_all()
    drawn = np.sort(np.random.default_rng(SEED).permutation(table.num_rows)[:rows])
    table = table.take(pa.array(drawn)).combine_chunks()
    with pa.OSFile(str(folder / TRAIN), "wb") as target, pa.ipc.new_stream(target, table.schema) as writer:
        writer.write_table(table)
    shutil.copy(prepared / HELD_OUT, folder / HELD_OUT)
    return int(pc.sum(pc.list_value_length(table.column("input_ids"))).as_py())
