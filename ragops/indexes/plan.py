"""Decide which indexes a campaign drops and builds, from catalog, journal and playbook. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ragops.facts import DatabaseFacts, IndexFacts, ServerFacts, TableFacts, vector_dimensions
from ragops.indexes.resources import NOTHING_SET, Graph, Resources, resources_of
from ragops.playbook.model import Playbook
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.ddl import analyze_sql, create_index_sql, restore_index_sql
from ragops.postgres.single import check_index_definition
from ragops.postgres.statements import Statement

VECTOR_TABLES = ("documents", "document_chunks")
# What `pg_get_indexdef` prints: the key, its operator class, a type with its dimensions, and the option m.
_KEY = re.compile(r" USING hnsw \((.*?)(?:\) WITH \(|\) WHERE |\)$)")
_CLASS = re.compile(r"\b(vector|halfvec|bit)_[a-z0-9]+_ops$")
_TYPE = re.compile(r"\b(?:vector|halfvec|bit)\((\d+)\)")
_M = re.compile(r"[( ]m='(\d+)'")
# pgvector's default: https://github.com/pgvector/pgvector#index-options
_DEFAULT_M = 16


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A dropped index that was not restored yet."""

    schema: str
    name: str
    table: str
    definition: str


@dataclass(frozen=True, slots=True)
class IndexBuild:
    """One index to build: its statement, what its graph needs, and what it is given."""

    name: str
    table: TableFacts
    create: Statement
    concurrently: bool
    graph: Graph
    resources: Resources = NOTHING_SET

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The parameters, then CREATE INDEX."""
        return (*(parameter.statement for parameter in self.resources.parameters), self.create)

    def equipped(self, *, rows: int | None, server: ServerFacts, settings: RebuildIndexes) -> IndexBuild:
        """Return the same build with memory and parallel workers for `rows` rows (None: not known yet).

        Raises PlanRefused when an unsafe parallel build cannot be prevented.
        """
        resources = resources_of(
            self.graph,
            rows=rows,
            server=server,
            concurrently=self.concurrently,
            memory=settings.maintenance_work_mem,
            parallel_workers=settings.parallel_workers,
        )
        return replace(self, resources=resources)

    def without_parallel_workers(self) -> IndexBuild:
        return replace(self, resources=self.resources.without_workers())


def droppable_indexes(facts: DatabaseFacts) -> list[IndexFacts]:
    """Return the HNSW indexes of the vector tables, whether the playbook names them or not."""
    tables = [facts.tables.get(logical) for logical in VECTOR_TABLES]
    return [index for table in tables if table for index in table.indexes if index.method == "hnsw"]


def index_builds(
    playbook: Playbook,
    facts: DatabaseFacts,
    *,
    existing: Sequence[IndexFacts],
    journal: Sequence[JournalEntry],
    concurrently: bool,
) -> list[IndexBuild]:
    """Return the indexes to build: each journaled one as it was, then the playbook's that are still missing.

    A valid index of that name is left alone; an invalid one is rebuilt (the step drops it first).
    """
    tables = {table.qualified: table for table in facts.tables.values() if table}
    valid = {index.name for index in existing if index.is_valid}
    builds: dict[str, IndexBuild] = {}
    # A name that was journaled twice is built once, as it was last; by name, so that the order is the same
    # whether the journal comes from the catalog (when planning) or from the ledger (when building).
    for _, entry in sorted({(entry.schema, entry.name): entry for entry in journal}.items()):
        if entry.name not in valid and entry.table in tables:
            builds[entry.name] = _restoration(entry, tables[entry.table], concurrently)
    for broken in existing:
        if not broken.is_valid and broken.name not in builds:
            builds[broken.name] = _restoration(broken, tables[broken.table], concurrently)
    for index in playbook.indexes:
        table = facts.tables.get(index.table)
        if table is None or index.name in valid or index.name in builds:
            continue
        column = playbook.tables.columns_of(index.table)["embedding"]
        create = create_index_sql(index, table, column, concurrently=concurrently)
        graph = Graph("vector", vector_dimensions(table, column), index.m)
        builds[index.name] = IndexBuild(index.name, table, create, concurrently, graph)
    return list(builds.values())


def _restoration(index: JournalEntry | IndexFacts, table: TableFacts, concurrently: bool) -> IndexBuild:
    check_index_definition(index.definition, table)
    create = restore_index_sql(index.definition, concurrently=concurrently)
    return IndexBuild(index.name, table, create, concurrently, graph_of(index.definition, table))


def graph_of(definition: str, table: TableFacts) -> Graph:
    """Return what an index's graph holds, from its definition as `pg_get_indexdef` prints it."""
    key = found[1] if (found := _KEY.search(definition)) else ""
    kind = found[1] if (found := _CLASS.search(key)) else ""
    m = int(found[1]) if (found := _M.search(definition)) else _DEFAULT_M
    types = _TYPE.findall(key)
    for column in table.columns.values():
        if key.startswith((f"{column.name} ", f'"{column.name}" ')):
            types = _TYPE.findall(column.type)
    # An expression may cast twice; the outermost cast is what the index stores.
    return Graph(kind, int(types[-1]) if types else None, m)


def analyses(builds: Sequence[IndexBuild]) -> list[Statement]:
    """Return one ANALYZE for each table that gets an index."""
    return [analyze_sql(table) for table in {build.table.oid: build.table for build in builds}.values()]
