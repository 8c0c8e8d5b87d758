"""Check the columns of mapped tables for what no document could be stored in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ragops.errors import PlanRefused
from ragops.facts import TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.copy_binary import plain_type

_INTEGERS = ("bigint", "integer", "smallint")


def without_domains(table: TableFacts) -> TableFacts:
    """Return a table's facts with the types that its domains stand for."""
    columns = {name: replace(column, type=column.stored_type) for name, column in table.columns.items()}
    return replace(table, columns=columns)


def check_file_ids(tables: Tables, facts: Mapping[str, TableFacts]) -> None:
    """Raise PlanRefused if a column for the ids of queue items can hold none of them: a uuid is no number."""
    if "files_queue" not in facts:
        return
    item = facts["files_queue"].columns[tables.columns_of("files_queue")["id"]]
    for logical in ("documents", "parsed_files"):
        column = tables.columns_of(logical).get("file_id") if logical in facts else None
        if column is None:
            continue
        held = facts[logical].columns[column]
        kinds = {_id_kind(item.stored_type), _id_kind(held.stored_type)}
        if kinds == {"number", "uuid"}:
            raise PlanRefused(
                "a column cannot hold the ids of the queue's items",
                where=f"{facts[logical].qualified}.{column}",
                actual=held.type,
                expected=f"{item.type}, the type of {facts['files_queue'].qualified}.{item.name}",
                hint=f'ALTER TABLE {facts[logical].qualified} ALTER COLUMN "{column}" TYPE {item.type} USING NULL',
            )


def check_contents(tables: Tables, facts: Mapping[str, TableFacts]) -> None:
    """Raise PlanRefused if a column for texts is one of bytes: a text that begins with \\x would become others."""
    for logical in ("documents", "document_chunks"):
        column = tables.columns_of(logical)["content"] if logical in facts else None
        if column is not None and facts[logical].columns[column].stored_type == "bytea":
            raise PlanRefused(
                "a column cannot hold texts",
                where=f"{facts[logical].qualified}.{column}",
                actual=facts[logical].columns[column].type,
                expected="text",
                hint=f'ALTER TABLE {facts[logical].qualified} ALTER COLUMN "{column}" TYPE text'
                f" USING convert_from(\"{column}\", 'UTF8')",
            )


def _id_kind(type_name: str) -> str:
    if plain_type(type_name) in (*_INTEGERS, "numeric", "real", "double precision"):
        return "number"
    return "uuid" if type_name == "uuid" else "other"
