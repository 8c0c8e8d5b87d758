"""Named SQL: every statement has one home, a `.sql` file beside this module.

A file holds sections headed `-- name: NAME`. `{placeholders}` are identifiers (quoted by psycopg)
or numbers; `%(parameters)s` are values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

from psycopg import abc, sql

from ragops.playbook.names import TableName
from ragops.playbook.tables import Tables

Statement = sql.Composed
"""One statement, composed and quoted, without its parameters."""

_HEAD = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"(?<!\{)\{(\w+)\}")


@cache
def _sections(file: str) -> Mapping[str, str]:
    text = resources.files("ragops.postgres").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _HEAD.split(text)
    return {name: body.strip().removesuffix(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def statement_names(file: str) -> tuple[str, ...]:
    """The names in one file, in its order."""
    return tuple(_sections(file))


def statement(
    file: str,
    name: str,
    identifiers: Mapping[str, sql.Composable] | None = None,
    *,
    drop_unknown_lines: bool = False,
) -> sql.Composed:
    """The statement `name` of `file`, with its identifiers filled in. Raises KeyError for an unknown one.

    `drop_unknown_lines` leaves out every line with a placeholder that has no value.
    """
    known = identifiers or {}
    text = _sections(file)[name]
    if drop_unknown_lines:
        lines = text.splitlines()
        text = "\n".join(line for line in lines if all(p in known for p in _PLACEHOLDER.findall(line)))
    # The text comes from the package's own files, so it is as constant as a literal.
    return fill_in(text, known)


class _Doubled(sql.Composable):
    """A part of a statement that is executed with parameters: psycopg reads a single `%` as a placeholder."""

    def as_bytes(self, context: abc.AdaptContext | None = None) -> bytes:
        part: sql.Composable = self._obj
        return part.as_bytes(context).replace(b"%", b"%%")


def beside_parameters(part: sql.Composable) -> sql.Composable:
    """The part, a name or an operator's own SQL, for a statement that is executed with parameters."""
    return _Doubled(part)


def fill_in(text: str, identifiers: Mapping[str, sql.Composable]) -> sql.Composed:
    """A statement from constant text and identifiers, which may hold a `%` of their own."""
    if "%(" in text or "%s" in text:
        identifiers = {name: beside_parameters(part) for name, part in identifiers.items()}
    return sql.SQL(text).format(**identifiers)


def text_of(statement: Statement) -> str:
    """Return a statement for people to read."""
    return statement.as_string(None)


def identifier(name: TableName) -> sql.Identifier:
    """A table name, quoted part by part."""
    return sql.Identifier(name.schema, name.name) if name.schema else sql.Identifier(name.name)


@cache
def identifiers_of(tables: Tables) -> Mapping[str, sql.Composable]:
    """Placeholders for all mapped tables (`{documents}`) and columns (`{documents_embedding}`)."""
    found: dict[str, sql.Composable] = {}
    for logical, name in tables.mapped().items():
        found[logical] = identifier(name)
        for word, column in tables.columns_of(logical).items():
            found[f"{logical}_{word}"] = sql.Identifier(column)
    return found
