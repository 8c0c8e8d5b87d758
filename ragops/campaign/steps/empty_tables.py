"""empty_tables: archive, truncate and delete in one transaction, then give the space back."""

from __future__ import annotations

from ragops.actions import Action, ArchiveTable, VacuumTable
from ragops.campaign.context import Effect, StepContext
from ragops.campaign.plan import emptying_actions
from ragops.errors import PlanStale
from ragops.facts import DatabaseFacts, TableFacts
from ragops.playbook.steps import EmptyTables
from ragops.postgres.catalog import table_bytes
from ragops.postgres.ddl import (
    LOCK_TIMEOUT_S,
    archive_rows,
    lock_tables,
    sql_of,
    sql_text,
    vacuum,
    with_lock_retries,
)


def run(context: StepContext, step: EmptyTables) -> Effect:
    """Empty the step's tables. Raises PlanStale when they are not those of the plan, or hold more rows."""
    facts = context.facts(exact=True)
    tables = [table for entry in step.tables if (table := facts.tables.get(entry.table)) is not None]

    def act() -> Effect:
        with context.fenced(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            lock_tables(context.connection, tables)
            # Counted under the lock: nothing that the plan did not show is wiped.
            now = context.facts(exact=True)
            check_plan(context, now)
            effect = _act(context, emptying_actions(now, step), now, step)
            context.record(effect)
        return effect

    effect = with_lock_retries(context.connection, act, tables=tables, info=context.reporter.info)
    return _give_space_back(context, emptying_actions(facts, step), effect)


def check_plan(context: StepContext, now: DatabaseFacts) -> None:
    """Raise PlanStale when the database is another, or a table has grown or been replaced since the plan."""
    if context.plan is None:
        return
    changes = []
    if (now.server.database_oid, now.server.database) != (context.plan.database_oid, context.plan.database):
        changes.append(f"the database is {now.server.database}, planned for {context.plan.database}")
    for logical, (oid, rows) in context.plan.tables.items():
        table = now.tables.get(logical)
        if table is None or table.oid != oid:
            changes.append(f"{logical} was replaced")
        elif table.rows > rows:
            changes.append(f"{table.qualified} holds {table.rows:,} rows, planned {rows:,}")
    if changes:
        raise PlanStale(
            "the database changed since the plan was made; nothing was emptied",
            where=now.server.database,
            actual="\n".join(changes),
            hint="stop what writes there, look at the new plan with --dry-run, then: ragops reset --resume",
        )


def _act(context: StepContext, actions: tuple[Action, ...], now: DatabaseFacts, step: EmptyTables) -> Effect:
    before = {entry.table: now.tables[entry.table] for entry in step.tables if now.tables.get(entry.table)}
    archived = 0
    for action in actions:
        if isinstance(action, ArchiveTable):
            context.reporter.info(f"archiving {action.table.rows:,} rows of {action.table.qualified}")
            archived += archive_rows(
                context.connection, action.table, logical=action.logical, campaign=context.campaign
            )
        elif not isinstance(action, VacuumTable):
            context.connection.execute(sql_of(action))
    return {
        "tables": [_entry(table, table.bytes) for table in before.values() if table],
        "rows": sum(table.rows for table in before.values() if table),
        "archived": archived,
        "sql": [sql_text(action) for action in actions],
    }


def _entry(table: TableFacts, bytes_before: int) -> dict[str, object]:
    return {"table": table.qualified, "rows": table.rows, "bytes_before": bytes_before}


def _give_space_back(context: StepContext, actions: tuple[Action, ...], effect: Effect) -> Effect:
    """VACUUM after DELETE returns the pages to the system; it cannot run in a transaction."""
    for action in actions:
        if isinstance(action, VacuumTable) and not vacuum(context.connection, action):
            context.reporter.info(
                f"VACUUM of {action.table.qualified} timed out; autovacuum gives the space back later"
            )
    tables = {table.qualified: table for table in context.facts().tables.values() if table}
    for entry in effect["tables"]:
        entry["bytes_after"] = table_bytes(context.connection, tables[entry["table"]])
    effect["bytes_freed"] = sum(entry["bytes_before"] - entry["bytes_after"] for entry in effect["tables"])
    context.record(effect)
    return effect
