"""What stands between a playbook and a database as it is: all problems at once, before anything changes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ragops.facts import DatabaseFacts, ModelFacts, TableFacts
from ragops.playbook.model import Playbook
from ragops.playbook.steps import EmptyTables
from ragops.playbook.tables import Tables

# Connections of a controller beside one a worker: its own, the heartbeat's, the progress display's.
OWN_CONNECTIONS = 3
_VECTOR = re.compile(r"vector(?:\((\d+)\))?")


def find_problems(playbook: Playbook, facts: DatabaseFacts, *, model: ModelFacts | None) -> list[str]:
    """Every reason why the playbook cannot run on this database; empty when it can."""
    problems = [*_server(playbook, facts)]
    for logical, table in facts.tables.items():
        if table is None:
            problems.append(f"table {playbook.tables.mapped()[logical]} ({logical}) does not exist")
        else:
            problems += _table(playbook.tables, logical, table)
    problems += _dimensions(playbook, facts, model)
    problems += _foreign_keys(playbook, facts)
    return problems


def vector_dimensions(table: TableFacts, column: str) -> int | None:
    """The declared dimensions of a vector column; None when the column declares none."""
    match = _VECTOR.fullmatch(table.columns[column].type)
    return int(match.group(1)) if match and match.group(1) else None


def _server(playbook: Playbook, facts: DatabaseFacts) -> Iterator[str]:
    server = facts.server
    if server.pgvector_version is None:
        yield "the extension pgvector is not installed: CREATE EXTENSION vector"
    elif _version(server.pgvector_version) < (0, 5):
        yield f"pgvector {server.pgvector_version} has no HNSW index; 0.5 or newer is needed"
    if server.is_read_only:
        yield "the database is read-only (a standby, or its storage is at its limit)"
    free = server.max_connections - server.connections_in_use
    if free < playbook.workers.count + OWN_CONNECTIONS:
        fitting = max(0, free - OWN_CONNECTIONS)
        yield (
            f"{playbook.workers.count} workers need {playbook.workers.count + OWN_CONNECTIONS} connections, "
            f"{free} of {server.max_connections} are free: at most {fitting} workers fit"
        )


def _table(tables: Tables, logical: str, table: TableFacts) -> Iterator[str]:
    columns = tables.columns_of(logical)
    for word, column in columns.items():
        if column not in table.columns:
            yield f"column {table.qualified}.{column} ({logical}.columns.{word}) does not exist"
    mapped = set(columns.values())
    for other in table.columns.values():
        fills_itself = other.is_nullable or other.has_default or other.is_identity or other.is_generated
        if other.name not in mapped and not fills_itself:
            yield (
                f"column {table.qualified}.{other.name} is NOT NULL without a default, "
                f"and {logical}.columns maps nothing onto it"
            )
    if table.is_unlogged:
        yield f"table {table.qualified} is UNLOGGED: a crash would empty it. ALTER TABLE … SET LOGGED"
    embedding = columns.get("embedding")
    if (
        embedding is not None
        and embedding in table.columns
        and not _VECTOR.fullmatch(table.columns[embedding].type)
    ):
        yield f"column {table.qualified}.{embedding} has type {table.columns[embedding].type}, needed: vector"


def _dimensions(playbook: Playbook, facts: DatabaseFacts, model: ModelFacts | None) -> Iterator[str]:
    expected = model.dimensions if model else playbook.model.dimensions
    if model and playbook.model.dimensions not in (None, model.dimensions):
        yield f"the model has {model.dimensions} dimensions, model.dimensions says {playbook.model.dimensions}"
    for logical in ("documents", "document_chunks"):
        table = facts.tables.get(logical)
        if table is None or expected is None:
            continue
        column = playbook.tables.columns_of(logical)["embedding"]
        declared = vector_dimensions(table, column) if column in table.columns else None
        if declared not in (None, expected):
            yield f"column {table.qualified}.{column} holds {declared} dimensions, the model makes {expected}"


def _foreign_keys(playbook: Playbook, facts: DatabaseFacts) -> Iterator[str]:
    """Tables that reference a truncated one without being truncated themselves: nothing cascades here."""
    for step in playbook.steps:
        if not isinstance(step, EmptyTables):
            continue
        methods = {entry.table: entry.method for entry in step.tables}
        for entry in step.tables:
            if facts.tables.get(entry.table, False) is False:
                yield f"empty_tables names {entry.table}, which tables: sets to null"
        by_name = {t.qualified: methods.get(logical) for logical, t in facts.tables.items() if t}  # type: ignore[call-overload]
        for logical, table in facts.tables.items():
            method = methods.get(logical)  # type: ignore[call-overload]
            if table is None or method is None:
                continue
            for key in table.referenced_by:
                other = by_name.get(key.table)
                if (method == "truncate" and other != "truncate") or (method == "delete" and other is None):
                    yield (
                        f"{key.table} references {table.qualified} (foreign key {key.name}, ON DELETE "
                        f"{key.on_delete}) and is not {'truncated' if method == 'truncate' else 'emptied'} "
                        f"with it; list it in empty_tables, or use method: delete"
                    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
