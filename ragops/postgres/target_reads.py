"""Try what a target says in SQL, and count its rows: expressions, conditions and keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from ragops.errors import first_line
from ragops.facts import quoted
from ragops.findings import PlanProblem
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.locks import LOCK_TIMEOUT_S
from ragops.postgres.row_relation import condition, row_relation, text_expression
from ragops.postgres.row_source import pin_text_form
from ragops.postgres.single import execute_single
from ragops.postgres.statements import statement
from ragops.row_facts import TargetFacts


def expression_problems(connection: Connection, target: RowTarget, facts: TargetFacts) -> Iterator[PlanProblem]:
    """Yield what the server refuses of a target's `sql:` and `where:`, and what makes a text another each time."""
    place = f"targets[{facts.number - 1}]"
    if target.sql is not None:
        whole = text_expression(target)
        yield from _expression(connection, facts, whole, f"{place}.sql", "a text", raw=target.sql)
    if target.where is not None:
        whole = sql.SQL("{} IS TRUE").format(condition(target))
        yield from _expression(connection, facts, whole, f"{place}.where", "a condition", raw=target.where)
    yield from _key_types(connection, facts, place)


def condition_problems(connection: Connection, facts: TargetFacts, text: str, *, place: str) -> list[PlanProblem]:
    """Return what the server refuses of another condition over the rows, such as that of `select_rows`."""
    checked = sql.SQL("({}\n) IS TRUE").format(sql.SQL(text))
    return list(_expression(connection, facts, checked, place, "a condition", raw=text))


def key_problems(connection: Connection, target: RowTarget, facts: TargetFacts) -> Iterator[PlanProblem]:
    """Yield why a key that the target names identifies no row: NULLs, or rows with the same values."""
    names = [column.name for column in facts.key]
    if (
        not target.key
        or fetch_row(
            connection, statement("targets", "has_unique_key"), {"oid": facts.table.oid, "columns": names}
        )[0]
    ):
        return
    columns = [sql.Identifier(name) for name in names]
    parts = {
        "with_null": sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(column) for column in columns),
        "key": sql.SQL("({})").format(sql.SQL(", ").join(columns)) if len(columns) > 1 else columns[0],
        "table": sql.Identifier(facts.table.schema, facts.table.name),
    }
    with transaction(connection, is_long=True):
        rows, with_null, distinct = fetch_row(connection, statement("targets", "count_keys", parts))
    shown, place = ", ".join(map(quoted, names)), f"targets[{facts.number - 1}].key"
    if with_null:
        yield PlanProblem(f"{with_null:,} rows of {facts.table.quoted} have a NULL in the key ({shown}; {place})")
    elif distinct < rows:
        yield PlanProblem(
            f"the key ({shown}; {place}) does not identify the rows of {facts.table.quoted}: "
            f"{rows:,} rows have {distinct:,} different keys"
        )


def count_selected(connection: Connection, target: RowTarget, facts: TargetFacts) -> tuple[int, int]:
    """Return the rows that belong to a target, and those of them that have a text, by one scan."""
    with transaction(connection, is_long=True):
        pin_text_form(connection)
        parts = {"relation": row_relation(target, facts, column=facts.embedding)}
        matching, selected = fetch_row(connection, statement("targets", "count_selected", parts))
    return int(matching), int(selected)


def rehearse_update(
    connection: Connection, target: RowTarget, facts: TargetFacts, *, dimensions: int
) -> str | None:
    """Write a vector into one row and roll it back; return what the server says against it, None for nothing.

    Raises psycopg's LockNotAvailable where another session keeps writers out.
    """
    # Of length 1, with a number in each place: a CHECK of the norm or against zeros holds.
    vector = "[" + ",".join([f"{dimensions**-0.5:.6g}"] * dimensions) + "]"
    parts = {
        "table": sql.Identifier(facts.table.schema, facts.table.name),
        "column": sql.Identifier(facts.embedding),
        # As format_type() printed it.
        "type": sql.SQL(facts.table.columns[facts.embedding].type),
        "relation": row_relation(target, facts, column=facts.embedding, places=True),
    }
    settings = {"session_replication_role": "replica"} if facts.silences_triggers else {}
    try:
        with (
            transaction(connection, lock_timeout_s=LOCK_TIMEOUT_S, settings=settings),
            connection.transaction(force_rollback=True),
        ):
            pin_text_form(connection)
            connection.execute(statement("targets", "rehearse_update", parts), {"vector": vector})
            # A deferred trigger fires at the end of the transaction.
            connection.execute(statement("constraints", "check_deferred"))
    except psycopg.errors.LockNotAvailable:
        raise
    except psycopg.Error as error:
        if connection.closed:
            raise
        return first_line(error)
    return None


def _key_types(connection: Connection, facts: TargetFacts, place: str) -> Iterator[PlanProblem]:
    """Yield the columns of the key whose text form does not identify a value."""
    values = {"oid": facts.table.oid, "columns": [column.name for column in facts.key]}
    for name, type_name in connection.execute(statement("targets", "identities"), values).fetchall():
        yield PlanProblem(
            f"column {facts.table.quoted}.{quoted(name)} ({place}.key) has type {type_name}, whose text "
            "identifies "
            "no row: a key needs integers, text, uuid, dates or the like"
        )


def _expression(
    connection: Connection, facts: TargetFacts, expression: sql.Composable, place: str, what: str, *, raw: str
) -> Iterator[PlanProblem]:
    table = sql.Identifier(facts.table.schema, facts.table.name)
    explain = statement("targets", "explain_expression", {"expression": expression, "table": table})
    # Without parentheses around it: `a) OR (b` is an expression only within them, and another one elsewhere.
    alone = statement("targets", "explain_expression", {"expression": sql.SQL(f"{raw}\n"), "table": table})
    try:
        with connection.transaction(force_rollback=True):
            # As one statement, whatever the text has in it; EXPLAIN executes nothing.
            execute_single(connection, explain)
            execute_single(connection, alone)
            (plan,) = fetch_row(connection, explain)
    except psycopg.errors.LockNotAvailable:
        raise
    except psycopg.errors.GroupingError:
        yield PlanProblem(f"{place}: an aggregate depends on other rows; {what} is of one row alone")
        return
    except psycopg.Error as error:
        if connection.closed:
            raise
        detail = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
        yield PlanProblem(
            f"{place}: the server refuses it as {what} over {facts.table.quoted}: {first_line(error)}{detail}"
        )
        return
    nodes = list(_outer_nodes(plan[0]["Plan"]))
    if "WindowAgg" in nodes:
        yield PlanProblem(f"{place}: a window function depends on other rows; {what} is of one row alone")
    elif "Subquery Scan" in nodes:
        yield PlanProblem(
            f"{place}: it calls a volatile function (such as random(), or one of your own that is not "
            "declared STABLE "
            "or IMMUTABLE), so that it may differ each time it is read",
        )


def _outer_nodes(node: Any) -> Iterator[str]:
    """Yield the types of a plan's nodes, without those of sub-selects within expressions."""
    yield str(node.get("Node Type"))
    for part in node.get("Plans", ()):
        if part.get("Parent Relationship") not in ("SubPlan", "InitPlan"):
            yield from _outer_nodes(part)
