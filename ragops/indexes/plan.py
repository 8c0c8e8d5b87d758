"""Which indexes a plan drops and builds: pure decisions from catalog, journal and playbook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragops.actions import AnalyzeTable, CreateIndex, IndexBuild, RestoreIndex
from ragops.facts import DatabaseFacts, IndexFacts
from ragops.playbook.model import Playbook
from ragops.playbook.steps import RebuildIndexes


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A dropped index that was not restored yet."""

    schema: str
    name: str
    table: str
    definition: str


def droppable_indexes(facts: DatabaseFacts) -> list[IndexFacts]:
    """The HNSW indexes of the vector tables, named by the playbook or not."""
    tables = [facts.tables.get(logical) for logical in ("documents", "document_chunks")]
    return [index for table in tables if table for index in table.indexes if index.method == "hnsw"]


def index_builds(
    playbook: Playbook,
    facts: DatabaseFacts,
    *,
    existing: Sequence[IndexFacts],
    journal: Sequence[JournalEntry],
    step: RebuildIndexes,
) -> list[IndexBuild]:
    """The indexes to build: each journaled one as it was, then the playbook's that are still missing.

    A valid index of that name is left alone; an invalid one is rebuilt (the step drops it first).
    """
    tables = {table.qualified: table for table in facts.tables.values() if table}
    valid = {index.name for index in existing if index.is_valid}
    builds: list[IndexBuild] = []
    # A name that was journaled twice is built once, as it was last.
    for entry in {(entry.schema, entry.name): entry for entry in journal}.values():
        if entry.name not in valid and entry.table in tables:
            table = tables[entry.table]
            builds.append(RestoreIndex(entry.name, table, entry.definition, step.concurrently))
    for broken in existing:
        if not broken.is_valid and broken.name not in {build_name(b) for b in builds}:
            builds.append(RestoreIndex(broken.name, tables[broken.table], broken.definition, step.concurrently))
    for index in playbook.indexes:
        on_table = facts.tables.get(index.table)
        if on_table is None or index.name in valid | {build_name(b) for b in builds}:
            continue
        column = playbook.tables.columns_of(index.table)["embedding"]
        builds.append(CreateIndex(index, on_table, column, step.concurrently))
    return builds


def analyses(builds: Sequence[IndexBuild]) -> list[AnalyzeTable]:
    """One ANALYZE for each table that gets an index."""
    return [AnalyzeTable(table) for table in {build.table.oid: build.table for build in builds}.values()]


def build_name(build: IndexBuild) -> str:
    return build.index.name if isinstance(build, CreateIndex) else build.name
