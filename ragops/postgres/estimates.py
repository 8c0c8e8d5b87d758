"""What the planner's statistics say about a table, where counting it would take too long."""

from __future__ import annotations

from dataclasses import dataclass

from ragops.facts import TableFacts
from ragops.postgres.connection import Connection
from ragops.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """Shares are of the table's rows, 0 to 1; None: the column was never analysed."""

    is_not_null: bool
    null_share: float | None
    distinct: float | None
    """As `pg_stats.n_distinct`: a number of values, or below 0 minus their share of the rows."""

    def filled(self, rows: int) -> int | None:
        """Rows of `rows` whose value is not null."""
        if self.is_not_null:
            return rows
        return None if self.null_share is None else round(rows * (1 - self.null_share))

    def values(self, rows: int) -> int | None:
        """Different values in `rows` rows."""
        if self.distinct is None:
            return None
        return round(-self.distinct * rows if self.distinct < 0 else self.distinct)


def estimated_rows(connection: Connection, table: TableFacts) -> int | None:
    """Rows by the planner's own reckoning; None when the table was never analysed since it has rows."""
    row = connection.execute(statement("progress", "estimated_rows"), {"oid": table.oid}).fetchone()
    return row[0] if row else None


def column_statistics(connection: Connection, table: TableFacts, column: str) -> ColumnStatistics:
    """The statistics of one column, which must exist."""
    values = {"oid": table.oid, "column": column}
    row = connection.execute(statement("progress", "column_statistics"), values).fetchone()
    assert row is not None
    return ColumnStatistics(*row)


def common_values(connection: Connection, table: TableFacts, column: str) -> dict[str, float]:
    """Share of the rows by value, for a column of few values; empty when it was never analysed."""
    values = {"oid": table.oid, "column": column}
    return dict(connection.execute(statement("progress", "common_values"), values).fetchall())
