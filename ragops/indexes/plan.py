"""Decide which indexes a campaign drops and builds, from catalog, journal and playbook. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ragops.facts import DatabaseFacts, IndexFacts, IndexProperties, ServerFacts, TableFacts, vector_dimensions
from ragops.indexes.resources import NOTHING_SET, Graph, Lists, Parameter, Resources, resources_of
from ragops.playbook.model import Playbook
from ragops.playbook.steps import RebuildIndexes
from ragops.postgres.ddl import (
    OPERATOR_CLASSES,
    analyze_sql,
    create_index_sql,
    index_property_statements,
    restore_index_sql,
)
from ragops.postgres.single import check_index_definition
from ragops.postgres.statements import Statement, text_of

VECTOR_TABLES = ("documents", "document_chunks")
# What `pg_get_indexdef` prints: the method, the key, its operator class, a type with its dimensions, the options.
_METHOD_AND_KEY = re.compile(r" USING (hnsw|ivfflat) \((.*?)(?:\) WITH \(|\) WHERE |\)$)")
_CLASS = re.compile(r"\b(vector|halfvec|bit)_[a-z0-9]+_ops$")
_CLASS_SCHEMA = re.compile(r"\b\w+\.(?=(?:vector|halfvec|bit|sparsevec)_\w+_ops\b)")
_TYPE = re.compile(r"\b(?:vector|halfvec|bit)\((\d+)\)")
_M = re.compile(r"[( ]m='(\d+)'")
_LISTS = re.compile(r"[( ]lists='(\d+)'")
_PREDICATE = re.compile(r"\) WHERE ")
# pgvector's defaults: https://github.com/pgvector/pgvector#index-options
_DEFAULT_M = 16
_DEFAULT_LISTS = 100


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
        return _made(definition) == _made(text_of(self.create))

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


Entry = TypeVar("Entry", bound="IndexFacts | JournalEntry")


def _made(definition: str) -> str:
    """Return what an index is made of, without its name, in one spelling."""
    found = _METHOD_AND_KEY.search(definition)
    rest = definition[found.start() :] if found else definition
    # The server prints quotes around every option's value, and no spaces; ragops quotes every name.
    return re.sub(r"\s*=\s*", "=", _CLASS_SCHEMA.sub("", re.sub("[\"']", "", rest)))


def droppable_indexes(facts: DatabaseFacts) -> list[IndexFacts]:
    """Return the vector indexes of the vector tables and their partitions, whether the playbook names them or not.

    IVFFlat indexes are among them: the lists of one that stays while its table is emptied and filled belong to the
    vectors that are gone, and it finds too few rows.
    """
    tables = [facts.tables.get(logical) for logical in VECTOR_TABLES]
    return [index for table in tables if table for index in table.indexes]


def index_builds(
    playbook: Playbook,
    facts: DatabaseFacts,
    *,
    existing: Sequence[IndexFacts],
    journal: Sequence[JournalEntry],
    concurrently: bool,
    named: Collection[str] = (),
) -> list[IndexBuild]:
    """Return the indexes to build: each journaled one as it was, then the playbook's that are still missing.

    A valid index of that name is left alone; an invalid one is rebuilt (the step drops it first). An index of the
    playbook is not built beside an equal one (`covered_indexes`), unless the operator named it.
    """
    builds = _restorations(facts, existing=existing, journal=journal, concurrently=concurrently)
    valid = {(index.schema, index.name) for index in existing if index.is_valid}
    covered = covered_indexes(playbook, facts, existing=existing, journal=journal)
    for index in playbook.indexes:
        table = facts.tables.get(index.table)
        if (
            table is None
            or (table.schema, index.name) in valid | builds.keys()
            or index.name in covered.keys() - set(named)
        ):
            continue
        column = playbook.tables.columns_of(index.table)["embedding"]
        # The server builds the index of a partitioned table only in one transaction.
        alone = concurrently and not table.is_partitioned
        create = create_index_sql(index, table, column, concurrently=alone)
        graph = Graph("vector", vector_dimensions(table, column), index.m)
        builds[table.schema, index.name] = IndexBuild(index.name, table, create, alone, graph)
    return list(builds.values())


def covered_indexes(
    playbook: Playbook,
    facts: DatabaseFacts,
    *,
    existing: Sequence[IndexFacts],
    journal: Sequence[JournalEntry],
) -> dict[str, str]:
    """Return the playbook's indexes that an index of another name makes superfluous, with that name.

    Two HNSW indexes on the same column with the same operator class answer the same queries. The second one costs
    its build, its space and a part of every write, and the planner uses one of them.
    """
    present: list[IndexFacts | JournalEntry] = [index for index in existing if index.is_valid]
    names = {(index.schema, index.name) for index in present}
    # Of two entries of one name the last one counts, as when they are restored.
    present += [entry for key, entry in _newest(journal).items() if key not in names]
    covered: dict[str, str] = {}
    for index in playbook.indexes:
        table = facts.tables.get(index.table)
        if table is None:
            continue
        column = playbook.tables.columns_of(index.table)["embedding"]
        same = [
            other.name
            for other in present
            if other.table == table.qualified
            and _indexes_column(other.definition, column, OPERATOR_CLASSES[index.metric])
        ]
        if same and index.name not in same:
            covered[index.name] = same[0]
    return covered


def _indexes_column(definition: str, column: str, operator_class: str) -> bool:
    """Return whether a definition is that of an HNSW index over all rows of a column."""
    found = _METHOD_AND_KEY.search(definition)
    if found is None or found[1] != "hnsw" or _PREDICATE.search(definition):
        return False
    # The class has its schema in front where the extension is outside of the search path.
    key = rf'(?:{re.escape(column)}|"{re.escape(column)}") (?:(?:"(?:[^"]|"")+"|\w+)\.)?{operator_class}'
    return re.fullmatch(key, found[2]) is not None


def _newest(journal: Sequence[JournalEntry]) -> dict[tuple[str, str], JournalEntry]:
    return {(entry.schema, entry.name): entry for entry in journal}


def _restorations(
    facts: DatabaseFacts,
    *,
    existing: Sequence[IndexFacts],
    journal: Sequence[JournalEntry],
    concurrently: bool,
) -> dict[tuple[str, str], IndexBuild]:
    """Return the builds of journaled and of invalid indexes, by schema and name."""
    tables = tables_by_name(facts)
    valid = {(index.schema, index.name) for index in existing if index.is_valid}
    broken: list[IndexFacts | JournalEntry] = [index for index in existing if not index.is_valid]
    wanted: dict[tuple[str, str], IndexFacts | JournalEntry] = {(i.schema, i.name): i for i in broken}
    # A name that was journaled twice is built once, as it was last.
    wanted |= _newest(journal)
    return {
        key: restoration(index, tables[index.table], concurrently=concurrently)
        for key, index in in_build_order(wanted, tables)
        if key not in valid and index.table in tables
    }


def returned_indexes(facts: DatabaseFacts, journal: Sequence[JournalEntry]) -> list[IndexBuild]:
    """Return the journaled indexes that are there again, valid and as they were, as builds that need not run."""
    tables = tables_by_name(facts)
    valid = {(index.schema, index.name): index for index in droppable_indexes(facts) if index.is_valid}
    found = []
    for key, entry in _newest(journal).items():
        if key in valid and valid[key].table == entry.table and entry.table in tables:
            build = restoration(entry, tables[entry.table], concurrently=False)
            if build.is_made_as(valid[key].definition):
                found.append(build)
    return found


def in_build_order(
    wanted: Mapping[tuple[str, str], Entry], tables: Mapping[str, TableFacts]
) -> list[tuple[tuple[str, str], Entry]]:
    """Return indexes by schema and name: those attached to a partitioned table's index, that one, then the others.

    By name, so that the order is the same whether they come from the catalog (when planning) or from the ledger
    (when building). CREATE INDEX on a partitioned table attaches every equal index that its partitions have: those
    that belong to it must be there before, and a partition's own index must not.
    """
    depth = {f"{p.schema}.{p.name}": p.depth for table in tables.values() for p in table.partitions}

    def place(item: tuple[tuple[str, str], Entry]) -> tuple[bool, int, tuple[str, str]]:
        key, index = item
        level = depth.get(index.table, 0)
        is_own = index.properties.parent is None and level > 0
        return is_own, -level, key

    return sorted(wanted.items(), key=place)


def tables_by_name(facts: DatabaseFacts) -> dict[str, TableFacts]:
    """Return the mapped tables and their partitions by qualified name."""
    found: dict[str, TableFacts] = {}
    for table in facts.tables.values():
        if table is not None:
            found[table.qualified] = table
            found |= {part.qualified: part for part in partition_tables(table)}
    return found


def partition_tables(table: TableFacts) -> list[TableFacts]:
    """Return the partitions of a table as tables: with its columns and rows, without indexes."""
    return [
        replace(table, schema=p.schema, name=p.name, oid=p.oid, indexes=(), partitions=(), is_partitioned=False)
        for p in table.partitions
    ]


def restoration(index: JournalEntry | IndexFacts, table: TableFacts, *, concurrently: bool) -> IndexBuild:
    """Return the build of an index as it was; that of a partitioned table is never built concurrently."""
    check_index_definition(index.definition, table)
    alone = concurrently and " ON ONLY " not in index.definition and not table.is_partitioned
    create = restore_index_sql(index.definition, concurrently=alone)
    graph = graph_of(index.definition, table)
    return IndexBuild(index.name, table, create, alone, graph, properties=index.properties, is_restored=True)


def graph_of(definition: str, table: TableFacts) -> Graph | Lists:
    """Return what a build holds in memory, from the index's definition as `pg_get_indexdef` prints it."""
    method, key = found.groups() if (found := _METHOD_AND_KEY.search(definition)) else ("hnsw", "")
    kind = found[1] if (found := _CLASS.search(key)) else ""
    types = _TYPE.findall(key)
    for column in table.columns.values():
        if key == column.name or key.startswith((f"{column.name} ", f'"{column.name}" ')):
            types = _TYPE.findall(column.type)
            # The server leaves out an operator class that is its type's default, as vector_l2_ops for IVFFlat.
            kind = kind or column.type.rpartition(".")[2].partition("(")[0]
    # An expression may cast twice; the outermost cast is what the index stores.
    dimensions = int(types[-1]) if types else None
    if method == "ivfflat":
        lists = int(found[1]) if (found := _LISTS.search(definition)) else _DEFAULT_LISTS
        return Lists(kind, dimensions, lists)
    m = int(found[1]) if (found := _M.search(definition)) else _DEFAULT_M
    return Graph(kind, dimensions, m)


def analyses(builds: Sequence[IndexBuild]) -> list[Statement]:
    """Return one ANALYZE for each table that gets an index."""
    return [analyze_sql(table) for table in {build.table.oid: build.table for build in builds}.values()]
