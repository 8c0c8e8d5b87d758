"""What the role may not do with the tables, although the playbook's steps will: known before anything is wiped."""

from __future__ import annotations

from collections.abc import Iterator

from ragops.facts import DatabaseFacts, TableFacts
from ragops.playbook.model import Playbook
from ragops.playbook.steps import DropIndexes, Embed, EmptyTables, RebuildIndexes, ReseedQueue, Step

VECTOR_TABLES = ("documents", "document_chunks")
QUEUE = "files_queue"


def missing_select(table: TableFacts, role: str) -> Iterator[str]:
    """Every command reads its tables."""
    if "SELECT" not in table.privileges:
        yield _grant(table, "SELECT", role)


def missing_privileges(playbook: Playbook, facts: DatabaseFacts) -> Iterator[str]:
    """What the steps need beyond reading; each thing once, in the order of the steps."""
    role = facts.server.role
    if not facts.server.may_archive and any(isinstance(s, EmptyTables) and s.archive for s in playbook.steps):
        yield (
            f"role {role} may make no table in the schema ragops, where rows are archived: "
            f"GRANT USAGE, CREATE ON SCHEMA ragops TO {role}, or --no-archive"
        )
    needed = [
        (facts.tables.get(name), right) for step in playbook.steps for name, right in _needs(step, playbook, facts)
    ]
    yield from dict.fromkeys(_problem(t, right, role) for t, right in needed if t and right not in t.privileges)


def _needs(step: Step, playbook: Playbook, facts: DatabaseFacts) -> Iterator[tuple[str, str]]:
    """Pairs of a logical table and a right."""
    match step:
        case EmptyTables():
            yield from ((entry.table, entry.method.upper()) for entry in step.tables)
        case DropIndexes():
            for logical in VECTOR_TABLES:
                table = facts.tables.get(logical)
                if table is not None and any(index.method == "hnsw" for index in table.indexes):
                    yield logical, "OWN"
        case RebuildIndexes():
            for logical in _indexed(playbook, facts):
                yield from ((logical, "OWN"), (logical, "CREATE"))
        case ReseedQueue():
            yield from ((QUEUE, "INSERT"), (QUEUE, "COPY"))
        case Embed():
            yield QUEUE, "UPDATE"
            for logical in facts.tables:
                if logical != QUEUE:
                    yield from ((logical, "INSERT"), (logical, "COPY"))
        case _:
            pass


def _indexed(playbook: Playbook, facts: DatabaseFacts) -> list[str]:
    """Tables on which an index will be built: all of the playbook's, unless they are there and stay."""
    tables = {name: table for name, table in facts.tables.items() if table is not None}
    valid = {index.name for table in tables.values() for index in table.indexes if index.is_valid}
    are_dropped = any(isinstance(step, DropIndexes) for step in playbook.steps)
    return [index.table for index in playbook.indexes if are_dropped or index.name not in valid]


def _problem(table: TableFacts, right: str, role: str) -> str:
    if right == "OWN":
        return (
            f"role {role} does not own {table.qualified}, so it can neither drop nor build its indexes: "
            f"ALTER TABLE {table.qualified} OWNER TO {role}, or run ragops as its owner"
        )
    if right == "CREATE":
        return (
            f"role {role} may make no index in the schema {table.schema}: "
            f"GRANT CREATE ON SCHEMA {table.schema} TO {role}"
        )
    if right == "COPY":
        return (
            f"row-level security of {table.qualified} applies to role {role}, and COPY does not work with that: "
            "run ragops as a role with BYPASSRLS, or as the table's owner"
        )
    return _grant(table, right, role)


def _grant(table: TableFacts, right: str, role: str) -> str:
    return (
        f"role {role} may not {right} on {table.qualified}: GRANT {right} ON {table.qualified} TO {role}, "
        "or run ragops as its owner"
    )
