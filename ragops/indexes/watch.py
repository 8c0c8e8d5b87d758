"""Watch a long statement: show its progress, keep the campaign's lease, cancel it on Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from ragops.errors import DatabaseUnavailable, Interrupted
from ragops.postgres.connection import DATABASE_ERRORS, Connection
from ragops.postgres.index_builds import StatementProgress
from ragops.postgres.watchdog import cut
from ragops.session import Session
from ragops.workers.database import CANCEL_S, Database

POLL_S = 0.5


def watched(
    session: Session,
    work: Callable[[], None],
    *,
    on: Connection,
    progress: Callable[[Connection], StatementProgress | None],
    what: str,
    left: str,
    renew: Callable[[Connection], None] = lambda _: None,
) -> None:
    """Run `work`, one long statement on the connection `on`, in a thread; a second connection observes it.

    `progress` reads from that connection how far the statement is.
    `left` states what an interrupted statement leaves behind. Raises what `work` raises, and Interrupted
    after Ctrl-C.
    """
    errors: list[BaseException] = []

    def run_work() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (raised again below, in the caller's thread)
            errors.append(error)

    # A daemon: whatever happens here, a statement that gets no answer must not keep the process alive.
    thread = threading.Thread(target=run_work, name=what, daemon=True)
    observer = Database("observer", session.target, stop=session.stop, outages=session.database.outages)

    def observe(connection: Connection) -> None:
        now = progress(connection)
        if now is not None:
            session.reporter.progress(what, now.done, now.total or None, f"{now.unit}, {now.phase}")
        renew(connection)

    try:
        thread.start()
        while thread.is_alive():
            # What it shows is no reason to end the statement: an outage that concerns it ends it by itself.
            with suppress(*DATABASE_ERRORS, DatabaseUnavailable):
                observer.try_once(observe)
            thread.join(POLL_S)
    except KeyboardInterrupt:
        # Two ways to end it: the server cancels the statement, or, if it does not answer, nobody waits for it.
        with suppress(*DATABASE_ERRORS, DatabaseUnavailable):
            on.cancel_safe(timeout=CANCEL_S)
        thread.join(CANCEL_S)
        if thread.is_alive():
            cut(on)
            thread.join(CANCEL_S)
        raise Interrupted(
            f"stopped while building {what}; {left}", signal_number=session.stop.signal_number
        ) from None
    finally:
        observer.close()
        session.reporter.end_progress()
    if errors:
        raise errors[0]
