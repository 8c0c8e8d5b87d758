"""Read the tables of a playbook's targets into facts, without changing anything."""

from __future__ import annotations

from collections.abc import Sequence

from ragops.facts import ColumnFacts, StructureFacts, TableFacts, quoted
from ragops.findings import PlanProblem
from ragops.playbook.names import TableName
from ragops.playbook.targets import RowTarget
from ragops.postgres.catalog import Rows, kind_of, read_table
from ragops.postgres.connection import Connection
from ragops.postgres.constraints import read_structure
from ragops.postgres.cutovers import newest_cutover, read_cutovers
from ragops.postgres.statements import statement
from ragops.row_facts import TargetFacts


def find_targets(
    connection: Connection, targets: Sequence[RowTarget], *, rows: Rows = Rows.ESTIMATED
) -> tuple[tuple[TargetFacts, ...], list[PlanProblem]]:
    """Return the facts of the targets whose table, key and vector column exist, and why the others do not fit."""
    found: list[TargetFacts] = []
    problems: list[PlanProblem] = []
    for number, target in enumerate(targets, start=1):
        name = TableName.parse(target.table)
        table = read_table(connection, name, rows=rows)
        if table is None:
            kind = kind_of(connection, name)
            is_not = f"is a {kind}, and ragops needs a table" if kind else "does not exist"
            problems.append(PlanProblem(f"table {name} (targets[{number - 1}]) {is_not}"))
            continue
        structure = read_structure(connection, table)
        key = _key(connection, table, target, structure)
        own = list(_missing(table, target, number))
        if not own and not key:
            own.append(_no_key(table))
        problems += own
        if not own:
            filled = filled_column(connection, target, table)
            found.append(TargetFacts(number, table, key, target.embedding, filled, structure))
    return tuple(found), problems


def filled_column(connection: Connection, target: RowTarget, table: TableFacts) -> str:
    """Return the present name of the column that a campaign writes: after a cutover, that of the first one."""
    if target.write == "in_place":
        return target.embedding
    if target.filled_column not in table.columns:
        row = newest_cutover(
            read_cutovers(connection),
            oid=table.oid,
            old_column=target.embedding,
            new_column=target.filled_column,
        )
        if row is not None and row.is_swapped:
            return target.embedding
    return target.filled_column


def _missing(table: TableFacts, target: RowTarget, number: int) -> list[PlanProblem]:
    """Return the named columns that do not exist."""
    named = [target.embedding, *target.key, *filter(None, (target.changed_at, target.embedded_at))]
    return [
        PlanProblem(f"column {table.quoted}.{quoted(column)} (targets[{number - 1}]) does not exist")
        for column in dict.fromkeys(named)
        if column not in table.columns
    ]


def _key(
    connection: Connection, table: TableFacts, target: RowTarget, structure: StructureFacts
) -> tuple[ColumnFacts, ...]:
    """Return the columns that identify a row: those that the target names, or what the catalog has."""
    names = target.key
    if not names:
        row = connection.execute(statement("targets", "key"), {"oid": table.oid}).fetchone()
        names = tuple(row[0]) if row else ()
    return tuple(table.columns[name] for name in names if name in table.columns)


def _no_key(table: TableFacts) -> PlanProblem:
    return PlanProblem(
        f"table {table.quoted} has no primary key and no unique index over NOT NULL columns, so that a row cannot "
        "be found again",
        f"ALTER TABLE {table.quoted} ADD PRIMARY KEY (…); or name columns that are unique: targets[].key",
    )
