"""The cutover with what surrounds it: hooks, drains, NOT NULL, and what the application must use from then on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ragops.beside_facts import CutoverRow
from ragops.campaign.cutover.beside import Beside, besides, with_rows_left
from ragops.campaign.cutover.draining import drain
from ragops.campaign.cutover.exchange import MOST_WAITING, ExchangeResult, TooManyWaiting, exchange
from ragops.campaign.cutover.hooks import run_hooks
from ragops.campaign.cutover.results import ColumnInUse, CutOverResult, InUse, RollbackResult, Written
from ragops.campaign.steps.base import Run
from ragops.embedder.config import checked_sha256, probe_model
from ragops.errors import RagopsError
from ragops.facts import TableFacts, quoted
from ragops.playbook.model import Playbook
from ragops.postgres.connection import DATABASE_ERRORS, transaction
from ragops.postgres.cutover_columns import has_hopeless, has_null, index_metrics, read_column
from ragops.postgres.cutover_ddl import drop_check_sql, not_null_statements
from ragops.postgres.cutovers import keep_since, note, written_since
from ragops.postgres.locks import LOCK_TIMEOUT_S, with_lock_retries
from ragops.postgres.statements import Statement
from ragops.session import Session

# Drains before a cutover gives up on an application that writes faster than is embedded.
MOST_TRIES = 5
CHECK_VIOLATION = "23514"


def cut_over(run: Run, *, lock_timeout_s: float, sweeps: bool = False) -> CutOverResult:
    """Exchange the columns that are not exchanged yet, and embed what was written around that moment.

    Runs again what an interrupted one has not done. `sweeps`: look at every row before. Raises RagopsError when a
    hook fails or the locks cannot be had; of a hook that follows the cutover only after everything else.
    """
    session, hooks = run.session, run.session.playbook.hooks
    in_use = _in_use(session)
    found = session.through_outages(lambda: besides(session, is_added=True))
    exchanged = ExchangeResult(0.0, 0, ())
    if any(not one.row.is_swapped for one in found):
        try:
            run_hooks(
                hooks.before_cut_over,
                when="before the cutover",
                timeout_s=hooks.timeout_s,
                reporter=session.reporter,
            )
        except RagopsError as error:
            session.through_outages(lambda: ask(session, found, asked=False))
            error.hint = error.hint or "nothing was changed; with the cause fixed: ragops cutover run"
            raise
        exchanged = _exchange_drained(run, lock_timeout_s=lock_timeout_s, sweeps=sweeps)
    failure = _after(session)
    drained = drain(run, sweeps=True)
    nullable = settle_not_null(run)
    found = session.through_outages(lambda: besides(session, is_added=True))
    columns = tuple(session.through_outages(partial(_column_in_use, session, one)) for one in found)
    result = CutOverResult(
        replace(in_use, columns=columns), exchanged.seconds, exchanged.waiting, drained, nullable, exchanged.sql
    )
    session.through_outages(lambda: run.record(result))
    if failure is not None:
        raise RagopsError(
            "the columns are exchanged, and the command after the cutover failed",
            where=failure.where,
            actual=failure.actual,
            expected="an application that uses the new vectors",
            hint="run that command yourself   or, to go back to the old vectors: ragops cutover rollback",
        ) from failure
    return result


def _exchange_drained(run: Run, *, lock_timeout_s: float, sweeps: bool) -> ExchangeResult:
    session = run.session
    for number in range(MOST_TRIES):
        drain(run, sweeps=sweeps and number == 0)
        found = session.through_outages(lambda: besides(session, is_added=True))
        waiting = [one for one in found if not one.row.is_swapped]
        for one in waiting:
            session.through_outages(partial(_refuse_loss, session, one))
        if not waiting:
            # A COMMIT whose answer was lost.
            return ExchangeResult(0.0, 0, ())
        try:
            return session.through_outages(partial(exchange, run, waiting, lock_timeout_s=lock_timeout_s))
        except TooManyWaiting:
            session.reporter.info("the application wrote many rows meanwhile; embedding them before the cutover")
    raise RagopsError(
        "the application writes rows faster than they are embedded; nothing was exchanged",
        actual=f"more than {MOST_WAITING:,} rows wait, after {MOST_TRIES} drains",
        expected="a time with fewer writes, or more workers",
        hint="ragops cutover run   at such a time",
    )


def _refuse_loss(session: Session, one: Beside) -> None:
    """Raise RagopsError if the column could never be NOT NULL as the first one is: it has rows without a text."""
    if with_rows_left(session, one).beside.left_behind:
        # The plan refuses this; what left the target since, such as a row marked as deleted, stops no cutover.
        session.reporter.warning(
            f"rows that have left the target since have a vector in {one.label}, and none of the new model: they "
            f"keep it in {quoted(one.row.retired)} until ragops cutover finish"
        )
    if not one.row.is_not_null or not has_hopeless(session.connection, one.row, one.facts):
        return
    raise RagopsError(
        f"{one.label} is NOT NULL, and there are rows that get no vector; nothing was exchanged",
        actual="rows without a text, outside of the target, or whose item failed (ragops queue status)",
        expected="a vector for every row",
        hint=f"give those rows a text, or: ALTER TABLE {one.table.quoted} ALTER COLUMN "
        f"{quoted(one.target.embedding)} DROP NOT NULL",
    )


def _after(session: Session) -> RagopsError | None:
    """Run the commands that follow the cutover, unless they have run; return what failed."""
    hooks = session.playbook.hooks
    found = session.through_outages(lambda: besides(session, is_added=True))
    if all(one.row.is_hooked for one in found):
        return None
    try:
        run_hooks(
            hooks.after_cut_over, when="after the cutover", timeout_s=hooks.timeout_s, reporter=session.reporter
        )
    except RagopsError as error:
        session.reporter.warning(f"{error.what}: {error.actual}")
        return error

    def record() -> None:
        for one in found:
            note(session.connection, one.row, hooked=True)

    session.through_outages(record)
    return None


def ask(session: Session, found: Sequence[Beside], *, asked: bool) -> None:
    """Note that somebody asked for the cutover, so that a campaign that is resumed does not wait for it again."""
    for one in found:
        if one.beside.row is not None:
            note(session.connection, one.beside.row, asked=asked)


def roll_back(run: Run, *, lock_timeout_s: float) -> RollbackResult:
    """Give the first columns their names back. Raises RagopsError when the locks cannot be had."""
    session = run.session
    found = [one for one in besides(session, is_added=True) if one.row.state == "cut_over"]
    if not found:
        raise RagopsError(
            "there is no cutover to take back",
            actual=", ".join(sorted({one.row.state for one in besides(session, is_added=True) if one.beside.row}))
            or "no second column",
            expected="a cutover that is not finished",
            hint="ragops cutover status",
        )
    exchanged = session.through_outages(lambda: exchange(run, found, back=True, lock_timeout_s=lock_timeout_s))
    nullable = settle_not_null(run)
    now = {one.row.id: one for one in session.through_outages(lambda: besides(session, is_added=True))}
    written = [session.through_outages(partial(_written, session, now[one.row.id])) for one in found]
    return RollbackResult(exchanged.seconds, tuple(one for one in written if one.keys), nullable, exchanged.sql)


def _written(session: Session, one: Beside) -> Written:
    with transaction(session.connection, is_long=True):
        keep_since(session.connection, one.row)
        keys = written_since(session.connection, one.row)
    return Written(one.label, tuple(keys), written_condition(one))


def written_condition(one: Beside) -> str:
    """Return the SQL condition for the rows that were written since the cutover."""
    columns = ", ".join(quoted(column.name) for column in one.facts.key)
    values = ", ".join(
        f"(key::jsonb->>{place})::{column.stored_type}" for place, column in enumerate(one.facts.key)
    )
    return f"({columns}) IN (SELECT {values} FROM ragops.captured WHERE cutover_id = {one.row.id} AND is_kept)"


def settle_not_null(run: Run) -> tuple[str, ...]:
    """Make the columns that the application reads NOT NULL where the others were; return those with NULLs left.

    Without a scan under a lock. What keeps this from being done (a lock, a row without a vector) costs nothing.
    """
    session = run.session
    left = []
    for one in session.through_outages(lambda: besides(session, is_added=True)):
        row = one.beside.row
        if row is None or not row.is_not_null or row.state not in ("cut_over", "rolled_back"):
            continue
        if not session.through_outages(partial(_make_not_null, run, one, row)):
            left.append(one.label)
            session.reporter.warning(
                f"{one.label} was NOT NULL and has rows without a vector now; next, with those filled: "
                "ragops cutover run   or: ALTER TABLE … SET NOT NULL"
            )
    return tuple(left)


def _make_not_null(run: Run, one: Beside, row: CutoverRow) -> bool:
    session, table, column = run.session, one.table, one.target.embedding
    traits = read_column(session.connection, table, column)
    if traits is None or traits.is_not_null:
        return True
    if has_null(session.connection, table, column):
        return False
    _one_transaction(run, table, [drop_check_sql(row, table)])
    try:
        for statements in not_null_statements(row, table, column):
            _one_transaction(run, table, statements)
    except DATABASE_ERRORS as error:
        if getattr(error, "sqlstate", None) != CHECK_VIOLATION:
            raise
        # A row without a vector came in between.
        _one_transaction(run, table, [drop_check_sql(row, table)])
        return False
    return True


def _one_transaction(run: Run, table: TableFacts, statements: Sequence[Statement]) -> None:
    session = run.session

    def act() -> None:
        with run.transaction(lock_timeout_s=LOCK_TIMEOUT_S, is_long=True):
            for statement in statements:
                session.connection.execute(statement)

    with_lock_retries(session.connection, act, tables=[table], reporter=session.reporter)


def _in_use(session: Session) -> InUse:
    playbook: Playbook = session.playbook
    model = probe_model(playbook)
    return InUse(
        model=str(playbook.model.file),
        sha256=checked_sha256(playbook),
        dimensions=playbook.model.dimensions or model.dimensions,
        pooling=model.pooling,
        query_prefix=playbook.model.query_prefix,
        document_prefix=playbook.model.document_prefix,
        query_suffix=playbook.model.query_suffix,
        document_suffix=playbook.model.document_suffix,
        columns=(),
    )


def _column_in_use(session: Session, one: Beside) -> ColumnInUse:
    traits = read_column(session.connection, one.table, one.target.embedding)
    return ColumnInUse(
        column=one.label,
        type=traits.type if traits else "",
        former=one.row.retired,
        metrics=tuple(index_metrics(session.connection, one.table, one.target.embedding)),
    )
