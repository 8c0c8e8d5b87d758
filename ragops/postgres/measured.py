"""What was measured of stored documents: missing text and unknown tokens, in ragops' own tables, by filling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from ragops.documents.reading import Partial, UnknownTokens
from ragops.findings import PlanProblem
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.encodings import storable
from ragops.postgres.statements import Statement, identifiers_of, queue_key, statement

TABLES = ("measured", "tokens")
# What is recorded of documents beside their rows.
RECORDS = (*TABLES, "seeding", "file_state")
STRANGE_SCRIPT = (
    "the model does not know the script of this corpus: texts of unknown tokens get vectors that say nothing, and "
    "search finds them at random; choose a multilingual model"
)
# A document of which the model knows less is listed; a foreign word here and there is no news.
LISTED_UNKNOWN = 0.05
# MiniLM makes one unknown token of a Thai text, whatever it says: all of these texts get one vector. In a corpus
# that it can read the share is below 1 %.
UNKNOWN_SHARE, FOREIGN_DOCUMENTS = 0.1, 0.1


@dataclass(frozen=True, slots=True)
class Measure:
    """What was measured of one document."""

    item_id: Any
    partial: Partial | None
    unknown: UnknownTokens | None

    @property
    def is_listed(self) -> bool:
        return self.partial is not None or (self.unknown is not None and self.unknown.share >= LISTED_UNKNOWN)


@dataclass(frozen=True, slots=True)
class PartialDocument:
    """A stored document whose text is not the whole document."""

    location: str
    partial: Partial

    def to_json(self) -> dict[str, object]:
        return {"location": self.location, **asdict(self.partial), "share": round(self.partial.share, 4)}


@dataclass(frozen=True, slots=True)
class UnknownDocument:
    """A stored document of which the model knows less than half of the tokens."""

    location: str
    tokens: UnknownTokens

    def to_json(self) -> dict[str, object]:
        return {"location": self.location, **asdict(self.tokens), "share": round(self.tokens.share, 4)}


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of the documents of a filling."""

    partial: int
    """Partial documents."""
    partial_documents: tuple[PartialDocument, ...]
    """The first of them, the most incomplete first."""
    tokens: UnknownTokens
    """Of all documents; no tokens where none were counted."""
    foreign: int = 0
    """Documents of which the model knows at most half of the tokens."""
    foreign_documents: tuple[UnknownDocument, ...] = ()
    documents: int = 0
    """Documents whose tokens were counted."""

    def partial_to_json(self, *, completed: int | None) -> dict[str, object]:
        """Return the partial documents for `--json`; `completed` are all that are stored."""
        return {
            "documents": self.partial,
            "share": round(self.partial / completed, 4) if completed else 0.0,
            "list": [document.to_json() for document in self.partial_documents],
        }

    def unknown_to_json(self) -> dict[str, object] | None:
        """Return the unknown tokens for `--json`; None where none were counted."""
        if not self.documents:
            return None
        return {
            "documents": self.documents,
            "tokens": self.tokens.tokens,
            "unknown": self.tokens.unknown,
            "share": round(self.tokens.share, 4),
            "mostly_unknown": self.foreign,
            "knows_script": self.knows_script,
            "list": [document.to_json() for document in self.foreign_documents],
        }

    @property
    def knows_script(self) -> bool:
        """Whether the model knows the signs that the documents are written in, by and large."""
        many = self.documents > 0 and self.foreign >= FOREIGN_DOCUMENTS * self.documents
        return not many and self.tokens.share < UNKNOWN_SHARE

    @property
    def words(self) -> str:
        """The unknown tokens in words."""
        return (
            f"{self.tokens.share:.1%} of {self.tokens.tokens:,} tokens are unknown, "
            f"and of {self.foreign:,} of {self.documents:,} documents at least half"
        )


NOTHING = Measured(0, (), UnknownTokens(0, 0))


def _sql(tables: Tables, name: str) -> Statement:
    parts: dict[str, sql.Composable] = {**identifiers_of(tables), "queue_key": queue_key(tables)}
    parts["generation"] = statement("measured", "generation", parts)
    if name in ("summary", "partial", "unknown"):
        parts["current"] = statement("measured", "current", parts)
    return statement("measured", name, parts)


def record_measured(
    connection: Connection, tables: Tables, measures: Sequence[Measure], *, finished: Sequence[Any], writer: str
) -> None:
    """Record what was measured of documents, in the transaction that finishes the items `finished`.

    What an earlier run measured of these items goes. `writer` names the fleet in the totals.
    """
    if finished:
        connection.execute(_sql(tables, "forget"), {"ids": list(finished)})
    listed = [measure for measure in measures if measure.is_listed]
    if listed:
        connection.execute(_sql(tables, "record"), _columns(connection, listed))
    counted = [measure.unknown for measure in measures if measure.unknown is not None]
    if counted:
        values = {
            "writer": writer,
            "documents": len(counted),
            "tokens": sum(unknown.tokens for unknown in counted),
            "unknown": sum(unknown.unknown for unknown in counted),
        }
        connection.execute(_sql(tables, "count_tokens"), values)


def _columns(connection: Connection, measures: Sequence[Measure]) -> dict[str, object]:
    partial = [measure.partial for measure in measures]
    unknown = [measure.unknown for measure in measures]
    # Without \u escapes, which a database in another encoding than UTF-8 refuses.
    missing = [
        json.dumps(storable(connection, list(one.missing)), ensure_ascii=False) if one else None for one in partial
    ]
    return {
        "ids": [measure.item_id for measure in measures],
        "found": [one.found if one else None for one in partial],
        "expected": [one.expected if one else None for one in partial],
        "unit": [storable(connection, one.unit) if one else None for one in partial],
        "missing": missing,
        "unknown": [one.unknown if one else None for one in unknown],
        "tokens": [one.tokens if one else None for one in unknown],
    }


def read_measured(connection: Connection, tables: Tables, *, limit: int | None) -> Measured | None:
    """Return what was measured of the present filling's documents, and up to `limit` of them (None: all).

    None without the tables, which an older version does not have, or where the role may not read them.
    """
    if not _are_readable(connection):
        return None
    partial, foreign = fetch_row(connection, _sql(tables, "summary"))
    documents, tokens, unknown = fetch_row(connection, _sql(tables, "token_totals"))
    found = connection.execute(_sql(tables, "partial"), {"limit": limit}).fetchall() if partial else []
    strange = connection.execute(_sql(tables, "unknown"), {"limit": limit}).fetchall() if foreign else []
    return Measured(
        partial=partial,
        partial_documents=tuple(
            PartialDocument(location, Partial(stored, expected, unit, tuple(missing or ())))
            for location, stored, expected, unit, missing in found
        ),
        tokens=UnknownTokens(unknown, tokens),
        foreign=foreign,
        foreign_documents=tuple(UnknownDocument(row[0], UnknownTokens(row[1], row[2])) for row in strange),
        documents=documents,
    )


def _are_readable(connection: Connection) -> bool:
    found = [
        connection.execute(statement("catalog", "ragops_table"), {"name": name}).fetchone()
        for name in (*TABLES, "source")
    ]
    return all(row is not None and row[0] for row in found)


def unrecordable(connection: Connection) -> PlanProblem | None:
    """Return what keeps the role from recording what is measured; None if nothing does."""
    missing, role = fetch_row(connection, statement("measured", "missing_privileges"))
    if missing is None:
        return None
    return PlanProblem(
        f"role {role} lacks {missing} on ragops.measured, ragops.tokens, ragops.seeding or ragops.file_state, "
        "where it records what is missing in a document, and which files changed",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(f'ragops.{name}' for name in RECORDS)} TO {role}",
    )


def move_measured(connection: Connection, key: sql.Composed, *, queue: str, generation: int) -> None:
    """Let what was measured of another filling of the same items speak of the present one of the queue `key`."""
    parts: dict[str, sql.Composable] = {"queue_key": key}
    parts["generation"] = statement("measured", "generation", parts)
    connection.execute(statement("measured", "move", parts), {"queue": queue, "generation": generation})


def prune_measured(connection: Connection) -> None:
    """Remove what was measured of fillings that are gone for good, unless the role may not see which these are."""
    archives = connection.execute(statement("catalog", "ragops_table"), {"name": "archive"}).fetchone()
    if archives is not None and archives[0] and unrecordable(connection) is None:
        connection.execute(statement("measured", "prune"))


def partial_json(partial: Partial | None) -> str | None:
    """Return a partial document's record as a mapped column holds it: JSON, or None for a whole document."""
    if partial is None:
        return None
    record: Mapping[str, object] = {**asdict(partial), "missing": list(partial.missing)}
    return json.dumps(record)
