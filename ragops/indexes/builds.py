"""Index builds: what one index is made with, and how one that was dropped is made again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ragops.facts import IndexFacts, IndexProperties, ServerFacts, TableFacts
from ragops.indexes.definitions import graph_of, made_as
from ragops.indexes.resources import NOTHING_SET, Graph, Lists, Parameter, Resources, resources_of
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.ddl import analyze_sql, index_property_statements, restore_index_sql
from ragops.postgres.single import check_index_definition
from ragops.postgres.statements import Statement, text_of


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A dropped index that was not restored yet."""

    schema: str
    name: str
    table: str
    """Schema-qualified."""
    definition: str
    properties: IndexProperties = field(default_factory=IndexProperties)


@dataclass(frozen=True, slots=True)
class IndexBuild:
    """One index to build: its statement, what it needs in memory, and what it is given."""

    name: str
    table: TableFacts
    create: Statement
    concurrently: bool
    graph: Graph | Lists
    resources: Resources = NOTHING_SET
    properties: IndexProperties = field(default_factory=IndexProperties)
    is_restored: bool = False
    """It was there before: its definition comes from the journal or the catalog, not from the playbook."""
    is_reindex: bool = False
    """It is there and stays: only its contents are made again."""

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Return the parameters, then CREATE INDEX, then what gives it its comment and statistics targets."""
        parameters = list(self.resources.parameters)
        if self.properties.tablespace is not None:
            parameters.append(Parameter("default_tablespace", self.properties.tablespace, not self.concurrently))
        return (*(parameter.statement for parameter in parameters), self.create, *self.property_statements)

    @property
    def property_statements(self) -> tuple[Statement, ...]:
        """Return what gives the index its comment and statistics targets."""
        own = index_property_statements(self.name, schema=self.table.schema, properties=self.properties)
        return tuple(own)

    def is_made_as(self, definition: str) -> bool:
        """Return whether an index with this definition, as the server prints it, is what this build makes."""
        return made_as(definition) == made_as(text_of(self.create))

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


def restoration(index: JournalEntry | IndexFacts, table: TableFacts, *, concurrently: bool) -> IndexBuild:
    """Return the build of an index as it was; that of a partitioned table is never built concurrently."""
    check_index_definition(index.definition, table)
    alone = concurrently and " ON ONLY " not in index.definition and not table.is_partitioned
    create = restore_index_sql(index.definition, concurrently=alone)
    graph = graph_of(index.definition, table)
    return IndexBuild(index.name, table, create, alone, graph, properties=index.properties, is_restored=True)


def analyses(builds: Sequence[IndexBuild]) -> list[Statement]:
    """Return one ANALYZE for each table that gets an index."""
    return [analyze_sql(table) for table in {build.table.oid: build.table for build in builds}.values()]
