"""How many rows the builds of an index step will find. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from ragops.campaign.steps.base import PlanFacts
from ragops.facts import TableFacts
from ragops.indexes.builds import IndexBuild
from ragops.indexes.concerned import tables_by_name_of
from ragops.playbook.steps import Embed
from ragops.row_facts import TargetFacts


def embedded_before(facts: PlanFacts, number: int) -> int | None:
    """Return the items that the steps before this one embed; None where that is not known."""
    embeds = [step for step in facts.before(number) if isinstance(step, Embed)]
    if not embeds or embeds[-1].until is None:
        return facts.items if embeds else None
    return embeds[-1].until if facts.items is None else min(embeds[-1].until, facts.items)


def rows_of(facts: PlanFacts, number: int, build: IndexBuild) -> int | None:
    """Return the rows that a build of step `number` will find in its table; None where that is not known."""
    if facts.targets:
        # A partition has about its share of the rows: one by one they are counted when it is built.
        shares = {p.oid: len(target.table.partitions) for target in facts.targets for p in target.table.partitions}
        return build.table.rows // shares.get(build.table.oid, 1)
    if not any(isinstance(step, Embed) for step in facts.before(number)):
        return build.table.rows
    documents, items = facts.table("documents"), embedded_before(facts, number)
    if items is None or build.table.oid == documents.oid:
        return items
    # As many chunks per document as there are now, and at least one.
    return ceil(items * max(1.0, build.table.rows / documents.rows if documents.rows else 1.0))


def rows_of_targets(targets: Sequence[TargetFacts], builds: Sequence[IndexBuild]) -> int:
    """Return the rows of the targets' tables that get an index, those of partitions included."""
    built = {build.table.qualified for build in builds}
    tables = {target.table.oid: target.table for target in targets}.values()
    return sum(table.rows for table in tables if built & tables_by_name_of(table).keys())


def counted_once(tables: Sequence[TableFacts]) -> set[int]:
    """Return the oids of those tables whose rows no other one of them has: partitions belong to their table."""
    parts = {part.oid for table in tables for part in table.partitions}
    return {table.oid for table in tables} - parts
