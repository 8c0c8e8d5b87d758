"""What the items of `ragops.work` belong to: targets with their facts, and what is kept with their filling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from ragops.facts import TableFacts
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.copy_binary import has_fields
from ragops.postgres.privacy import close_archive
from ragops.postgres.row_relation import condition, key_expression, text_expression
from ragops.postgres.statements import statement
from ragops.postgres.vector_type import vector_words
from ragops.row_facts import TargetFacts

# Why an item has nothing to embed. These are no failures.
ROW_GONE = "the row is gone, or does not belong to the target any more"
ROW_EMPTY = "the row has no text any more"


@dataclass(frozen=True, slots=True)
class RowFilling:
    """What the filling of `ragops.work` records beside its items."""

    targets: tuple[Mapping[str, Any], ...]
    """The playbook's targets, as JSON."""
    rows: tuple[str, ...]
    """The kinds of rows that were selected."""
    max_distance: float | None = None
    """Vectors that lie this near to the new one are left alone; None: every selected row is written."""
    ids: tuple[int, ...] = ()
    """By target, in order: its number in `ragops.target`."""
    archives: tuple[str | None, ...] = ()
    """By target: the table in the schema `ragops` that keeps what is replaced; None for a column beside."""

    @classmethod
    def parse(cls, source: Mapping[str, Any] | None) -> RowFilling | None:
        """Return what a filling's source says; None for a filling of another kind."""
        if not source or not source.get("targets"):
            return None
        return cls(
            targets=tuple(source["targets"]),
            rows=tuple(source.get("rows", ())),
            max_distance=source.get("max_distance"),
            ids=tuple(source.get("ids", ())),
            archives=tuple(source.get("archives", ())),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "targets": [dict(target) for target in self.targets],
            "rows": list(self.rows),
            "max_distance": self.max_distance,
            "ids": list(self.ids),
            "archives": list(self.archives),
        }


@dataclass(frozen=True, slots=True)
class RowWork:
    """The targets that a fleet writes, with their facts and the filling of the queue."""

    targets: tuple[RowTarget, ...]
    facts: tuple[TargetFacts, ...]
    filling: RowFilling
    vector_schema: str

    def words(self, number: int) -> dict[str, sql.Composable]:
        """Return the placeholders of rows.sql for one target, by its number from 1."""
        return row_words(self.targets[number - 1], self.facts[number - 1], self.vector_schema)


def row_words(target: RowTarget, facts: TargetFacts, schema: str | None) -> dict[str, sql.Composable]:
    """Return the placeholders of rows.sql that a target alone decides."""
    names = [sql.Identifier(f"k{place}") for place, _ in enumerate(facts.key, start=1)]
    columns = [sql.Identifier(column.name) for column in facts.key]
    types = [sql.SQL(column.stored_type) for column in facts.key]
    comma = sql.SQL(", ")
    words = vector_words(schema)
    return {
        **words,
        "number": sql.Literal(facts.number),
        "table": sql.Identifier(facts.table.schema, facts.table.name),
        "key": key_expression(facts.key),
        "content": text_expression(target),
        "condition": condition(target),
        "filled": sql.Identifier(facts.filled),
        "names": comma.join(names),
        # The catalog's own spelling of a type, already quoted. Other types are sent as text.
        "keys": comma.join(
            sql.SQL("{} {}").format(
                name, type if has_fields(column.stored_type, is_vector=False) else sql.SQL("text")
            )
            for name, type, column in zip(names, types, facts.key, strict=True)
        ),
        "casts": comma.join(sql.SQL("u.{}::{} AS {}").format(n, t, n) for n, t in zip(names, types, strict=True)),
        "key_casts": comma.join(
            sql.SQL("(u.key->>{})::{} AS {}").format(sql.Literal(place), type, name)
            for place, (name, type) in enumerate(zip(names, types, strict=True))
        ),
        "columns": comma.join(
            sql.SQL("{} AS {}").format(column, name) for column, name in zip(columns, names, strict=True)
        ),
        "send": words["ext"] + sql.Identifier(f"{facts.kind or 'vector'}_send"),
        "kind": words["ext"] + sql.Identifier(facts.kind or "vector"),
    }


def find_target_id(connection: Connection, facts: TargetFacts) -> int | None:
    """Return the number of a target in `ragops.target`; None if ragops does not know it."""
    values = {"relation": facts.table.quoted, "column": facts.filled}
    row = connection.execute(statement("rows", "find_target"), values).fetchone()
    return None if row is None else int(row[0])


def target_id(connection: Connection, facts: TargetFacts) -> int:
    """Return the number of a target in `ragops.target`, made if it is new, in the caller's transaction."""
    values = {
        "relation": facts.table.quoted,
        "oid": facts.table.oid,
        "column": facts.filled,
        "key": [column.name for column in facts.key],
    }
    return int(fetch_row(connection, statement("rows", "target"), values)[0])


def matching(facts: TargetFacts, left: str) -> sql.Composed:
    """Return the condition that a row `r` has the key of `left`."""
    parts: Sequence[sql.Composed] = [
        sql.SQL("r.{name} = {left}.{name}").format(name=sql.Identifier(f"k{place}"), left=sql.SQL(left))
        for place, _ in enumerate(facts.key, start=1)
    ]
    return sql.SQL(" AND ").join(parts)


def register_archive(
    connection: Connection, *, campaign: int | None, target: int, archive: str, of: TableFacts
) -> None:
    """Make a table with replaced vectors known to undo, and close it to others, in the caller's transaction."""
    values = {"id": int(archive.rpartition("_")[2]), "campaign": campaign, "target": target, "archive": archive}
    connection.execute(statement("rows", "register_archive"), values)
    close_archive(connection, archive, of=of)
