"""Tell what a demo made from what is somebody else's: the demo wipes only its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from ragops.errors import RagopsError
from ragops.paths import demo_file
from ragops.postgres.archive import all_archives
from ragops.postgres.catalog import LedgerAccess, ledger_access
from ragops.postgres.connection import Connection
from ragops.postgres.ledger import all_campaigns
from ragops.session import Session

SOURCES = ("folder", "table", "query", "manifest")


def refuse_foreign_data(session: Session, corpus: Path, locations: Collection[str]) -> None:
    """Raise RagopsError when the embedded database holds anything that no demo made.

    `locations` are the files that earlier demos may have stored.
    """
    found = [*_ledger(session, corpus), *_rows(session, corpus, locations)]
    if found:
        raise RagopsError(
            "the embedded database holds data that the demo did not create; nothing was changed",
            where=session.target.label,
            actual="\n".join(found),
            expected="an empty database, or one that only demos have filled",
            hint="RAGOPS_DATA_DIR=NEW_FOLDER ragops demo",
        )


def own_campaigns(connection: Connection, corpus: Path) -> list[int]:
    """Return the campaigns whose documents come from the demo's corpus."""
    return [row.id for row in all_campaigns(connection) if row.source_folder == str(corpus)]


def _ledger(session: Session, corpus: Path) -> Iterator[str]:
    """Yield unfinished campaigns and archives of others: an undo of theirs needs the tables as they are."""
    connection = session.connection
    if ledger_access(connection) is not LedgerAccess.READABLE:
        return
    own = own_campaigns(connection, corpus)
    for row in all_campaigns(connection):
        if row.id not in own and not row.is_finished:
            yield f"campaign {row.id} ({row.name}) is unfinished: {row.status}"
    for archive in all_archives(connection):
        if archive.campaign not in own and archive.restored_at is None and archive.rows:
            yield f"an archive of {archive.rows:,} rows of {archive.table} (ragops archive list)"


def _rows(session: Session, corpus: Path, locations: Collection[str]) -> Iterator[str]:
    """Yield the tables with rows of another origin."""
    tables = {name: table for name, table in session.facts(exact=True).tables.items() if table and table.rows}
    if not tables:
        return
    connection = session.connection
    is_known = ledger_access(connection) is LedgerAccess.READABLE
    source = session.queue.load_source() if is_known else None
    folder = source.get("folder") if source else None
    if not demo_file().is_file() or folder != str(corpus):
        origin = next((str(source[kind]) for kind in SOURCES if source.get(kind)), "") if source else ""
        filled = ", ".join(f"{table.rows:,} rows of {table.qualified}" for table in tables.values())
        yield filled + (f", from {origin}" if origin else "")
        return
    foreign = session.queue.foreign_documents(locations) if "documents" in tables else 0
    if foreign:
        yield f"{foreign:,} documents whose file is none of the demo's corpus"
