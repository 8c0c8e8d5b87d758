"""Exchange the names of first and second columns, in one short transaction: the cutover, and the way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ragops.beside_facts import UNSWAPPED, CutoverRow
from ragops.campaign.cutover.beside import Beside, exchange_problems
from ragops.campaign.steps.base import Run
from ragops.errors import PlanRefused, RagopsError
from ragops.facts import TableFacts, quoted
from ragops.findings import PlanProblem
from ragops.postgres.connection import Connection
from ragops.postgres.cutover_columns import (
    count_dependents,
    index_renames,
    published,
    read_column,
    read_dependents,
)
from ragops.postgres.cutover_ddl import exchange_statements, joined, lock_view_sql
from ragops.postgres.cutovers import (
    count_waiting,
    last_captured,
    lock_cutovers,
    note,
    rename_targets,
    set_state,
)
from ragops.postgres.locks import lock_tables, with_lock_retries
from ragops.postgres.statements import Statement, text_of
from ragops.retry import Backoff

# Every later query of the table waits while this transaction waits for its lock: the first tries give up early.
FIRST_LOCK_TIMEOUT_S = 0.05
# For a lock that readers and writers do not notice.
PATIENCE_S = 3.0
# Noted rows that may wait for their vector at the moment of a cutover; they get it right after. More mean that the
# application writes faster than is embedded, or that the drain was long ago.
MOST_WAITING = 1000


class TooManyWaiting(Exception):
    """More noted rows wait than a cutover leaves behind; nothing was changed."""


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """What an exchange did. `seconds` is how long the tables were locked."""

    seconds: float
    waiting: int
    """Noted rows that waited for their vector at that moment."""
    sql: tuple[str, ...]
    unpaired: tuple[str, ...] = ()
    """Indexes of the column that the application now reads no more, without one of the other column."""


def exchange(
    run: Run,
    found: Sequence[Beside],
    *,
    back: bool = False,
    lock_timeout_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> ExchangeResult:
    """Give the second columns the names of the first ones, or those back. All tables in one transaction.

    What can be read and composed is ready before the application waits: under a lock that keeps only other DDL
    out. Raises RagopsError when the locks cannot be had, PlanRefused for what came to refer to a column meanwhile,
    TooManyWaiting, FenceLost; nothing was changed then.
    """
    session = run.session
    tables = [one.table for one in {one.table.oid: one for one in found}.values()]
    rows = [one.row for one in found]
    attempts = 0

    def act() -> ExchangeResult:
        nonlocal attempts
        within = min(lock_timeout_s, FIRST_LOCK_TIMEOUT_S * 2**attempts)
        attempts += 1
        with run.transaction(lock_timeout_s=within):
            connection = session.connection
            _refuse_states(found, lock_cutovers(connection, rows), back=back)
            # VACUUM is waited for here, where nobody else has to; the server ends autovacuum after a second.
            lock_tables(connection, tables, "SHARE UPDATE EXCLUSIVE", within_s=max(lock_timeout_s, PATIENCE_S))
            prepared = [_prepare(connection, one, back=back) for one in found]
            statements = [statement for one in prepared for statement in one.statements]
            # A reader of a view locks the view, then its tables: in another order both would wait for each other.
            for view in dict.fromkeys(name for one in prepared for name in one.views):
                connection.execute(lock_view_sql(view))
            lock_tables(connection, tables, "ACCESS EXCLUSIVE", within_s=within)
            started = time.monotonic()
            for one in prepared:
                if count_dependents(connection, one.table, one.name) != one.dependents:
                    raise _changed(one)
            # Nobody else can write the tables now, and all notes of earlier writes are visible.
            waiting = count_waiting(connection, rows, limit=MOST_WAITING + 1)
            if not back and waiting > MOST_WAITING:
                raise TooManyWaiting
            # One round trip for all.
            connection.execute(joined(statements))
            last = last_captured(connection)
            for row in rows:
                note(connection, row, **({"until": last} if back else {"bound": last, "until": None}))
        alone = tuple(name for one in prepared for name in one.alone)
        return ExchangeResult(time.monotonic() - started, waiting, tuple(map(text_of, statements)), alone)

    return with_lock_retries(
        session.connection,
        act,
        tables=tables,
        reporter=session.reporter,
        backoff=Backoff(first_s=0.2, longest_s=5.0, total_s=120.0),
        sleep=sleep,
    )


@dataclass(frozen=True, slots=True)
class _Names:
    name: str
    """What the application reads."""
    aside: str
    """What the column of that name is called from now on."""
    second: str
    """The column that gets the name."""


def _names(row: CutoverRow, *, back: bool) -> _Names:
    if back:
        return _Names(row.old_column, row.new_column, row.retired)
    return _Names(row.old_column, row.retired, row.new_column)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One exchange, composed and recorded, before the application has to wait."""

    table: TableFacts
    name: str
    statements: tuple[Statement, ...]
    views: tuple[str, ...]
    """Those that are made again, the outermost first."""
    dependents: int
    alone: tuple[str, ...]
    """Vector indexes without an equal one of the other column."""


def _prepare(connection: Connection, one: Beside, *, back: bool) -> _Prepared:
    """Compose the exchange of one pair, and record it in the caller's transaction."""
    row, table, names = one.row, one.table, _names(one.row, back=back)
    first, second = (read_column(connection, table, name) for name in (names.name, names.second))
    if first is None or second is None:
        raise _gone(one, names.name if first is None else names.second)
    dependents = read_dependents(connection, table, names.name)
    now = replace(
        one.beside,
        old=first,
        new=second,
        dependents=dependents,
        published=published(connection, table, names.name),
    )
    if problems := list(exchange_problems(replace(one, beside=now), None)):
        raise PlanRefused(
            "the columns cannot be exchanged; nothing was changed", problems=problems, hint="then the same command"
        )
    ending = f"_{row.new_column.removeprefix(row.old_column).strip('_') or 'new'}" if back else "_old"
    known = row.definition.get("indexes") if back else None
    indexes, alone = index_renames(
        connection, table, name=names.name, second=names.second, ending=ending, known=known or {}
    )
    if alone and not back:
        raise _unindexed(one, names.second, alone)
    statements = exchange_statements(
        table,
        name=names.name,
        aside=names.aside,
        second=names.second,
        first=first,
        second_type=second.type,
        dependents=dependents,
        indexes=indexes,
    )
    rename_targets(connection, row, name=names.name, aside=names.aside, second=names.second)
    # The other column becomes NOT NULL once it has no NULL any more.
    more: dict[str, object] = {"not_null": first.is_not_null or row.is_not_null, "asked": False}
    if back:
        set_state(connection, row, "rolled_back", **more)
    else:
        more |= {"indexes": {index.name: index.second for index in indexes}, "hooked": False}
        set_state(connection, row, "cut_over", **more)
    views = sorted((d for d in dependents if d.view is not None), key=lambda d: -d.depth)
    count = count_dependents(connection, table, names.name)
    return _Prepared(table, names.name, tuple(statements), tuple(v.name for v in views), count, tuple(alone))


def _refuse_states(found: Sequence[Beside], states: Mapping[int, str], *, back: bool) -> None:
    """Raise RagopsError if another command has exchanged a pair of columns since it was looked at."""
    for one in found:
        state = states.get(one.row.id)
        if (state == "cut_over") is back and (back or state in UNSWAPPED):
            continue
        raise RagopsError(
            f"the cutover of {one.label} is {(state or 'gone').replace('_', ' ')} now; nothing was changed",
            expected="cut over" if back else "a second column that waits",
            hint="ragops cutover status",
        )


def _gone(one: Beside, column: str) -> RagopsError:
    return RagopsError(
        f"the column {one.table.quoted}.{quoted(column)} does not exist any more; nothing was changed",
        expected="both columns of the pair, as the ledger has them",
        hint="ragops cutover status",
    )


def _changed(one: _Prepared) -> RagopsError:
    return RagopsError(
        f"something came to refer to {one.table.quoted}.{quoted(one.name)} at this moment; nothing was changed",
        expected="no other DDL during the exchange",
        hint="the same command again",
    )


def _unindexed(one: Beside, second: str, alone: Sequence[str]) -> PlanRefused:
    """Return the error for indexes that the application would lose: its queries would read the whole table."""
    return PlanRefused(
        f"{one.table.quoted}.{quoted(second)} lacks indexes that {one.label} has; nothing was changed",
        problems=[
            PlanProblem(
                f"no valid index like {name} is on the second column", "ragops index rebuild --concurrently"
            )
            for name in alone
        ],
        hint="or drop the index of the first column, if it is not needed; then: ragops cutover run",
    )
