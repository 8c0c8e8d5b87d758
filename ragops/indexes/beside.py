"""Indexes of a second vector column: for each one that has the first column, the same with the second. Pure.

The column may be the key of an index or stand in its predicate, as in `(id) WHERE embedding IS NULL`: when the
first column is dropped, either goes with it.

They are built concurrently, as the application reads and writes the table meanwhile. Those of partitions come
first, then that of the partitioned table, which attaches them and so builds nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ragops.facts import IndexFacts, TableFacts, quoted
from ragops.findings import PlanProblem
from ragops.indexes.builds import IndexBuild
from ragops.indexes.concerned import in_build_order, indexes_over, tables_by_name_of
from ragops.indexes.definitions import VectorColumn, graph_of, over_column
from ragops.indexes.resources import Lists
from ragops.playbook.model import Playbook
from ragops.postgres.ddl import analyze_column_sql, index_head, new_index_sql
from ragops.postgres.statements import Statement
from ragops.row_facts import TargetFacts

NAME_BYTES = 63
SUFFIX = "_new"
VECTOR_METHODS = ("hnsw", "ivfflat")
# https://github.com/pgvector/pgvector#hnsw and #ivfflat: dimensions that an index takes, by type.
LIMITS = {"vector": 2_000, "halfvec": 4_000, "bit": 64_000}


@dataclass(frozen=True, slots=True)
class Copy:
    """An index over the first column, and the one over the second that is to be like it."""

    old: IndexFacts
    build: IndexBuild
    present: IndexFacts | None
    """The second one, where the catalog has it, valid or not."""


def is_beside(target: TargetFacts) -> bool:
    """Return whether a second column is filled, which the application does not read yet."""
    return target.filled != target.embedding


def second_column(
    target: TargetFacts, playbook: Playbook | None = None, *, dimensions: int | None = None
) -> VectorColumn:
    """Return the second column as it is, or as `add_column` will make it, with that many dimensions."""
    there = target.column(target.filled)
    first = VectorColumn.of(target.table.columns[target.embedding])
    if there is not None:
        found = VectorColumn.of(there)
        return replace(found, type_schema=found.type_schema or first.type_schema)
    kind = playbook.targets[target.number - 1].type if playbook is not None else None
    return VectorColumn(target.filled, kind or first.kind, dimensions, first.type_schema)


def copies_of(target: TargetFacts, column: VectorColumn, *, concurrently: bool = True) -> list[Copy]:
    """Return the copies of the valid indexes over the first column, in the order in which they are built."""
    if not is_beside(target):
        return []
    tables = tables_by_name_of(target.table)
    every = {(i.schema, i.name): i for i in (*target.table.indexes, *target.around)}
    olds = {key: i for key, i in every.items() if target.embedding in i.mentions and i.is_valid}
    present = [i for i in every.values() if target.filled in i.mentions]
    taken = set(every)
    found = []
    for _, old in in_build_order(olds, tables):
        table = tables.get(old.table)
        if table is None or not old.definition:
            continue
        name = _name_of(old, present, taken)
        taken.add((old.schema, name))
        build = _copy(old, name, table, target, column, concurrently=concurrently)
        found.append(Copy(old, build, _present(build, present)))
    return found


def copy_problems(target: TargetFacts, playbook: Playbook, *, dimensions: int | None) -> Iterator[PlanProblem]:
    """Yield the indexes that pgvector could not build over the second column, each with its cure."""
    column = second_column(target, playbook, dimensions=dimensions)
    for copy in copies_of(target, column):
        graph, limit = copy.build.graph, LIMITS.get(copy.build.graph.kind)
        if limit is None or graph.dimensions is None or graph.dimensions <= limit or copy.present is not None:
            continue
        method = "IVFFlat" if isinstance(graph, Lists) else "HNSW"
        where = f"targets[{target.number - 1}]"
        ways = [f"{where}.type: halfvec"] if graph.kind == "vector" and graph.dimensions <= 4_000 else []
        ways.append("model.dimensions: fewer, for a model that was trained for it (Matryoshka)")
        yield PlanProblem(
            f"index {copy.build.name}: an {method} index takes {limit:,} dimensions of a {graph.kind} at most, "
            f"{target.table.quoted}.{quoted(target.filled)} gets {graph.dimensions:,}; in the playbook: "
            + ", or ".join(ways)
        )


def copy_notes(targets: Sequence[TargetFacts]) -> Iterator[str]:
    """Yield what an operator should know of the indexes of second columns."""
    for target in filter(is_beside, targets):
        old = indexes_over(target, target.embedding)
        if not old:
            yield f"{target.table.quoted}.{quoted(target.embedding)} has no vector index: the new column gets none"
        for index in old:
            if not index.is_valid:
                yield f"index {index.name} is invalid, so the new column gets none like it"


def column_analyses(targets: Sequence[TargetFacts], builds: Sequence[IndexBuild]) -> list[Statement]:
    """Return one ANALYZE for each second column that gets an index: it has no statistics yet."""
    built = {build.table.qualified for build in builds}
    return [
        analyze_column_sql(target.table, target.filled)
        for target in targets
        if is_beside(target) and built & tables_by_name_of(target.table).keys()
    ]


def _copy(
    old: IndexFacts,
    name: str,
    table: TableFacts,
    target: TargetFacts,
    column: VectorColumn,
    *,
    concurrently: bool,
) -> IndexBuild:
    first = VectorColumn.of(target.table.columns[target.embedding])
    head, is_plain = index_head(old.definition), old.column == target.embedding
    # Where only a predicate has the column, casts of the key are those of another one.
    new = column if target.embedding in old.reads else replace(column, dimensions=None)
    made = over_column(head.rest, is_plain=is_plain and old.method in VECTOR_METHODS, old=first, new=new)
    # The server builds the index of a partitioned table only in one transaction.
    alone = concurrently and not (head.is_only or table.is_partitioned)
    create = new_index_sql(name, table, made, concurrently=alone, is_unique=head.is_unique)
    graph = graph_of(f"CREATE INDEX x ON t{made}", column.among(table))
    return IndexBuild(name, table, create, alone, graph, properties=old.properties)


def _present(build: IndexBuild, present: Sequence[IndexFacts]) -> IndexFacts | None:
    """Return the index of that name, else a valid one that is made as it is."""
    own = [i for i in present if i.table == build.table.qualified]
    named = next((i for i in own if i.name == build.name), None)
    return named or next((i for i in own if i.is_valid and build.is_made_as(i.definition)), None)


def _name_of(old: IndexFacts, present: Sequence[IndexFacts], taken: set[tuple[str, str]]) -> str:
    """Return the name of the copy: the first index's with `_new`, and a number where another index has that."""
    own = {i.name for i in present if i.table == old.table}
    for number in range(1, len(taken) + 3):
        end = SUFFIX if number == 1 else f"{SUFFIX}{number}"
        name = _cut(old.name, NAME_BYTES - len(end)) + end
        if name in own or (old.schema, name) not in taken:
            return name
    raise AssertionError("one of the names is free")


def _cut(name: str, size: int) -> str:
    """Return as many whole characters as fit into that many bytes of UTF-8."""
    return name.encode()[:size].decode(errors="ignore")
