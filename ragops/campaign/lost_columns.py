"""Find the values that a campaign loses: those of columns that ragops does not write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ragops.campaign.steps.base import PlanFacts
from ragops.facts import StructureFacts, TableFacts
from ragops.findings import PlanProblem
from ragops.indexes.plan import VECTOR_TABLES
from ragops.playbook.steps import EmptyTables
from ragops.postgres.column_checks import written_columns
from ragops.postgres.connection import Connection
from ragops.postgres.constraints import (
    count_lost,
    is_constant,
)

Structures = Mapping[str, StructureFacts]


def emptied_tables(facts: PlanFacts) -> dict[str, str]:
    """Return the tables that the playbook empties, each with its method."""
    steps = [step for step in facts.playbook.steps if isinstance(step, EmptyTables)]
    return {entry.table: entry.method for step in steps for entry in step.tables}


def lost_column_problems(
    connection: Connection, facts: PlanFacts, structures: Structures
) -> Iterator[PlanProblem]:
    """Yield the values of documents and chunks that would be gone, unless the playbook accepts that."""
    steps = [step for step in facts.playbook.steps if isinstance(step, EmptyTables)]
    accepted = {name for step in steps for name in step.accept_lost_columns}
    emptied = emptied_tables(facts)
    for logical in VECTOR_TABLES:
        if logical not in emptied or logical not in structures:
            continue
        table = facts.table(logical)
        lost = _lost(connection, facts, logical, structures[logical])
        refused = {column: count for column, count in lost.items() if f"{logical}.{column}" not in accepted}
        if refused:
            names = ", ".join(f"{logical}.{column}" for column in refused)
            yield PlanProblem(
                f"{_will_be(table, structures[logical], refused)}: ragops writes nothing into these columns. "
                f"If that is meant, write `accept_lost_columns: [{names}]` into the step empty_tables, or add "
                + " ".join(f"--accept-lost-column {logical}.{column}" for column in refused)
            )


def changed_columns(connection: Connection, facts: PlanFacts, structures: Structures) -> Iterator[str]:
    """Yield what emptied tables lose, or get anew, in columns that ragops does not write."""
    for logical in emptied_tables(facts):
        if logical not in structures or not facts.table(logical).rows:
            continue
        table, structure = facts.table(logical), structures[logical]
        lost = _lost(connection, facts, logical, structure)
        if lost:
            yield _will_be(table, structure, lost)
        mapped = set(written_columns(facts.playbook.tables, logical, table).values())
        renewed = [
            column.name
            for column in table.columns.values()
            if column.name not in mapped and not is_constant(structure.defaults.get(column.name))
        ]
        if renewed and logical in VECTOR_TABLES:
            yield f"{table.qualified}: {', '.join(renewed)} will be made anew by the default"


def _lost(connection: Connection, facts: PlanFacts, logical: str, structure: StructureFacts) -> dict[str, int]:
    """Return how many values of each column would become NULL or a constant; none without SELECT."""
    table = facts.table(logical)
    mapped = set(written_columns(facts.playbook.tables, logical, table).values())
    columns = [
        column.name
        for column in table.columns.values()
        if column.name not in mapped
        and not (column.is_generated or column.is_identity)
        and is_constant(structure.defaults.get(column.name))
    ]
    if "SELECT" not in table.privileges:
        return {}
    return count_lost(connection, table, columns, structure.defaults)


def _will_be(table: TableFacts, structure: StructureFacts, lost: Mapping[str, int]) -> str:
    parts = [
        f"{column} {structure.defaults.get(column, 'NULL')} ({count:,} of {table.rows:,} rows hold something else)"
        for column, count in lost.items()
    ]
    return f"{table.qualified}, once emptied and filled again, will be: {', '.join(parts)}"
