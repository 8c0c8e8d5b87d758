"""Check the mapped tables and the server: all problems at once, before anything changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ragops.campaign.privileges import privilege_problems
from ragops.campaign.reading import extension_problems, missing_column, missing_table, remedy
from ragops.errors import PlanRefused
from ragops.facts import VECTOR_TYPE, DatabaseFacts, ModelFacts, TableFacts, vector_dimensions, version_of
from ragops.findings import PlanProblem
from ragops.playbook.model import Playbook
from ragops.playbook.tables import Tables

# What a controller opens, however many workers it runs: its own connection, and those of the fetcher, the
# completer, the heartbeat and the progress display.
CONNECTIONS = 5


def find_table_problems(
    playbook: Playbook, facts: DatabaseFacts, *, model: ModelFacts | None
) -> list[PlanProblem | str]:
    """Return every reason why a command cannot use the mapped tables; empty when it can."""
    problems: list[PlanProblem | str] = [*_server(facts)]
    for logical, table in facts.tables.items():
        if table is None:
            problems.append(missing_table(playbook.tables, facts, logical))
        else:
            problems += _table(playbook.tables, logical, table)
            # Every command reads its tables.
            problems += privilege_problems(facts, logical, "USAGE", "SELECT")
    problems += extension_problems(facts)
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
            yield missing_column(tables, table, logical, word)
    mapped = set(columns.values())
    for other in table.columns.values():
        fills_itself = other.is_nullable or other.has_default or other.is_identity or other.is_generated
        if other.name not in mapped and not fills_itself:
            yield (
                f"column {table.quoted}.{other.name} is NOT NULL without a default, "
                f"and {logical}.columns maps nothing onto it"
            )
    if table.is_unlogged:
        yield f"table {table.quoted} is UNLOGGED: a crash would empty it. ALTER TABLE … SET LOGGED"
    embedding = columns.get("embedding")
    if (
        embedding is not None
        and embedding in table.columns
        and not VECTOR_TYPE.fullmatch(table.columns[embedding].type)
    ):
        yield f"column {table.quoted}.{embedding} has type {table.columns[embedding].type}, needed: vector"


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
            yield f"column {table.quoted}.{column} holds {declared} dimensions, the model makes {expected}"


def _same_tables(facts: DatabaseFacts) -> Iterator[str]:
    """`documents` and `public.documents` are two names in a playbook and may be one table here."""
    first: dict[int, str] = {}
    for logical, table in facts.tables.items():
        if table is not None and first.setdefault(table.oid, logical) != logical:
            yield f"table {table.quoted} is mapped twice, as {first[table.oid]} and as {logical}"


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
