"""The tables and vector indexes that concern a playbook: of files, or of rows that stay. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ragops.facts import DatabaseFacts, IndexFacts, TableFacts
from ragops.indexes.builds import JournalEntry
from ragops.row_facts import TargetFacts

Entry = TypeVar("Entry", bound="IndexFacts | JournalEntry")
VECTOR_TABLES = ("documents", "document_chunks")


def droppable_indexes(facts: DatabaseFacts, targets: Sequence[TargetFacts] = ()) -> list[IndexFacts]:
    """Return the vector indexes over the vectors that a campaign replaces, those of partitions included.

    Of files these are all indexes of the vector tables, whether the playbook names them or not; of rows that stay
    those over the column that is written: another vector column of the table keeps its indexes. IVFFlat indexes
    are among them: the lists of one that stays while its vectors are replaced belong to the vectors that are gone,
    and it finds too few rows.
    """
    if targets:
        return _each_once(index for target in targets for index in indexes_over(target, target.filled))
    tables = [facts.tables.get(logical) for logical in VECTOR_TABLES]
    return [index for table in tables if table for index in table.indexes]


def listed_indexes(facts: DatabaseFacts, targets: Sequence[TargetFacts] = ()) -> list[IndexFacts]:
    """Return the vector indexes that a playbook is about; of rows that stay those of both columns."""
    if not targets:
        return [index for table in facts.tables.values() if table for index in table.indexes]
    columns = [(target, column) for target in targets for column in (target.embedding, target.filled)]
    return _each_once(index for target, column in columns for index in indexes_over(target, column))


def indexes_over(target: TargetFacts, column: str) -> list[IndexFacts]:
    """Return the vector indexes whose key is a column of the target's table, or an expression over it."""
    return [index for index in target.table.indexes if column in index.reads]


def _each_once(indexes: Iterable[IndexFacts]) -> list[IndexFacts]:
    return list({(index.schema, index.name): index for index in indexes}.values())


def concerned_tables(facts: DatabaseFacts, targets: Sequence[TargetFacts] = ()) -> list[TableFacts]:
    """Return the tables whose vector indexes concern the playbook."""
    if targets:
        return list({target.table.oid: target.table for target in targets}.values())
    return [table for table in facts.tables.values() if table]


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


def tables_by_name(facts: DatabaseFacts, targets: Sequence[TargetFacts] = ()) -> dict[str, TableFacts]:
    """Return the tables of `concerned_tables` and their partitions by qualified name."""
    found: dict[str, TableFacts] = {}
    for table in concerned_tables(facts, targets):
        found |= tables_by_name_of(table)
    return found


def tables_by_name_of(table: TableFacts) -> dict[str, TableFacts]:
    """Return a table and its partitions by qualified name."""
    return {table.qualified: table} | {part.qualified: part for part in partition_tables(table)}


def partition_tables(table: TableFacts) -> list[TableFacts]:
    """Return the partitions of a table as tables: with its columns and rows, without indexes."""
    return [
        replace(table, schema=p.schema, name=p.name, oid=p.oid, indexes=(), partitions=(), is_partitioned=False)
        for p in table.partitions
    ]
