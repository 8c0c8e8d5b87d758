"""Check the columns of mapped tables for what no document could be stored in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ragops.errors import PlanRefused
from ragops.facts import ColumnFacts, TableFacts
from ragops.playbook.tables import WHERE_PRESENT, Tables
from ragops.postgres.copy_binary import plain_type, text_limit

_INTEGERS = ("bigint", "integer", "smallint")


def written_columns(tables: Tables, logical: str, table: TableFacts) -> dict[str, str]:
    """Return logical column → database column of those that ragops writes in this table."""
    columns = tables.columns_of(logical)
    for of, word in WHERE_PRESENT:
        column = table.columns.get(columns.get(word, "")) if of == logical else None
        if of == logical and (column is None or not _holds_json(column)):
            columns.pop(word, None)
    return columns


def _holds_json(column: ColumnFacts) -> bool:
    kind = plain_type(column.stored_type)
    is_text = kind in ("text", "character varying") and text_limit(column.stored_type) is None
    return column.is_nullable and not column.is_generated and (is_text or kind in ("json", "jsonb"))


def without_domains(table: TableFacts) -> TableFacts:
    """Return a table's facts with the types that its domains stand for."""
    columns = {name: replace(column, type=column.stored_type) for name, column in table.columns.items()}
    return replace(table, columns=columns)


def check_file_ids(tables: Tables, facts: Mapping[str, TableFacts]) -> None:
    """Raise PlanRefused if a column for the ids of queue items can hold none of them: a uuid is no number."""
    item = _column(tables, facts, "files_queue", "id")
    for logical in ("documents", "parsed_files"):
        held = _column(tables, facts, logical, "file_id")
        if item is None or held is None:
            continue
        table, queue = facts[logical].qualified, facts["files_queue"].qualified
        if {_id_kind(item.stored_type), _id_kind(held.stored_type)} == {"number", "uuid"}:
            raise PlanRefused(
                "a column cannot hold the ids of the queue's items",
                where=f"{table}.{held.name}",
                actual=held.type,
                expected=f"{item.type}, the type of {queue}.{item.name}",
                hint=f'ALTER TABLE {table} ALTER COLUMN "{held.name}" TYPE {item.type} USING NULL',
            )


def check_contents(tables: Tables, facts: Mapping[str, TableFacts]) -> None:
    """Raise PlanRefused if a column for texts is one of bytes: a text that begins with \\x would become others."""
    for logical in ("documents", "document_chunks"):
        column = _column(tables, facts, logical, "content")
        if column is not None and column.stored_type == "bytea":
            table = facts[logical].qualified
            raise PlanRefused(
                "a column cannot hold texts",
                where=f"{table}.{column.name}",
                actual=column.type,
                expected="text",
                hint=f'ALTER TABLE {table} ALTER COLUMN "{column.name}" TYPE text'
                f" USING convert_from(\"{column.name}\", 'UTF8')",
            )


def _column(tables: Tables, facts: Mapping[str, TableFacts], logical: str, word: str) -> ColumnFacts | None:
    """Return a mapped column; None if nothing is mapped or it does not exist, which preflight reports."""
    if logical not in facts:
        return None
    return facts[logical].columns.get(tables.columns_of(logical).get(word, ""))


def _id_kind(type_name: str) -> str:
    if plain_type(type_name) in (*_INTEGERS, "numeric", "real", "double precision"):
        return "number"
    return "uuid" if type_name == "uuid" else "other"
