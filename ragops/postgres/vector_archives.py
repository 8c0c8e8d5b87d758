"""Archives of vectors that were replaced in place: listed, dropped, put back where the new one still stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from ragops.playbook.names import TableName
from ragops.postgres.catalog import has_ragops_schema
from ragops.postgres.collisions import retry_collisions
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.encodings import jsonb, storable
from ragops.postgres.row_source import pin_text_form
from ragops.postgres.statements import identifier, statement
from ragops.postgres.vector_type import vector_schema, vector_words
from ragops.row_facts import TargetFacts

# Rows of one transaction: their locks are held for well below a second without an index, and for seconds with one.
BATCH_ROWS = 2_000
LOCK_TIMEOUT_S = 2.0
# Rows that were left, of which the ledger keeps the keys.
KEPT_KEYS = 20
# How often a row is tried that another transaction has changed at this moment.
ATTEMPTS = 5
UNDOING = "undoing"


@dataclass(frozen=True, slots=True)
class LeftRow:
    """A row that an undo leaves as it is."""

    key: str
    why: str
    """`changed`: its vector is not the campaign's any more. `deleted`: the row is gone."""

    def to_json(self) -> dict[str, object]:
        return {"key": self.key, "why": self.why}


@dataclass(frozen=True, slots=True)
class VectorArchive:
    """The vectors of one target that a campaign replaced, and how far an undo has come with them."""

    id: int
    campaign: int | None
    target: int
    name: str
    """Its own name, in the schema `ragops`."""
    relation: str
    """Qualified and quoted."""
    relation_oid: int
    column: str
    key: tuple[str, ...]
    undo: int | None
    undone_to: str | None
    restored: int
    changed: int
    deleted: int
    left: tuple[LeftRow, ...]
    is_restored: bool

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier("ragops", self.name)


@dataclass(frozen=True, slots=True)
class VectorArchiveRow:
    """One archive with its size, for people."""

    id: int
    campaign: int | None
    table: str
    column: str
    name: str
    bytes: int
    created_at: datetime
    restored_at: datetime | None
    rows: int | None
    """None for an archive whose table is gone."""


def read_vector_archives(connection: Connection) -> list[VectorArchive]:
    """Return every archive of vectors, the oldest first; none without a ledger of this version."""
    if not has_ragops_schema(connection):
        return []
    return [_archive(row) for row in connection.execute(statement("vector_archives", "archives")).fetchall()]


def _archive(row: Any) -> VectorArchive:
    id, campaign, target, name, relation, oid, column, key, undo, undone_to, *counts, left, is_restored = row
    restored, changed, deleted = counts
    rows = tuple(LeftRow(**one) for one in left)
    where = (id, campaign, target, name, relation, oid, column, tuple(key))
    return VectorArchive(*where, undo, undone_to, restored, changed, deleted, rows, is_restored)


def list_vector_archives(connection: Connection) -> list[VectorArchiveRow]:
    """Return every archive of vectors with rows and bytes, the oldest first; none in an older ledger."""
    found = connection.execute(statement("catalog", "ragops_table"), {"name": "vector_archive"}).fetchone()
    if found is None or not found[0]:
        return []
    rows: list[Any] = connection.execute(statement("vector_archives", "listed")).fetchall()
    return [VectorArchiveRow(*(*row, count_vectors(connection, row[4])[0])) for row in rows]


def count_vectors(connection: Connection, name: str) -> tuple[int | None, int]:
    """Return how many vectors an archive holds and how many of them were NULL; None if its table is gone."""
    if not fetch_row(connection, statement("vector_archives", "has_archive"), {"archive": name})[0]:
        return None, 0
    query = statement("vector_archives", "count", {"archive": sql.Identifier("ragops", name)})
    rows, missing = fetch_row(connection, query)
    return int(rows), int(missing)


def find_relation(connection: Connection, archive: VectorArchive) -> TableName | None:
    """Return the table that an archive's vectors come from, whatever it is called now; None if it is gone."""
    row = connection.execute(statement("catalog", "name_of"), {"oid": archive.relation_oid}).fetchone()
    if row is not None:
        return TableName(*row)
    # Restored from a dump, it has another oid. Hashes decide about its rows all the same.
    name = TableName.parse(archive.relation)
    values = {"schema": name.schema, "name": name.name, "quoted": identifier(name).as_string(connection)}
    found = connection.execute(statement("catalog", "find_relation"), values).fetchone()
    return name if found is not None and found[1] in "rp" else None


def begin_vectors(connection: Connection, campaigns: Collection[int], *, undo: int) -> None:
    """Give an undo the archives of campaigns, which end for whoever holds them, in the caller's transaction."""
    values = {"campaigns": list(campaigns), "undo": undo}
    connection.execute(statement("vector_archives", "begin"), values)
    connection.execute(statement("vector_archives", "campaigns_undoing"), values)


def note_progress(connection: Connection, campaigns: Collection[int], text: str) -> None:
    """Say in the ledger how far an undo is."""
    values = {"campaigns": list(campaigns), "text": storable(connection, text)}
    connection.execute(statement("vector_archives", "note_progress"), values)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What one transaction did: rows by what became of them; `is_last`: the archive has no more."""

    counts: Mapping[str, int]
    is_last: bool


def restore_batch(
    connection: Connection, archive: VectorArchive, facts: TargetFacts, *, size: int = BATCH_ROWS
) -> BatchResult:
    """Put the next vectors of an archive back, in one transaction that also notes how far it is."""
    settings = {"row_security": "off", "ragops.writes": "on"}
    if facts.silences_triggers:
        settings["session_replication_role"] = "replica"
    with transaction(connection, lock_timeout_s=LOCK_TIMEOUT_S, is_long=True, settings=settings):
        locked = connection.execute(statement("vector_archives", "lock_archive"), {"id": archive.id}).fetchone()
        if locked is None or locked[1]:
            # Another undo was faster.
            return BatchResult({}, True)
        pin_text_form(connection)
        connection.execute(statement("rows", "plan_by_key"))
        words = {"archive": archive.identifier}
        next_keys = statement("vector_archives", "next_keys", words)
        keys = [row[0] for row in connection.execute(next_keys, {"after": locked[0], "size": size}).fetchall()]
        if not keys:
            connection.execute(statement("vector_archives", "finish"), {"id": archive.id})
            return BatchResult({}, True)
        outcomes = _restore(connection, archive, facts, keys)
        counts = Counter(outcomes.values())
        left = [LeftRow(key, why).to_json() for key, why in outcomes.items() if why != "restored"]
        record = {
            "id": archive.id,
            "to": keys[-1],
            "left": jsonb(connection, left[:KEPT_KEYS]),
            "most": KEPT_KEYS,
            **{word: counts[word] for word in ("restored", "changed", "deleted")},
        }
        connection.execute(statement("vector_archives", "record"), record)
    return BatchResult(counts, False)


def _restore(
    connection: Connection, archive: VectorArchive, facts: TargetFacts, keys: Sequence[str]
) -> dict[str, str]:
    """Return what became of each row, in the caller's transaction."""
    from ragops.postgres.row_work import matching  # with numpy, which a look at the status does without

    comma, names = sql.SQL(", "), [sql.Identifier(f"k{place}") for place, _ in enumerate(facts.key, start=1)]
    ext = vector_words(vector_schema(connection))["ext"]
    words: dict[str, sql.Composable] = {
        "archive": archive.identifier,
        "table": sql.Identifier(facts.table.schema, facts.table.name),
        "column": sql.Identifier(archive.column),
        "send": sql.Composed([ext, sql.Identifier(f"{facts.kind or 'vector'}_send")]),
        "match": matching(facts, "i"),
        "key_casts": comma.join(
            sql.SQL("(u.parts->>{})::{} AS {}").format(sql.Literal(place), sql.SQL(column.stored_type), name)
            for place, (name, column) in enumerate(zip(names, facts.key, strict=True))
        ),
        "columns": comma.join(
            sql.SQL("{} AS {}").format(sql.Identifier(column.name), name)
            for name, column in zip(names, facts.key, strict=True)
        ),
    }
    query = statement("vector_archives", "restore", words)
    outcomes: dict[str, str] = {}
    open_keys = list(keys)
    for _ in range(ATTEMPTS):
        if not open_keys:
            break
        rows: list[tuple[Any, ...]] = connection.execute(
            query, {"keys": open_keys, "target": archive.target}
        ).fetchall()
        found = {key: what for key, what in rows if what != "restored"}
        found |= {key: what for key, what in rows if what == "restored"}
        outcomes |= {key: found.get(key, "deleted") for key in open_keys if found.get(key) != "stands"}
        # Locked by this transaction now, they are seen by the next statement.
        open_keys = [key for key in open_keys if found.get(key) == "stands"]
    # A trigger or a rule that swallows the write.
    return dict(sorted((outcomes | dict.fromkeys(open_keys, "changed")).items()))


def drop_vector_archives(connection: Connection) -> int:
    """Drop all archives of vectors and forget them, in a transaction of its own; return their number."""

    def act() -> int:
        with connection.transaction():
            forgotten = connection.execute(statement("vector_archives", "forget")).fetchall()
            for (name,) in forgotten:
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("ragops", name)))
        return len(forgotten)

    return retry_collisions(act)
