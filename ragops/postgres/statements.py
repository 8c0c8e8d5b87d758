"""Load named SQL: every statement whose text is constant has one home, a file of the folder `sql`.

A file holds sections headed `-- name: NAME`, each followed by comment lines that describe the statement; they are
not sent to the server. `{placeholders}` are identifiers (quoted by psycopg), literals or other statements;
`%(parameters)s` are values. Statements whose shape depends on the mapped columns (COPY of a batch) or on a plan
(DDL) are composed where they are executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

from psycopg import abc, sql

from ragops.playbook.names import TableName
from ragops.playbook.tables import Tables

# One statement, composed and quoted, without its parameters.
Statement = sql.Composed

_HEAD = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_DESCRIPTION = re.compile(r"\A(?:--.*\n)+")
# Not preceded by a brace: `'{{}}'` is an empty JSON object that str.format() unescapes.
_PLACEHOLDER = re.compile(r"(?<!\{)\{(\w+)\}")


@cache
def _sections(file: str) -> Mapping[str, str]:
    text = resources.files("ragops.postgres").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _HEAD.split(text)
    bodies = (_DESCRIPTION.sub("", body.strip()).removesuffix(";") for body in parts[2::2])
    return dict(zip(parts[1::2], bodies, strict=True))


def statement_names(file: str) -> tuple[str, ...]:
    """Return the names of a file's statements in their order."""
    return tuple(_sections(file))


class _Doubled(sql.Composable):
    """Name, or SQL of the operator, with every `%` doubled."""

    def as_bytes(self, context: abc.AdaptContext | None = None) -> bytes:
        part: sql.Composable = self._obj
        return part.as_bytes(context).replace(b"%", b"%%")


def statement(
    file: str,
    name: str,
    identifiers: Mapping[str, sql.Composable] | None = None,
    *,
    drop_unknown_lines: bool = False,
) -> sql.Composed:
    """Return the statement `name` of `file` with its placeholders filled in. Raises KeyError if it does not exist.

    `drop_unknown_lines` leaves out every line with a placeholder that has no value.
    """
    known = identifiers or {}
    text = _sections(file)[name]
    if drop_unknown_lines:
        lines = text.splitlines()
        text = "\n".join(line for line in lines if all(p in known for p in _PLACEHOLDER.findall(line)))
    # psycopg reads a single % as the start of a placeholder, even within quotes, but only in a statement with
    # parameters: without any, it sends the text as it stands, and a doubled % would arrive doubled.
    if "%(" in text:
        known = {name: _Doubled(part) for name, part in known.items()}
    return sql.SQL(text).format(**known)


def text_of(statement: Statement) -> str:
    """Return a statement for people to read."""
    return statement.as_string(None)


def literal(value: str) -> str:
    """Return a text as SQL needs it, in quotes."""
    return sql.Literal(value).as_string(None)


def identifier(name: TableName) -> sql.Identifier:
    """Return a table name as a quoted identifier, part by part."""
    return sql.Identifier(name.schema, name.name) if name.schema else sql.Identifier(name.name)


@cache
def queue_key(tables: Tables) -> sql.Composed:
    """Return the expression for the qualified name of the queue table, which the ledger knows the queue by."""
    return table_key(tables.mapped()["files_queue"])


def table_key(name: TableName) -> sql.Composed:
    """Return the expression for the qualified name of a table, quoted as the server does."""
    parts: dict[str, sql.Composable] = {"name": sql.Literal(name.name)}
    if name.schema is not None:
        # Without a look into the catalog: to_regclass() fails for a role without USAGE on the schema.
        return statement("filling", "qualified_key", {**parts, "schema": sql.Literal(name.schema)})
    return statement("filling", "key", {**parts, "quoted": sql.Literal(sql.Identifier(name.name).as_string(None))})


@cache
def identifiers_of(tables: Tables) -> Mapping[str, sql.Composable]:
    """Return the placeholders of the mapped tables (`{documents}`) and columns (`{documents_embedding}`)."""
    identifiers: dict[str, sql.Composable] = {}
    for logical, name in tables.mapped().items():
        identifiers[logical] = identifier(name)
        for word, column in tables.columns_of(logical).items():
            identifiers[f"{logical}_{word}"] = sql.Identifier(column)
    # Its name as a text, for a look by way of JSON at a queue that may lack the column.
    identifiers["last_error"] = sql.Literal(tables.files_queue.columns.last_error)
    return identifiers
