"""Decide which indexes a campaign drops and builds, from catalog, journal and playbook. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ragops.facts import DatabaseFacts, IndexFacts, TableFacts, vector_dimensions
from ragops.indexes.beside import copies_of, is_beside, second_column
from ragops.indexes.builds import IndexBuild as IndexBuild
from ragops.indexes.builds import JournalEntry as JournalEntry
from ragops.indexes.builds import analyses as analyses
from ragops.indexes.builds import restoration as restoration
from ragops.indexes.concerned import VECTOR_TABLES as VECTOR_TABLES
from ragops.indexes.concerned import droppable_indexes as droppable_indexes
from ragops.indexes.concerned import in_build_order as in_build_order
from ragops.indexes.concerned import listed_indexes
from ragops.indexes.concerned import tables_by_name as tables_by_name
from ragops.indexes.definitions import graph_of as graph_of
from ragops.indexes.definitions import is_plain_hnsw
from ragops.indexes.resources import Graph
from ragops.playbook.model import Playbook
from ragops.postgres.ddl import OPERATOR_CLASSES, create_index_sql
from ragops.row_facts import TargetFacts

# https://www.postgresql.org/docs/current/sql-reindex.html#SQL-REINDEX-CONCURRENTLY
REINDEX_LEFTOVER = re.compile(r"_cc(?:new|old)\d*$")


def index_builds(
    playbook: Playbook,
    facts: DatabaseFacts,
    *,
    existing: Sequence[IndexFacts],
    journal: Sequence[JournalEntry],
    concurrently: bool,
    named: Collection[str] = (),
    targets: Sequence[TargetFacts] = (),
    dimensions: int | None = None,
    is_ahead: bool = False,
) -> list[IndexBuild]:
    """Return the indexes to build: each journaled one as it was, then those that are still missing.

    These are the playbook's and, of rows that stay, those of the second columns: `is_ahead` plans for columns that
    are not there yet, with the model's `dimensions`.

    A valid index of that name is left alone; an invalid one is rebuilt (the step drops it first). An index of the
    playbook is not built beside an equal one (`covered_indexes`), unless the operator named it.
    """
    tables = tables_by_name(facts, targets)
    droppable = {(index.schema, index.name) for index in droppable_indexes(facts, targets)}
    others = [i for i in listed_indexes(facts, targets) if (i.schema, i.name) not in droppable]
    builds = _restorations(tables, existing=[*existing, *others], journal=journal, concurrently=concurrently)
    valid = {(index.schema, index.name) for index in existing if index.is_valid}
    for target in filter(is_beside, targets):
        if target.column(target.filled) is None and not is_ahead:
            continue
        for copy in copies_of(target, second_column(target, playbook, dimensions=dimensions)):
            present = copy.present
            key = (present.schema, present.name) if present else None
            is_there = present is not None and present.is_valid and (key in valid or key not in droppable)
            if not is_there:
                builds[copy.old.schema, copy.build.name] = copy.build
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
            and is_plain_hnsw(other.definition, column, OPERATOR_CLASSES[index.metric])
        ]
        if same and index.name not in same:
            covered[index.name] = same[0]
    return covered


def _newest(journal: Sequence[JournalEntry]) -> dict[tuple[str, str], JournalEntry]:
    return {(entry.schema, entry.name): entry for entry in journal}


def _restorations(
    tables: Mapping[str, TableFacts],
    *,
    existing: Sequence[IndexFacts],
    journal: Sequence[JournalEntry],
    concurrently: bool,
) -> dict[tuple[str, str], IndexBuild]:
    """Return the builds of journaled and of invalid indexes, by schema and name."""
    valid = {(index.schema, index.name) for index in existing if index.is_valid}
    broken: list[IndexFacts | JournalEntry] = [
        # What an interrupted REINDEX CONCURRENTLY left is a second index like one that is there.
        index
        for index in existing
        if not index.is_valid and not REINDEX_LEFTOVER.search(index.name)
    ]
    wanted: dict[tuple[str, str], IndexFacts | JournalEntry] = {(i.schema, i.name): i for i in broken}
    # A name that was journaled twice is built once, as it was last.
    wanted |= _newest(journal)
    return {
        key: restoration(index, tables[index.table], concurrently=concurrently)
        for key, index in in_build_order(wanted, tables)
        if key not in valid and index.table in tables
    }


def returned_indexes(
    facts: DatabaseFacts, journal: Sequence[JournalEntry], targets: Sequence[TargetFacts] = ()
) -> list[IndexBuild]:
    """Return the journaled indexes that are there again, valid and as they were, as builds that need not run."""
    tables = tables_by_name(facts, targets)
    valid = {(i.schema, i.name): i for i in listed_indexes(facts, targets) if i.is_valid}
    found = []
    for key, entry in _newest(journal).items():
        if key in valid and valid[key].table == entry.table and entry.table in tables:
            build = restoration(entry, tables[entry.table], concurrently=False)
            if build.is_made_as(valid[key].definition):
                found.append(build)
    return found
