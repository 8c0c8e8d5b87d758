"""Targets of a playbook: vector columns of rows that stay where they are.

A playbook without `targets:` fills the five tables of `tables:` from files. One with targets writes one vector
column per target and nothing else: no row is inserted, deleted or otherwise changed.
"""

from __future__ import annotations

import string
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ragops.playbook.tables import Identifier, QueueColumns, QueueTable, Section, Tables, TableText

# The queue of the work items of all targets: ragops' own, so that no queue of the application is needed.
WORK_TABLE = "ragops.work"
# What an SQL expression may not end: the statement that it is put into. It is parsed by the server alone.
NonEmptySql = Annotated[str, Field(min_length=1)]
LongText = Literal["mean", "truncate", "fail"]
Write = Literal["in_place", "beside"]
OnTriggers = Literal["refuse", "fire", "disable"]


class RowTarget(Section):
    """One vector column of a table, with the text that its vectors are made of."""

    table: TableText
    key: tuple[Identifier, ...] = ()
    """Columns that identify a row; empty: the primary key, else a unique index over NOT NULL columns."""
    text: NonEmptySql | None = None
    """Template over the row's columns, e.g. `"{title}\\n\\n{body}"`. A NULL column reads as empty."""
    sql: NonEmptySql | None = None
    """SQL expression over the row's columns instead of a template, e.g. `metadata->>'text'`."""
    where: NonEmptySql | None = None
    """SQL condition: only these rows belong to the target."""
    embedding: Identifier = "embedding"
    """The vector column: `vector`, `vector(n)`, `halfvec` or `halfvec(n)`."""
    long_text: LongText = "mean"
    """What becomes of a text that is longer than the model's context: the mean of its chunks' vectors, the vector
    of its beginning (as writers do that truncate), or a failed item."""
    write: Write = "in_place"
    """`in_place` replaces vectors where they are; `beside` fills a second column, which then takes its place."""
    new_column: Identifier | None = None
    """Name of the second column while it is filled; null: the first one's with `_new`."""
    type: Literal["vector", "halfvec"] | None = None
    """Type of the second column; null: as the first one's. Its dimensions are the model's."""
    changed_at: Identifier | None = None
    """Column with the time of a row's last change, for `select_rows: stale` where ragops has not embedded it."""
    embedded_at: Identifier | None = None
    """Column with the time at which the row was embedded, compared with `changed_at`."""
    triggers: OnTriggers = "refuse"
    """What becomes of user triggers that fire when the vector column is updated."""

    @field_validator("text", "sql", "where", "new_column", "type", "changed_at", "embedded_at", mode="before")
    @classmethod
    def _absent_if_empty(cls, value: object) -> object:
        """Read an empty text as null: SQL belongs into quotes, where an unset variable leaves one."""
        return None if value == "" else value

    @field_validator("key", mode="before")
    @classmethod
    def _without_empty(cls, value: object) -> object:
        """Leave out empty names: `key: ["${RAGOPS_KEY:-}"]` without the variable is no key."""
        if not isinstance(value, list | tuple):
            return value
        return tuple(name for name in value if name not in ("", None))

    @model_validator(mode="after")
    def _one_text(self) -> Self:
        if (self.text is None) == (self.sql is None):
            found = "neither" if self.text is None else "both"
            raise ValueError(f"a target has either `text:` (a template) or `sql:` (an expression), found {found}")
        if self.text is not None:
            parts = template_parts(self.text)
            if not any(column is not None for _, column in parts):
                raise ValueError(
                    f"the template {self.text!r} names no column; write its name in braces, e.g. "
                    f"{'{' + self.text.strip() + '}'!r}"
                )
        if self.write == "in_place" and (self.new_column or self.type):
            raise ValueError("new_column and type belong to `write: beside`")
        if len(set(self.key)) < len(self.key):
            raise ValueError("a key names each column once")
        return self

    @property
    def filled_column(self) -> str:
        """The name of the second column of a target that is written beside."""
        return self.new_column or f"{self.embedding}_new"


def template_parts(template: str) -> list[tuple[str, str | None]]:
    """Return a template as pairs of literal text and the column that follows it; None behind the last one.

    `{{` and `}}` are braces. Raises ValueError for a template that cannot be parsed.
    """
    parts: list[tuple[str, str | None]] = []
    try:
        for literal, field, spec, conversion in string.Formatter().parse(template):
            if spec or conversion:
                raise ValueError(f"the template's {{{field}}} has more than a column's name")
            if field == "":
                raise ValueError("the template has empty braces; write {{ and }} for braces in the text")
            parts.append((literal, field))
    except ValueError as error:
        raise ValueError(f"{error} (in the template {template!r})") from None
    return parts


def work_tables() -> Tables:
    """Return the tables of a playbook with targets: ragops' own queue, and none of the five."""
    return Tables(
        documents=None,
        document_chunks=None,
        parsed_files=None,
        ingestion_metrics=None,
        files_queue=QueueTable(table=WORK_TABLE, columns=QueueColumns(location="location")),
    )
