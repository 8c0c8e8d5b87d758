"""Playbook + facts → the exact list of steps. Pure: no connection, no clock, no file is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from ragops.actions import (
    Action,
    ArchiveTable,
    DeleteRows,
    DropIndex,
    IndexBuild,
    TruncateTables,
    VacuumTable,
)
from ragops.campaign.preflight import find_problems
from ragops.errors import PlanRefused
from ragops.facts import DatabaseFacts, ModelFacts, TableFacts
from ragops.indexes.plan import JournalEntry, analyses, build_name, droppable_indexes, index_builds
from ragops.indexes.resources import resources_of
from ragops.playbook.model import Playbook
from ragops.playbook.steps import (
    DropIndexes,
    Embed,
    EmptyTables,
    RebuildIndexes,
    ReseedQueue,
    Step,
    Validate,
)
from ragops.workers.sizing import Sizing

LAST_PHASE = 32767


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step with what it will do. `rows` and `bytes` are those it removes, moves or indexes."""

    number: int
    verb: str
    title: str
    settings: Step
    actions: tuple[Action, ...] = ()
    rows: int | None = None
    bytes: int | None = None
    tables: tuple[str, ...] = ()
    estimate_s: float | None = None
    phase: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in order, and the state of the database that they were made for."""

    name: str
    database: str
    database_oid: int
    steps: tuple[PlannedStep, ...]
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Logical table → (oid, rows) as planned; acting on anything larger is refused."""


@dataclass(frozen=True, slots=True)
class _Context:
    playbook: Playbook
    facts: DatabaseFacts
    journal: Sequence[JournalEntry]
    items: int | None
    fleet: Sizing | None

    def table(self, logical: str) -> TableFacts:
        table = self.facts.tables[logical]
        assert table is not None, "preflight has refused missing tables"
        return table


def make_plan(
    playbook: Playbook,
    facts: DatabaseFacts,
    *,
    model: ModelFacts | None = None,
    journal: Sequence[JournalEntry] = (),
    items: int | None = None,
    fleet: Sizing | None = None,
) -> Plan:
    """Plan a campaign. `items` is the size of the source, where it is known before reseeding; `fleet` embeds.

    Raises PlanRefused with every problem that stands in the way.
    """
    refuse_problems(find_problems(playbook, facts, model=model), where=facts.server.database)
    context = _Context(playbook, facts, journal, items, fleet)
    steps = tuple(_plan_step(context, number, step) for number, step in enumerate(playbook.steps, start=1))
    return Plan(
        name=playbook.name,
        database=facts.server.database,
        database_oid=facts.server.database_oid,
        steps=steps,
        tables={name: (table.oid, table.rows) for name, table in facts.tables.items() if table},
    )


def refuse_problems(problems: Sequence[str], *, where: str) -> None:
    """Raise PlanRefused that lists all problems, unless there is none."""
    if not problems:
        return
    is_missing = any("does not exist" in problem for problem in problems)
    raise PlanRefused(
        f"this database cannot take the playbook as it is: {len(problems)} "
        f"problem{'s' if len(problems) != 1 else ''}; nothing was changed",
        where=where,
        actual="\n".join(problems),
        hint="ragops db init   (creates what is missing)   or map your own names in the playbook's tables:"
        if is_missing
        else "mend these, then: ragops reset --dry-run",
    )


def _plan_step(context: _Context, number: int, step: Step) -> PlannedStep:
    match step:
        case DropIndexes():
            return _plan_drop(context, number, step)
        case EmptyTables():
            return _plan_empty(context, number, step)
        case ReseedQueue():
            title = f"fill {context.table('files_queue').qualified} from the source"
            return PlannedStep(number, step.step, title, step, rows=context.items)
        case Embed():
            return _plan_embed(context, number, step)
        case RebuildIndexes():
            return _plan_rebuild(context, number, step)
        case Validate():
            title = "validate" + (f" at {step.after:,} documents" if step.after else " the whole corpus")
            return PlannedStep(number, step.step, title, step)
        case _:
            return PlannedStep(number, step.step, "verify the workers' build and the model", step)


def _plan_drop(context: _Context, number: int, step: DropIndexes) -> PlannedStep:
    indexes = droppable_indexes(context.facts)
    note = () if indexes else ("no HNSW index exists: nothing to drop",)
    return PlannedStep(
        number,
        step.step,
        f"journal and drop {len(indexes)} HNSW index{'es' if len(indexes) != 1 else ''}",
        step,
        actions=tuple(DropIndex(index) for index in indexes),
        bytes=sum(index.bytes for index in indexes),
        tables=tuple(dict.fromkeys(index.table for index in indexes)),
        notes=note,
    )


def _plan_empty(context: _Context, number: int, step: EmptyTables) -> PlannedStep:
    actions = emptying_actions(context.facts, step)
    tables = [context.table(entry.table) for entry in step.tables]
    # The step before has dropped the indexes: their bytes are not freed twice.
    indexed = sum(index.bytes for table in tables for index in table.indexes if index.method == "hnsw")
    dropped = indexed if any(isinstance(other, DropIndexes) for other in context.playbook.steps) else 0
    notes = (
        "the rows are copied into the schema ragops first (`ragops undo` restores them)"
        if step.archive
        else "no archive: `ragops undo` cannot restore these rows",
    )
    reached = {key.table for table in tables for key in table.referenced_by}
    return PlannedStep(
        number,
        step.step,
        f"empty {len(tables)} table{'s' if len(tables) != 1 else ''}",
        step,
        actions=actions,
        rows=sum(table.rows for table in tables),
        bytes=sum(table.bytes for table in tables) - dropped,
        tables=tuple(dict.fromkeys([table.qualified for table in tables] + sorted(reached))),
        notes=notes,
    )


def emptying_actions(facts: DatabaseFacts, step: EmptyTables) -> tuple[Action, ...]:
    """Archive all, truncate together, delete in the step's order, vacuum what was deleted from."""
    found = [(entry, table) for entry in step.tables if (table := facts.tables.get(entry.table)) is not None]
    # All or none: what was emptied together is restored together.
    is_worth_it = step.archive and any(table.rows for _, table in found)
    archives = [ArchiveTable(entry.table, table) for entry, table in found if is_worth_it]
    truncated = tuple(table for entry, table in found if entry.method == "truncate")
    deleted = [table for entry, table in found if entry.method == "delete"]
    truncates = [TruncateTables(truncated)] if truncated else []
    return (*archives, *truncates, *map(DeleteRows, deleted), *map(VacuumTable, deleted))


def _plan_embed(context: _Context, number: int, step: Embed) -> PlannedStep:
    gates = context.playbook.gates()
    before = max((gate for gate in gates if step.until is None or gate < step.until), default=0)
    phase = gates.index(step.until) + 1 if step.until else LAST_PHASE
    end = step.until if context.items is None else min(step.until or context.items, context.items)
    rows = None if end is None else max(0, end - before)
    rate = context.facts.docs_per_s
    workers = context.fleet.workers if context.fleet else 1
    notes = [] if context.fleet is None else [str(context.fleet), *filter(None, [context.fleet.note])]
    if rows != 0 and not rate:
        notes.append("time unknown: no batch of this database has been measured yet")
    if step.until and context.items is not None and context.items < step.until:
        notes.append(f"the source has {context.items:,} documents, fewer than the gate of {step.until:,}")
    return PlannedStep(
        number,
        step.step,
        f"embed the first {step.until:,} items" if step.until else "embed the rest",
        step,
        rows=rows,
        tables=tuple(t.qualified for t in context.facts.tables.values() if t),
        estimate_s=rows / (rate * workers) if rows and rate else None,
        phase=phase,
        notes=tuple(notes),
    )


def _plan_rebuild(context: _Context, number: int, step: RebuildIndexes) -> PlannedStep:
    existing = droppable_indexes(context.facts)
    drops_first = any(isinstance(other, DropIndexes) for other in context.playbook.steps[: number - 1])
    journal = list(context.journal)
    if drops_first:
        journal += [JournalEntry(i.schema, i.name, i.table, i.definition) for i in existing]
        existing = []
    builds = index_builds(context.playbook, context.facts, existing=existing, journal=journal, step=step)
    rows = _rows_before(context, number)
    server = context.facts.server
    given = [
        (build, resources_of(build, rows=_indexed(context, number, build), server=server, step=step))
        for build in builds
    ]
    rate = context.facts.index_rows_per_s
    return PlannedStep(
        number,
        step.step,
        f"build {len(builds)} HNSW index{'es' if len(builds) != 1 else ''}",
        step,
        actions=(*(a for build, own in given for a in (*own.parameters, build)), *analyses(builds)),
        rows=rows,
        tables=tuple(dict.fromkeys(build.table.qualified for build in builds)),
        estimate_s=rows / rate if builds and rows and rate else None,
        notes=tuple(f"{build_name(build)}: {own.note}" for build, own in given if own.note)
        if builds
        else ("every index is present and valid: nothing to build",),
    )


def _indexed(context: _Context, number: int, build: IndexBuild) -> int | None:
    """Rows that a build of step `number` will find in its table; None where that is not known."""
    documents = context.table("documents")
    if not any(isinstance(step, Embed) for step in context.playbook.steps[: number - 1]):
        return build.table.rows
    items = _rows_before(context, number)
    if items is None or build.table.oid == documents.oid:
        return items
    # As many chunks a document as there are now, and one at least.
    return ceil(items * max(1.0, build.table.rows / documents.rows if documents.rows else 1.0))


def _rows_before(context: _Context, number: int) -> int | None:
    """Items that the steps before this one embed; None where that is not known."""
    embeds = [step for step in context.playbook.steps[: number - 1] if isinstance(step, Embed)]
    if not embeds or embeds[-1].until is None:
        return context.items if embeds else None
    return embeds[-1].until if context.items is None else min(embeds[-1].until, context.items)


def plan_as_dict(plan: Plan, *, sql: dict[int, list[str]]) -> dict[str, Any]:
    """The plan as JSON: what `--dry-run --json` prints and the ledger keeps. `sql` is by step number."""
    return {
        "name": plan.name,
        "database": plan.database,
        "database_oid": plan.database_oid,
        "tables": {name: {"oid": oid, "rows": rows} for name, (oid, rows) in plan.tables.items()},
        "steps": [
            {
                "number": step.number,
                "verb": step.verb,
                "title": step.title,
                "sql": sql.get(step.number, []),
                "rows": step.rows,
                "bytes": step.bytes,
                "tables": list(step.tables),
                "estimate_s": step.estimate_s,
                "phase": step.phase,
                "notes": list(step.notes),
                "settings": step.settings.model_dump(mode="json"),
            }
            for step in plan.steps
        ],
    }
