"""Read the tables of a playbook's targets into facts, without changing anything."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from psycopg.rows import dict_row

from ragops.facts import ColumnFacts, TableFacts, TriggerFacts, quoted
from ragops.findings import PlanProblem
from ragops.playbook.names import TableName
from ragops.playbook.targets import RowTarget, template_parts
from ragops.postgres.catalog import Rows, kind_of, read_indexes, read_table
from ragops.postgres.connection import Connection, fetch_row
from ragops.postgres.constraints import read_structure
from ragops.postgres.cutovers import newest_cutover, read_cutovers
from ragops.postgres.statements import statement
from ragops.postgres.target_reads import count_selected, expression_problems, key_problems
from ragops.row_facts import DependentFacts, TargetFacts


def find_targets(
    connection: Connection, targets: Sequence[RowTarget], *, rows: Rows = Rows.ESTIMATED
) -> tuple[tuple[TargetFacts, ...], list[PlanProblem]]:
    """Return the facts of the targets whose table, key and columns exist, and why the others do not fit.

    With exact rows the rows of each target are counted, and the key is proved where the catalog does not vouch for
    it. Of a table that is locked, in a look that waits for nobody, what is attached to it is left out.
    """
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
        key = _key(connection, table, target)
        own = list(_missing(table, target, number))
        if not own and not key:
            own.append(_no_key(table))
        if not own:
            filled = filled_column(connection, target, table)
            facts = TargetFacts(number, table, key, target.embedding, filled)
            if table.locked_by is None:
                facts = _with_attachments(connection, facts, silences=target.triggers == "disable")
                if target.write == "beside" and filled != target.embedding:
                    columns = (target.embedding, filled)
                    facts = replace(facts, around=read_indexes(connection, oid=table.oid, columns=columns))
            if "USAGE" in table.privileges and table.locked_by is None:
                own += expression_problems(connection, target, facts)
            if rows is Rows.EXACT and not own and _is_readable(target, facts):
                own += key_problems(connection, target, facts)
                matching, selected = count_selected(connection, target, facts)
                facts = replace(facts, selected=selected, without_text=matching - selected)
            if not own:
                found.append(facts)
        problems += own
    return tuple(found), problems


def columns_read(target: RowTarget, facts: TargetFacts) -> list[str]:
    """Return the columns that a target reads by name: its key, those of its template, and its vector."""
    named = [*(column.name for column in facts.key), *_template_columns(target), facts.embedding]
    return list(dict.fromkeys(named))


def _is_readable(target: RowTarget, facts: TargetFacts) -> bool:
    return "USAGE" in facts.table.privileges and not facts.unreadable.intersection(columns_read(target, facts))


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


def read_dependents(connection: Connection, table: TableFacts, column: str) -> tuple[DependentFacts, ...]:
    """Return what refers to a column, views before those that read them."""
    values = {"oid": table.oid, "column": column}
    return tuple(DependentFacts(*row) for row in connection.execute(statement("targets", "dependents"), values))


def may_silence_triggers(connection: Connection) -> bool:
    """Return whether the role may set `session_replication_role`."""
    # has_parameter_privilege() came with PostgreSQL 15, as did GRANT SET ON PARAMETER.
    name = "may_silence" if connection.info.server_version >= 150000 else "may_silence_before_15"
    return bool(fetch_row(connection, statement("targets", name))[0])


def _with_attachments(connection: Connection, facts: TargetFacts, *, silences: bool) -> TargetFacts:
    """Return the facts with everything that is attached to the vector column."""
    table = facts.table
    values = {"oid": table.oid, "column": facts.embedding, "filled": facts.filled}
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(statement("targets", "attachments"), values).fetchone()
    assert row is not None, "the query has one row"
    is_silent = silences and may_silence_triggers(connection)
    # For a replica, ENABLE ALWAYS and ENABLE REPLICA fire; for everybody else the former and the ordinary ones.
    fired = tuple(
        _trigger(**one) for one in row["fired"] if one["state"] == "A" or (one["state"] == "R") == is_silent
    )
    column = row["column_facts"] or {}
    return replace(
        facts,
        structure=read_structure(connection, table),
        fired=fired,
        dependents=read_dependents(connection, table, facts.embedding),
        column_storage=column.get("storage", ""),
        column_statistics=column.get("statistics"),
        column_comment=column.get("comment"),
        column_grants={role: tuple(granted) for role, granted in (column.get("grants") or {}).items()},
        is_row_security_active=row["is_row_security_active"],
        silences_triggers=is_silent,
        rules=tuple(row["rules"]),
        foreign_partitions=tuple(row["foreign_partitions"]),
        partial_publications=tuple(row["partial_publications"]),
        unreadable=frozenset(row["unreadable"]),
        may_update=row["may_update"],
        may_use_temp=row["may_use_temp"],
        has_fixed_columns=row["has_fixed_columns"],
    )


def _trigger(*, state: str, events: list[str], assigns: list[str], **more: Any) -> TriggerFacts:
    return TriggerFacts(events=tuple(events), assigns=tuple(assigns), **more)


def _missing(table: TableFacts, target: RowTarget, number: int) -> Iterator[PlanProblem]:
    """Yield the named columns that do not exist, with those that could be meant."""
    place = f"targets[{number - 1}]"
    named = [
        *((column, f"{place}.text") for column in _template_columns(target)),
        (target.embedding, f"{place}.embedding"),
        *((column, f"{place}.key") for column in target.key),
        *((column, f"{place}.changed_at") for column in [target.changed_at] if column),
        *((column, f"{place}.embedded_at") for column in [target.embedded_at] if column),
    ]
    seen = set[str]()
    for column, where in named:
        if column in table.columns or column in seen:
            continue
        seen.add(column)
        near = difflib.get_close_matches(column.lower(), table.columns, n=3, cutoff=0.5)
        likely = near or list(table.columns)[:8]
        yield PlanProblem(
            f"column {table.quoted}.{quoted(column)} ({where}) does not exist; the table has "
            f"{', '.join(quoted(name) for name in likely)}"
        )


def _template_columns(target: RowTarget) -> list[str]:
    parts = template_parts(target.text) if target.text is not None else []
    return [column for _, column in parts if column is not None]


def _key(connection: Connection, table: TableFacts, target: RowTarget) -> tuple[ColumnFacts, ...]:
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
