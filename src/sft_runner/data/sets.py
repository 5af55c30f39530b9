"""Rows that are scored and never learned (`evaluate.sets`), read and encoded as the rows that are."""

from dataclasses import replace

from sft_runner.config.schema import Config, Data


def as_data(config: Config) -> Data | None:
    """The sets in the words of `data.*`, which say how they become tokens; None where there are none."""
    if not config.evaluate.sets:
        return None
    return replace(
        config.data,
        path=None,
        sources=config.evaluate.sets,
        format="auto",
        columns={},
        mixed=False,
        limit=None,
        held_out=0.0,
    )
