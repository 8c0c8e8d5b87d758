"""What stands between a playbook and a database as it is: all problems at once, before anything changes."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.campaign.privileges import missing_privileges, missing_select
from ragops.facts import VECTOR_TYPE, DatabaseFacts, ModelFacts, TableFacts, vector_dimensions, version_of
from ragops.playbook.model import Playbook
from ragops.playbook.steps import EmptyTables, RebuildIndexes
from ragops.playbook.tables import Tables

CONNECTIONS = 5
"""What a controller holds: its own, the intake's, the outlet's, the heartbeat's, and the progress display's."""
LIST_BEFORE = "empty_tables must list it before, as rows are deleted in that order"


def find_problems(playbook: Playbook, facts: DatabaseFacts, *, model: ModelFacts | None) -> list[str]:
    """Every reason why the playbook cannot run on this database; empty when it can."""
    return [
        *find_table_problems(playbook, facts, model=model),
        *_foreign_keys(playbook, facts),
        *_timeouts(playbook, facts),
        *missing_privileges(playbook, facts),
    ]


def find_table_problems(playbook: Playbook, facts: DatabaseFacts, *, model: ModelFacts | None) -> list[str]:
    """The same for a single command that empties nothing."""
    problems = [*_server(facts)]
    for logical, table in facts.tables.items():
        if table is None:
            problems.append(f"table {playbook.tables.mapped()[logical]} ({logical}) does not exist")
        else:
            problems += _table(playbook.tables, logical, table)
            problems += missing_select(table, facts.server.role)
    problems += _same_tables(facts)
    problems += _dimensions(playbook, facts, model)
    return problems


def _server(facts: DatabaseFacts) -> Iterator[str]:
    server = facts.server
    if server.pgvector_version is None:
        yield "the extension pgvector is not installed: CREATE EXTENSION vector"
    elif version_of(server.pgvector_version) < (0, 5):
        yield f"pgvector {server.pgvector_version} has no HNSW index; 0.5 or newer is needed"
    if server.is_read_only:
        yield "the database is read-only (a standby, or its storage is at its limit)"
    free = server.max_connections - server.connections_in_use
    if free < CONNECTIONS:
        # However many workers there are: they share the connections of their controller.
        yield (
            f"{free} of {server.max_connections} connections are free, ragops needs {CONNECTIONS}; "
            "close others or raise max_connections"
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
        and not VECTOR_TYPE.fullmatch(table.columns[embedding].type)
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


def _same_tables(facts: DatabaseFacts) -> Iterator[str]:
    """`documents` and `public.documents` are two names in a playbook and may be one table here."""
    first: dict[int, str] = {}
    for logical, table in facts.tables.items():
        if table is not None and first.setdefault(table.oid, logical) != logical:
            yield f"table {table.qualified} is mapped twice, as {first[table.oid]} and as {logical}"


def _foreign_keys(playbook: Playbook, facts: DatabaseFacts) -> Iterator[str]:
    """Tables that reference a truncated one without being truncated themselves: nothing cascades here."""
    for step in playbook.steps:
        if not isinstance(step, EmptyTables):
            continue
        methods: dict[str, str] = {entry.table: entry.method for entry in step.tables}
        for entry in step.tables:
            if facts.tables.get(entry.table, False) is False:
                yield f"empty_tables names {entry.table}, which tables: sets to null"
        places: dict[str, int] = {entry.table: place for place, entry in enumerate(step.tables)}
        by_name = {t.qualified: logical for logical, t in facts.tables.items() if t}
        for entry in step.tables:
            table = facts.tables.get(entry.table)
            for key in table.referenced_by if table else ():
                other = by_name.get(key.table, "")
                remedy = _remedy(entry.method, methods.get(other), key.on_delete)
                # Rows are deleted in the order of the list.
                is_earlier = other in places and places[other] < places[entry.table]
                if remedy and not (remedy == LIST_BEFORE and is_earlier):
                    yield (
                        f"{key.table} references {table.qualified if table else entry.table} (foreign key "
                        f"{key.name}, ON DELETE {key.on_delete}): {remedy}"
                    )


def _timeouts(playbook: Playbook, facts: DatabaseFacts) -> Iterator[str]:
    """Long statements lift a role's timeout in their transaction; a concurrent build cannot have one."""
    timeout = facts.server.settings.get("statement_timeout", "0")
    is_concurrent = any(isinstance(step, RebuildIndexes) and step.concurrently for step in playbook.steps)
    if is_concurrent and timeout != "0":
        yield (
            f"statement_timeout is {timeout}, which would end CREATE INDEX CONCURRENTLY: "
            "ALTER ROLE … SET statement_timeout = 0, or concurrently: false"
        )


def _remedy(method: str, other: str | None, on_delete: str) -> str | None:
    """What must change so that one table can be emptied although another references it."""
    if method == "truncate":
        return None if other == "truncate" else "empty_tables must truncate both, or delete from both"
    if other is None:
        return "empty_tables must list it too"
    return LIST_BEFORE if other == "delete" and on_delete in ("NO ACTION", "RESTRICT") else None
