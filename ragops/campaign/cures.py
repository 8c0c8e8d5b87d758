"""The SQL that gives a column a type that ragops can fill."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ragops.facts import TableFacts, quoted
from ragops.playbook.tables import Tables
from ragops.postgres.copy_binary import is_text, plain_type

# The types that `ragops db init` gives to columns, and others that are as good.
TYPES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("documents", "file_path"): ("text", "character varying"),
    ("documents", "content"): ("text", "character varying"),
    ("documents", "metadata"): ("jsonb", "json"),
    ("document_chunks", "chunk_index"): ("integer", "bigint", "smallint"),
    ("document_chunks", "content"): ("text", "character varying"),
    ("parsed_files", "content_hash"): ("text", "character varying"),
    ("parsed_files", "characters"): ("integer", "bigint"),
    ("parsed_files", "chunks"): ("integer", "bigint", "smallint"),
    ("ingestion_metrics", "worker"): ("text", "character varying"),
    ("ingestion_metrics", "fingerprint"): ("text", "character varying"),
    ("ingestion_metrics", "documents"): ("integer", "bigint"),
    ("ingestion_metrics", "chunks"): ("integer", "bigint"),
    ("ingestion_metrics", "tokens"): ("bigint", "integer"),
    ("ingestion_metrics", "milliseconds"): ("bigint", "integer"),
    ("files_queue", "location"): ("text", "character varying"),
    ("files_queue", "status"): ("text", "character varying"),
    ("files_queue", "attempts"): ("integer", "smallint", "bigint"),
    ("files_queue", "phase"): ("smallint", "integer", "bigint"),
    ("files_queue", "claim_id"): ("uuid",),
    ("files_queue", "claimed_by"): ("text", "character varying"),
    ("files_queue", "lease_until"): ("timestamp with time zone",),
    ("files_queue", "last_error"): ("text", "character varying"),
}
# These hold the ids of another table: text holds all of them.
REFERENCES = {
    ("documents", "file_id"): "files_queue",
    ("document_chunks", "document_id"): "documents",
    ("parsed_files", "file_id"): "files_queue",
}
NUMBERS = ("bigint", "integer", "smallint")


def type_cure(
    tables: Tables, facts: Mapping[str, TableFacts], logical: str, word: str, *, force: bool = False
) -> str:
    """Return the SQL that changes a column to the type of `ragops db init`; empty if its type is as good.

    `force` changes a type that is as good but limited, such as `character varying(10)`.
    """
    table = facts[logical]
    column = table.columns.get(tables.columns_of(logical)[word])
    wanted = ("text",) if (logical, word) in REFERENCES else TYPES.get((logical, word), ())
    if column is None or not wanted or (not force and _is_like_its_id(tables, facts, logical, word)):
        return ""
    is_limited = column.type.startswith("character") and "(" in column.type
    if plain_type(column.type) in wanted and not (force and is_limited):
        return ""
    name = quoted(column.name)
    drop = f"ALTER COLUMN {name} DROP DEFAULT, " if column.has_default else ""
    value = f"to_jsonb({name})" if wanted[0] == "jsonb" else f"{name}::text"
    if wanted[0] not in ("text", "jsonb"):
        value += f"::{wanted[0]}"
    return (
        f"ALTER TABLE {quoted(table.schema, table.name)} {drop}ALTER COLUMN {name} TYPE {wanted[0]} USING {value}"
    )


def _is_like_its_id(tables: Tables, facts: Mapping[str, TableFacts], logical: str, word: str) -> bool:
    """Return whether a column that holds ids of another table can hold them."""
    other = REFERENCES.get((logical, word))
    if other is None or other not in facts:
        return False
    ids = facts[other].columns.get(tables.columns_of(other)["id"])
    own = facts[logical].columns[tables.columns_of(logical)[word]]
    return ids is None or own.type == ids.type or {own.type, ids.type} <= {*NUMBERS} or is_text(own.type)


def misfit(tables: Tables, facts: Mapping[str, TableFacts], logical: str, word: str) -> bool:
    """Return whether a column certainly cannot hold the ids of another table: numbers, uuids and texts differ."""
    column = tables.columns_of(logical).get(word)
    if column is None or column not in facts[logical].columns or _is_like_its_id(tables, facts, logical, word):
        return False
    other = REFERENCES[logical, word]
    ids = facts[other].columns.get(tables.columns_of(other)["id"]) if other in facts else None
    if ids is None:
        # A missing table or column is a problem of its own.
        return False
    # New ids of documents that are texts are uuids.
    kinds = {_kind(ids.type), _kind(facts[logical].columns[column].type)}
    return "" not in kinds and not (other == "documents" and kinds == {"text", "uuid"})


def _kind(type_name: str) -> str:
    """Return `number`, `uuid` or `text`; empty for another type."""
    if type_name in NUMBERS:
        return "number"
    return "text" if type_name.startswith(("text", "character")) else "uuid" if type_name == "uuid" else ""


def column_named(context: str, table: TableFacts) -> str:
    """Return the column that a COPY failed in, from the server's context; empty if it names none.

    The line ends with the column in every language: `COPY documents, line 1, column content`.
    """
    line = next((line for line in context.splitlines() if line.startswith("COPY ")), "")
    named = [name for name in table.columns if re.search(rf", [^,]* {re.escape(name)}(?:: |$)", line)]
    return max(named, key=len, default="")
