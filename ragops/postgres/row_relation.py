"""Compose the SQL of rows that stay: their key, their text, and which of them belong to a target.

A key is a JSON array of the key columns' values as text, `["42"]` or `["7", "2026-01-01"]`, in the form that
`row_source.pin_text_form` pins. A location in the queue is `TARGET:KEY`, e.g. `1:["42"]`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from psycopg import sql

from ragops.facts import ColumnFacts
from ragops.playbook.targets import RowTarget, template_parts
from ragops.row_facts import TargetFacts


def location_of(number: int, key: str) -> str:
    """Return the location of a row in the queue."""
    return f"{number}:{key}"


def parse_location(location: str) -> tuple[int, tuple[str, ...]]:
    """Return the target's number and the values of the key, as text. Raises ValueError for another location."""
    number, _, key = location.partition(":")
    values = json.loads(key)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{location!r} is not the location of a row")
    return int(number), tuple(str(value) for value in values)


def target_of(location: str) -> int:
    """Return the number of a row's target, without parsing its key."""
    return int(location.partition(":")[0])


def parse_keys(locations: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the keys of rows as `parse_location` does, all in one go: a third of the time of one by one."""
    keys = json.loads(f"[{','.join([location.partition(':')[2] for location in locations])}]")
    return [tuple(map(str, key)) for key in keys]


def key_expression(key: Sequence[ColumnFacts]) -> sql.Composed:
    """Return the expression for a row's key as text, over the columns of its table."""
    values = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column.name)) for column in key)
    return sql.SQL("jsonb_build_array({})::text").format(values)


def text_expression(target: RowTarget) -> sql.Composed:
    """Return the expression for a row's text, over the columns of its table; NULL for a row without any."""
    if target.sql is not None:
        # The operator's SQL. The line break ends a trailing `--` comment.
        return sql.SQL("({}\n)::text").format(sql.SQL(target.sql))
    assert target.text is not None, "a target has a template or an expression"
    parts: list[sql.Composable] = []
    columns: list[sql.Composable] = []
    for literal, column in template_parts(target.text):
        if literal:
            parts.append(sql.Literal(literal))
        if column is not None:
            columns.append(sql.Identifier(column))
            parts.append(sql.SQL("coalesce({}::text, '')").format(columns[-1]))
    if len(parts) == 1:
        return sql.SQL("{}::text").format(columns[0])
    return sql.SQL("CASE WHEN num_nonnulls({}) > 0 THEN {} END").format(
        sql.SQL(", ").join(columns), sql.SQL(" || ").join(parts)
    )


def condition(target: RowTarget) -> sql.Composable:
    """Return the condition for the rows of a target, over the columns of its table."""
    return sql.SQL("true") if target.where is None else sql.SQL("({}\n)").format(sql.SQL(target.where))


def row_relation(
    target: RowTarget, facts: TargetFacts, *, column: str | None = None, places: bool = False
) -> sql.Composed:
    """Return a sub-select with the columns (id, content, embedding), which reads like the table `documents`.

    `id` is the key as text. `column` is the vector column; None: the one that the campaign writes. `places`: with
    `tableoid` and `ctid`, which find a row again within the same statement.
    """
    found = sql.SQL(", tableoid, ctid") if places else sql.SQL("")
    return sql.SQL("(SELECT {} AS id, {} AS content, {} AS embedding{} FROM {} WHERE {})").format(
        key_expression(facts.key),
        text_expression(target),
        sql.Identifier(column or facts.filled),
        found,
        sql.Identifier(facts.table.schema, facts.table.name),
        condition(target),
    )
