"""End a cutover: drop the first column after it, or the second one before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragops.beside_facts import UNSWAPPED, CutoverRow
from ragops.campaign.cutover.beside import Beside, besides
from ragops.campaign.steps.base import Run
from ragops.errors import RagopsError
from ragops.facts import quoted
from ragops.postgres.cutover_ddl import drop_check_sql, drop_column_sql, release_statements
from ragops.postgres.cutovers import forget_notes, forget_rows, lock_cutovers, set_state
from ragops.postgres.ledger import all_campaigns, check_free, lock_campaigns, mark_undone
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.postgres.statements import Statement, text_of
from ragops.session import Session


@dataclass(frozen=True, slots=True)
class EndResult:
    """What was dropped: the former column (finish), or the second one (undo)."""

    state: str
    columns: tuple[str, ...]
    sql: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {"state": self.state, "dropped": list(self.columns), "sql": list(self.sql)}


def finish(run: Run) -> EndResult:
    """Drop the first columns of cutovers, their triggers and notes. Raises RagopsError if there is no cutover."""
    session = run.session
    found = [one for one in besides(session, is_added=True) if one.beside.row and one.row.state == "cut_over"]
    if not found:
        raise RagopsError(
            "there is no cutover to finish",
            actual=_states(session),
            expected="columns that were exchanged",
            hint="ragops cutover status",
        )
    return session.through_outages(lambda: _drop(run, found, state="finished"))


def find_droppable(session: Session) -> tuple[Beside, ...]:
    """Return the targets whose second columns an undo drops.

    Raises RagopsError after a cutover, which is taken back first, and if there is no second column.
    """
    found = [one for one in besides(session, is_added=True) if one.beside.row is not None]
    swapped = [one for one in found if one.row.state == "cut_over"]
    if swapped:
        raise RagopsError(
            f"{', '.join(one.label for one in swapped)} was exchanged with its second column; nothing was changed",
            expected="the columns as they were before the cutover",
            hint="ragops cutover rollback   then: ragops undo   or, to keep the new ones: ragops cutover finish",
        )
    unswapped = tuple(one for one in found if one.row.state in UNSWAPPED)
    if not unswapped:
        raise RagopsError(
            "there is nothing to undo: no second column waits",
            where=session.target.label,
            actual=_states(session),
            hint="ragops cutover status",
        )
    return unswapped


def undo_beside(run: Run, found: Sequence[Beside]) -> EndResult:
    """Drop the second columns of targets that `find_droppable` returns; their campaigns end as undone."""
    campaigns = sorted({one.row.campaign for one in found if one.row.campaign is not None})
    return run.session.through_outages(lambda: _drop(run, found, state="dropped", campaigns=campaigns))


def _drop(run: Run, found: Sequence[Beside], *, state: str, campaigns: Sequence[int] = ()) -> EndResult:
    session = run.session
    tables = [one.table for one in {one.table.oid: one for one in found}.values()]
    is_end = state == "finished"

    def act() -> EndResult:
        connection, executed = session.connection, []
        with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S):
            if campaigns:
                _keep_controllers_out(session, campaigns)
            states = lock_cutovers(connection, [one.row for one in found])
            for one in found:
                if states.get(one.row.id) != one.row.state:
                    raise RagopsError(
                        f"another command has changed the cutover of {one.label}; nothing was changed",
                        hint="ragops cutover status",
                    )
                column = _column(one.row, is_end=is_end)
                for statement in _statements(one, column):
                    connection.execute(statement)
                    executed.append(text_of(statement))
                forget_rows(connection, one.row, column)
                forget_notes(connection, one.row)
                set_state(connection, one.row, state)
            if campaigns:
                mark_undone(connection, campaigns)
        names = tuple(f"{one.table.quoted}.{quoted(_column(one.row, is_end=is_end))}" for one in found)
        return EndResult(state, names, tuple(executed))

    return with_lock_retries(session.connection, act, tables=tables, reporter=session.reporter)


def _keep_controllers_out(session: Session, campaigns: Sequence[int]) -> None:
    """Let nobody take the campaigns until the transaction ends. Raises CampaignHeld while one is run."""
    lock_campaigns(session.connection)
    for row in all_campaigns(session.connection):
        if row.id in campaigns and not row.is_finished:
            check_free(row)


def _column(row: CutoverRow, *, is_end: bool) -> str:
    return row.retired if is_end else row.new_column


def _statements(one: Beside, column: str) -> list[Statement]:
    statements = list(release_statements(one.row, one.table))
    statements.append(drop_check_sql(one.row, one.table))
    # Somebody may have dropped it already.
    if column in one.table.columns:
        statements.append(drop_column_sql(one.table, column))
    return statements


def _states(session: Session) -> str:
    states = sorted({one.row.state for one in besides(session, is_added=True) if one.beside.row is not None})
    return ", ".join(state.replace("_", " ") for state in states) or "no second column"
