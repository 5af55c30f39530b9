"""Rows that are scored and never learned (`evaluate.sets`), read and encoded as the rows that are.

The baseline stage writes them into its folder, so that base and tuned model are scored on the same tokens.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_runner.config.schema import Config, Data
from sft_runner.config.schema_evaluate import SET_LIMIT
from sft_runner.data.sources import Source, sources_of
from sft_runner.errors import DataError

if TYPE_CHECKING:
    from sft_runner.data.account import Account
    from sft_runner.stages.stage import Report

KEY = "evaluate.sets"
FOLDER, ACCOUNT = "sets", "sets.json"
"""Where the rows of each set are, below what the baseline stage wrote, and what became of each row that was read."""


class _Sets(Data):
    """The sets as `data.*` says how they become tokens."""

    told_as = KEY


def as_data(config: Config) -> Data | None:
    """The sets in the words of `data.*`, which say how they become tokens; None where there are none.

    A row that is too long is left out, whatever becomes of those that are learned: half a row has another score.
    """
    if not config.evaluate.sets:
        return None
    shared: dict[str, Any] = {item.name: getattr(config.data, item.name) for item in fields(Data)}
    own: dict[str, Any] = {
        "path": None,
        "sources": {
            name: {"limit": SET_LIMIT, **entry} if isinstance(entry, Mapping) else entry
            for name, entry in config.evaluate.sets.items()
        },
        "format": "auto",
        "columns": {},
        "mixed": False,
        "limit": None,
        "held_out": 0.0,
        "overlong": "drop",
    }
    return _Sets(**shared | own)


def told(config: Config) -> list[str]:
    """The line of the plan that names the sets."""
    data = as_data(config)
    sources = sources_of(data) if data else []
    named = [f"{one.name} {f'up to {one.limit:,}' if one.limit else 'all'} rows" for one in sources]
    return [f"also scored: {', '.join(named)}"] if named else []


def write(config: Config, folder: Path, report: "Report") -> dict[str, Path]:
    """Encode the rows of each set into `sets/NAME.arrow` below `folder`, in the columns of prepared rows; `sets.json`
    says what became of them. Returns name -> file; nothing is written where there are no sets.

    Raises `DataError` for rows that cannot be read, and for a set of which no row can be scored.
    """
    from sft_runner.data.template import ChatTemplate
    from sft_runner.disk import explained, write_json
    from sft_runner.model.files import require

    data = as_data(config)
    if data is None:
        return {}
    template = ChatTemplate(require(config.model), data)
    accounts: dict[str, Any] = {}
    with explained(folder):
        (folder / FOLDER).mkdir(exist_ok=True)
        for source in sources_of(data):
            report(message=f"rows of {source.name}")
            accounts[source.name] = _encode(data, template, source, folder / FOLDER / f"{source.name}.arrow")
        write_json(folder / ACCOUNT, accounts)
    return written(folder)


def written(folder: Path) -> dict[str, Path]:
    """Name -> file of the sets that `write` left below a folder."""
    return {file.stem: file for file in sorted((folder / FOLDER).glob("*.arrow"))}


def notes(folder: Path, prepared: Path) -> list[str]:
    """What a person should know of the sets below a folder: rows that are not scored, and rows whose prompts are
    learned, token by token, from what `prepare` wrote."""
    from sft_runner.data import columns
    from sft_runner.data.prepared import TRAIN
    from sft_runner.disk import read_json

    found: list[str] = []
    accounts, sets = read_json(folder / ACCOUNT) or {}, written(folder)
    learned = set(columns.prompts(prepared / TRAIN)) if sets else set()
    for name, file in sets.items():
        rows = accounts.get(name, {})
        if dropped := rows.get("dropped"):
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
            found.append(f"{KEY}.{name}: {sum(dropped.values()):,} of {rows['read']:,} rows are not scored: {reasons}")
        asked = list(columns.prompts(file))
        if known := sum(prompt in learned for prompt in asked):
            text = f"{KEY}.{name}: the prompts of {known:,} of {len(asked):,} rows are learned too"
            found.append(f"{text}, so its scores say less about what was forgotten")
    return found


def _encode(data: Data, template: Any, source: Source, target: Path) -> dict[str, Any]:
    """Write one set; returns what became of its rows."""
    from sft_runner.data import pool, prepared
    from sft_runner.data.account import Account
    from sft_runner.data.encoding import Encoder

    counted, rows = Account([source]), target.with_suffix(".rows")
    pool.encode_all(Encoder(data, template, [source]), rows, counted, lambda read: None)
    (met,) = counted.sources
    if not met.used:
        raise _nothing_left(counted)
    prepared.write_all(rows, source.name, target)
    rows.unlink()
    dropped = {reason.value: count for reason, count in met.dropped.items() if count}
    return {"path": source.path, "read": met.read, "used": met.used, "added": met.added, "dropped": dropped}


def _nothing_left(counted: "Account") -> DataError:
    (met,) = counted.sources
    reasons = ", ".join(f"{count} {reason}" for reason, count in met.dropped.items() if count)
    places = [place for found in counted.examples.values() for place in found]
    hint = f"such as {', '.join(places[:5])}" if places else "give other rows"
    return DataError(f"{met.source.key}: none of {met.read} rows can be scored: {reasons}", hint)
