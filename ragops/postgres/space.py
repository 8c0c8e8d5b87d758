"""Find out what an archive needs, and what is free where the server writes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from ragops.facts import SpaceFacts, TableFacts
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.statements import statement


def read_space(connection: Connection, tables: Iterable[TableFacts]) -> SpaceFacts:
    """Return the bytes of the tables and the free space of the server's disks, where the server runs here."""
    # Imported here because psutil takes longer to import than these queries take to run.
    from ragops.postgres.server_host import working_folder

    oids = [table.oid for table in tables]
    sizes: dict[int, int] = dict(connection.execute(statement("space", "table_bytes"), {"oids": oids}).fetchall())
    max_wal_bytes, data, tablespace = fetch_row(connection, statement("space", "disks"))
    backend_pid, started_s, _ = fetch_row(connection, statement("catalog", "backend"))
    # A server process works in the data directory, which not every role may read as a setting.
    here = working_folder(backend_pid, started_s)
    if here is None or not (data or here.is_absolute()):
        return SpaceFacts(sizes, max_wal_bytes)
    folder = Path(data) if data else here
    rows = Path(tablespace) if tablespace else folder
    free = free_bytes(rows)
    wal = folder / "pg_wal"
    is_other_disk = free is not None and _disk(wal) not in (None, _disk(rows))
    return SpaceFacts(
        sizes,
        max_wal_bytes,
        free=free,
        folder=None if free is None else str(rows),
        wal_free=free_bytes(wal) if is_other_disk else None,
    )


def free_bytes(folder: Path) -> int | None:
    """Return the free bytes of a folder's disk; None if this process may not look."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _disk(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:
        return None
