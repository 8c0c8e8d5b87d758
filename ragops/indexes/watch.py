"""Watch a long statement: show its progress, keep the campaign's lease, cancel it on Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ragops.errors import Interrupted
from ragops.postgres.connection import Connection
from ragops.postgres.index_builds import StatementProgress
from ragops.session import Session

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

    thread = threading.Thread(target=run_work, name=what)
    thread.start()
    with session.connect() as observer:
        try:
            while thread.is_alive():
                now = progress(observer)
                if now is not None:
                    session.reporter.progress(what, now.done, now.total or None, f"{now.unit}, {now.phase}")
                renew(observer)
                thread.join(POLL_S)
        except KeyboardInterrupt:
            on.cancel_safe()
            thread.join()
            raise Interrupted(
                f"stopped while building {what}; {left}", signal_number=session.stop.signal_number
            ) from None
        finally:
            session.reporter.end_progress()
    if errors:
        raise errors[0]
