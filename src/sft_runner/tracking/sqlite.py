"""The SQLite file that holds the tracked runs where there is no server: made whole or not at all, and movable.

Knows files and SQL; the tables themselves are made by the tracker that owns them.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from sft_runner.disk import explained, sync_folder
from sft_runner.errors import MachineError

_CREATE_SECONDS = 120.0
"""How long a second run waits for the first to make the file."""


def create(path: Path, make_tables: Callable[[str], object]) -> None:
    """Make the database unless it is there and opens; `make_tables` gets the URI to fill.

    MLflow runs 68 schema migrations, each with several syncs of the disk: seconds, in which a kill leaves a file that
    no later run can open and a second run trips over the first. So the tables are made aside, under a lock and without
    syncing, and the finished file is synced once and renamed.
    """
    if path.exists():
        return _check(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=_CREATE_SECONDS):
            if not path.exists():
                _create(path, make_tables)


def move(path: Path, before: str, after: str) -> None:
    """Point the experiments and runs whose artifacts lay below the URI `before` to the URI `after`."""
    with closing(sqlite3.connect(path, timeout=20)) as database, database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(
                f"UPDATE {table} SET {column} = :after || substr({column}, :length + 1)"
                f" WHERE {column} = :before OR substr({column}, 1, :length + 1) = :before || '/'",
                {"before": before, "after": after, "length": len(before)},
            )


def _check(path: Path) -> None:
    """Raise `MachineError` now where MLflow would try for 100 s to open the file."""
    try:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise MachineError(
            f"{path} cannot be opened as a database: {error}", "move it away; a new one is made"
        ) from error


def _create(path: Path, make_tables: Callable[[str], object]) -> None:
    from sqlalchemy import Connection, Engine, event

    engines: set[Engine] = set()

    def do_not_sync(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    def remember(connection: Connection) -> None:
        engines.add(connection.engine)

    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)  # of a run that was killed here
    aside.with_name(f"{aside.name}-journal").unlink(missing_ok=True)
    event.listen(Engine, "connect", do_not_sync)
    event.listen(Engine, "engine_connect", remember)
    try:
        make_tables(f"sqlite:///{aside}")
    finally:
        event.remove(Engine, "connect", do_not_sync)
        event.remove(Engine, "engine_connect", remember)
        for engine in engines:
            engine.dispose()
    with open(aside, "rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)
    sync_folder(path.parent)
