"""IVFFlat indexes that stay while all vectors under them are replaced. Pure.

An IVFFlat index chooses the centers of its lists when it is built, and sorts later vectors into them. Centers of
the old vectors say nothing of new ones: on 12,954 rows in 100 lists, recall at 10 fell from 97 to 51 %, and a
REINDEX brought 95 % back. An HNSW index takes new vectors as they come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ragops.facts import IndexFacts, quoted
from ragops.indexes.beside import is_beside
from ragops.indexes.builds import IndexBuild
from ragops.indexes.concerned import indexes_over, tables_by_name_of
from ragops.indexes.definitions import graph_of
from ragops.playbook.model import Playbook
from ragops.playbook.steps import DropIndexes, Embed, RebuildIndexes, SelectRows
from ragops.postgres.ddl import index_head, reindex_sql
from ragops.row_facts import TargetFacts


def replaces_most(playbook: Playbook) -> bool:
    """Return whether the playbook may replace most vectors of its targets, and not only some broken ones."""
    return any(isinstance(s, SelectRows) and {"all", "divergent"} & set(s.rows) for s in playbook.steps)


def reindexes(
    playbook: Playbook,
    targets: Sequence[TargetFacts],
    *,
    existing: Sequence[IndexFacts],
    concurrently: bool,
) -> list[IndexBuild]:
    """Return a REINDEX for each IVFFlat index of `existing` whose vectors the campaign has replaced."""
    if not replaces_most(playbook):
        return []
    found = {(index.schema, index.name) for index in existing if index.is_valid}
    builds = []
    for target in targets:
        tables = tables_by_name_of(target.table)
        for index in _stale(target):
            if (index.schema, index.name) in found and index.table in tables:
                builds.append(
                    IndexBuild(
                        index.name,
                        tables[index.table],
                        reindex_sql(index, concurrently=concurrently),
                        concurrently,
                        graph_of(index.definition, tables[index.table]),
                        is_restored=True,
                        is_reindex=True,
                    )
                )
    return builds


def stale_notes(playbook: Playbook, targets: Sequence[TargetFacts]) -> Iterator[str]:
    """Yield the IVFFlat indexes that no step of the playbook builds again, each with what to type."""
    steps = playbook.steps
    embeds = [i for i, step in enumerate(steps) if isinstance(step, Embed)]
    rebuilds = [i for i, step in enumerate(steps) if isinstance(step, RebuildIndexes)]
    is_rebuilt = bool(rebuilds and embeds and rebuilds[-1] > embeds[0])
    if not embeds or not replaces_most(playbook):
        return
    drops = any(isinstance(step, DropIndexes) for step in steps)
    for target in targets:
        for index in _stale(target):
            if is_rebuilt:
                if not drops:
                    yield f"index {index.name} (IVFFlat) finds too few rows until rebuild_indexes reindexes it"
            else:
                yield (
                    f"index {index.name} (IVFFlat) keeps the lists of the old vectors and will find too few rows: "
                    "add the step rebuild_indexes after embed, or afterwards: REINDEX INDEX CONCURRENTLY "
                    f"{quoted(index.schema, index.name)}"
                )


def _stale(target: TargetFacts) -> list[IndexFacts]:
    """Return the IVFFlat indexes over a column that is written in place; those of partitions one by one."""
    if is_beside(target):
        return []
    return [
        index
        for index in indexes_over(target, target.filled)
        if index.method == "ivfflat" and index.definition and not index_head(index.definition).is_only
    ]
