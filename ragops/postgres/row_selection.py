"""Choose which rows of the targets to embed, and queue them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from ragops.playbook.steps import SelectRows
from ragops.playbook.targets import RowTarget
from ragops.postgres.catalog import has_ragops_schema
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.row_work import row_words
from ragops.postgres.statements import Statement, statement
from ragops.postgres.vector_type import vector_words
from ragops.row_facts import TargetFacts

# How far a vector's length may be from 1, which is what every model's vectors are normalised to. A halfvec keeps
# three digits of each number.
LENGTH_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of all targets that `select_rows` queues."""

    settings: SelectRows
    targets: tuple[RowTarget, ...]
    facts: tuple[TargetFacts, ...]
    vector_schema: str | None
    dimensions: int | None
    """The model's; None where no kind of rows needs it."""
    is_tracked: bool = True
    """There is a schema `ragops`, which knows what vectors were made of."""

    def fill_statement(self, gates: Sequence[int]) -> Statement:
        """Compose the statement that queues the rows."""
        return statement("rows", "fill", {"selections": self._selections(), "gates": sql.Literal(sorted(gates))})

    def count(self, connection: Connection) -> dict[int, int]:
        """Return the number of rows by the number of their target, by a scan of the tables."""
        query = statement("rows", "count_selected", {"selections": self._selections(is_planned=True)})
        found = {int(number): int(rows) for number, rows in connection.execute(query).fetchall()}
        return {facts.number: found.get(facts.number, 0) for facts in self.facts}

    def _selections(self, *, is_planned: bool = False) -> sql.Composed:
        """Compose the rows of all targets; `is_planned`: a column that a step will add holds nothing yet."""
        one_by_one = zip(self.targets, self.facts, strict=True)
        return sql.SQL(" UNION ALL ").join(self._selection(*one, is_planned=is_planned) for one in one_by_one)

    def _selection(self, target: RowTarget, facts: TargetFacts, *, is_planned: bool) -> Statement:
        more = self.settings.where
        absent: dict[str, sql.Composable] = {}
        if is_planned and facts.column(facts.filled) is None:
            absent["filled"] = sql.SQL("NULL::{}").format(
                vector_words(self.vector_schema)["ext"] + sql.Identifier("vector")
            )
        words = {
            **row_words(target, facts, self.vector_schema),
            **absent,
            "dimensions": sql.Literal(self.dimensions or 0),
            "tolerance": sql.Literal(LENGTH_TOLERANCE),
            "prefix": sql.Literal(f"{facts.number}:"),
            "changed_at": _column(target.changed_at),
            "embedded_at": _column(target.embedded_at),
            "more": sql.SQL("true") if more is None else sql.SQL("({}\n)").format(sql.SQL(more)),
            "relation": sql.Literal(facts.table.quoted),
            "column": sql.Literal(facts.filled),
        }
        kinds = ("all" if kind == "divergent" else kind for kind in self.settings.rows)
        either = sql.SQL(" OR ").join(statement("rows", kind, words) for kind in dict.fromkeys(kinds))
        name = "selected" if self.is_tracked else "selected_untracked"
        return statement("rows", name, {**words, "kinds": either})


def _column(name: str | None) -> sql.Composable:
    return sql.SQL("NULL::timestamptz") if name is None else sql.Identifier(name)


def create_archive_statement(name: str, target: RowTarget, facts: TargetFacts, schema: str | None) -> Statement:
    """Compose the statement that makes the table for the vectors which a campaign replaces."""
    words = row_words(target, facts, schema)
    return statement("rows", "create_archive", {"archive": sql.Identifier("ragops", name), "type": words["kind"]})


def next_archive_numbers(connection: Connection, count: int) -> list[int]:
    """Take the numbers of new archives."""
    rows = connection.execute(statement("rows", "next_archives"), {"count": count}).fetchall()
    return [int(row[0]) for row in rows]


def expected_archive_number(connection: Connection) -> int:
    """Return the number that the next archive will probably have; 1 before there is a schema `ragops`."""
    if not has_ragops_schema(connection):
        return 1
    return int(fetch_row(connection, statement("rows", "expected_archive"))[0])
