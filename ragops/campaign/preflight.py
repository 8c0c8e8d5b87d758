"""Check the mapped tables and the server: all problems at once, before anything changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ragops.campaign.privileges import QUEUE, privilege_problems
from ragops.campaign.reading import extension_problems, missing_column, missing_table, remedy
from ragops.errors import PlanRefused
from ragops.facts import VECTOR_TYPE, DatabaseFacts, ModelFacts, TableFacts, quoted, vector_dimensions, version_of
from ragops.findings import PlanProblem
from ragops.playbook.model import Playbook
from ragops.playbook.tables import WHERE_PRESENT, Tables

# What a controller opens, however many workers it runs: its own connection, and those of the fetcher, the
# completer, the heartbeat and the progress display.
CONNECTIONS = 5
# Defaults that let a row be stored where ragops knows nothing to put: as empty as the type allows.
_ANY_VALUE = {
    "timestamp with time zone": "now()",
    "timestamp without time zone": "now()",
    "date": "CURRENT_DATE",
    "uuid": "gen_random_uuid()",
}


def find_table_problems(
    playbook: Playbook, facts: DatabaseFacts, *, model: ModelFacts | None
) -> list[PlanProblem | str]:
    """Return every reason why a command cannot use the mapped tables; empty when it can."""
    problems: list[PlanProblem | str] = [*_server(facts)]
    if playbook.targets:
        # The only mapped table is ragops' own queue, which a campaign makes where it is missing.
        return [*problems, *_work_problems(facts), *extension_problems(facts), *_model_dimensions(playbook, model)]
    expected = model.dimensions if model else playbook.model.dimensions
    for logical, table in facts.tables.items():
        if table is None:
            problems.append(missing_table(playbook.tables, facts, logical))
        else:
            problems += _table(playbook.tables, logical, table, dimensions=expected)
            # Every command reads its tables.
            problems += privilege_problems(facts, logical, "USAGE", "SELECT")
    problems += extension_problems(facts)
    problems += _same_tables(facts)
    problems += _dimensions(playbook, facts, model)
    return problems


def _server(facts: DatabaseFacts) -> Iterator[PlanProblem]:
    server = facts.server
    if server.pgvector_version is None:
        yield PlanProblem("the extension pgvector is not installed", "CREATE EXTENSION vector")
    elif version_of(server.pgvector_version) < (0, 5):
        yield PlanProblem(
            f"pgvector {server.pgvector_version} has no HNSW index; 0.5 or newer is needed",
            "ALTER EXTENSION vector UPDATE",
        )
    if server.is_read_only:
        # A standby's cannot be cured; a setting of the database or the role can.
        yield PlanProblem("the database is read-only (a standby, or its storage is at its limit)")
    free = server.max_connections - server.connections_in_use
    if free < CONNECTIONS:
        # However many workers there are: they share the connections of their controller.
        yield PlanProblem(
            f"{free} of {server.max_connections} connections are free, ragops needs {CONNECTIONS}; "
            "close others or raise max_connections (it takes a restart of the server)",
            f"ALTER SYSTEM SET max_connections = {server.max_connections + 20}",
        )


def _work_problems(facts: DatabaseFacts) -> Iterator[PlanProblem]:
    """Yield what the role lacks on ragops' own queue; nothing where it does not exist yet."""
    yield from privilege_problems(facts, QUEUE, "USAGE", "SELECT", "INSERT", "UPDATE", "DELETE")


def _table(tables: Tables, logical: str, table: TableFacts, *, dimensions: int | None) -> Iterator[PlanProblem]:
    columns = tables.columns_of(logical)
    name = quoted(table.schema, table.name)
    for word, column in columns.items():
        if column not in table.columns and (logical, word) not in WHERE_PRESENT:
            yield PlanProblem(missing_column(tables, table, logical, word))
    mapped = set(columns.values())
    for other in table.columns.values():
        fills_itself = other.is_nullable or other.has_default or other.is_identity or other.is_generated
        if other.name not in mapped and not fills_itself:
            yield PlanProblem(
                f"column {table.quoted}.{other.name} is NOT NULL without a default, "
                f"and {logical}.columns maps nothing onto it",
                f"ALTER TABLE {name} ALTER COLUMN {quoted(other.name)} "
                + (f"SET DEFAULT {_ANY_VALUE[other.type]}" if other.type in _ANY_VALUE else "DROP NOT NULL"),
            )
    if table.is_unlogged:
        yield PlanProblem(
            f"table {table.quoted} is UNLOGGED: a crash would empty it", f"ALTER TABLE {name} SET LOGGED"
        )
    embedding = columns.get("embedding")
    if (
        embedding is not None
        and embedding in table.columns
        and not VECTOR_TYPE.fullmatch(table.columns[embedding].type)
    ):
        yield PlanProblem(
            f"column {table.quoted}.{embedding} has type {table.columns[embedding].type}, needed: vector",
            _vector_cure(table, embedding, dimensions),
        )


def _vector_cure(table: TableFacts, column: str, dimensions: int | None) -> str:
    """Return the SQL that makes a column a vector: by a cast, or beside what it holds now."""
    kind, name = table.columns[column].type, quoted(column)
    found = re.search(r"halfvec(\(\d+\))?$", kind)
    length = (found.group(1) if found else None) or (f"({dimensions})" if dimensions else "")
    if found is None and kind not in ("real[]", "double precision[]", "integer[]", "numeric[]"):
        return _beside(table, column, f"vector{length}")
    wanted = f"vector{length}"
    return (
        f"ALTER TABLE {quoted(table.schema, table.name)} ALTER COLUMN {name} TYPE {wanted} USING {name}::{wanted}"
    )


def _beside(table: TableFacts, column: str, kind: str) -> str:
    """Return the SQL that gives a column another type, and keeps what it holds in one of another name."""
    name, old = quoted(table.schema, table.name), quoted(f"{column[:55]}_before")
    return (
        f"ALTER TABLE {name} RENAME COLUMN {quoted(column)} TO {old}; "
        f"ALTER TABLE {name} ADD COLUMN {quoted(column)} {kind}"
    )


def _dimensions(playbook: Playbook, facts: DatabaseFacts, model: ModelFacts | None) -> Iterator[PlanProblem]:
    expected = model.dimensions if model else playbook.model.dimensions
    yield from _model_dimensions(playbook, model)
    for logical in ("documents", "document_chunks"):
        table = facts.tables.get(logical)
        if table is None or expected is None:
            continue
        column = playbook.tables.columns_of(logical)["embedding"]
        declared = vector_dimensions(table, column) if column in table.columns else None
        if declared not in (None, expected):
            # Vectors of another length have no place in this column, and an undo would miss them.
            yield PlanProblem(
                f"column {table.quoted}.{column} holds {declared} dimensions, the model makes {expected}",
                _beside(table, column, f"vector({expected})"),
            )


def _model_dimensions(playbook: Playbook, model: ModelFacts | None) -> Iterator[PlanProblem]:
    if model and playbook.model.dimensions not in (None, model.dimensions):
        yield PlanProblem(
            f"the model has {model.dimensions} dimensions, model.dimensions says {playbook.model.dimensions}"
        )


def _same_tables(facts: DatabaseFacts) -> Iterator[PlanProblem]:
    """`documents` and `public.documents` are two names in a playbook and may be one table here."""
    first: dict[int, str] = {}
    for logical, table in facts.tables.items():
        if table is not None and first.setdefault(table.oid, logical) != logical:
            yield PlanProblem(f"table {table.quoted} is mapped twice, as {first[table.oid]} and as {logical}")


def refuse_problems(problems: Sequence[PlanProblem | str], *, where: str) -> None:
    """Raise PlanRefused that lists all problems, unless there is none."""
    if not problems:
        return
    listed = [problem if isinstance(problem, PlanProblem) else PlanProblem(problem) for problem in problems]
    is_missing = any("does not exist" in problem.what or " is a " in problem.what for problem in listed)
    raise PlanRefused(
        f"the playbook cannot run on this database: {len(problems)} "
        f"problem{'s' if len(problems) != 1 else ''}; nothing was changed",
        where=where,
        problems=listed,
        hint=remedy(listed) if is_missing else "fix these, then: ragops reset --dry-run",
    )
