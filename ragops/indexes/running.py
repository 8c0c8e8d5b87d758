"""Wait for index builds that other sessions run on a table, and say which and how far they are."""

from __future__ import annotations

import time
from collections.abc import Callable

from ragops.errors import Interrupted
from ragops.facts import TableFacts
from ragops.postgres.connection import Connection
from ragops.postgres.locks import Waiting, find_sessions
from ragops.postgres.running_builds import RunningBuild, running_builds
from ragops.session import Session

POLL_S = 0.5
# A build that waits for a lock this long is said to, with those who hold it.
BLOCKED_S = 5.0


def wait_for_builds(
    session: Session, table: TableFacts, *, renew: Callable[[Connection], None] = lambda _: None
) -> bool:
    """Wait until no other session builds an index on the table; return whether one did.

    The session's connection is in no transaction meanwhile: CREATE INDEX CONCURRENTLY waits for every snapshot.
    Raises Interrupted after Ctrl-C; the build goes on.
    """
    connection, reporter = session.connection, session.reporter
    said: set[int] = set()
    blocked_since: float | None = None
    held = Waiting(reporter, f"a build on {table.qualified}, which waits itself")
    pid: int | None = None
    try:
        while builds := running_builds(connection, table.oid):
            first = builds[0]
            pid = first.pid
            for build in builds:
                if build.pid not in said:
                    said.add(build.pid)
                    reporter.info(_found(build, table))
            if first.progress is not None:
                done = first.progress
                note = f"{done.unit}, {done.phase}, by pid {pid}"
                reporter.progress(f"index {first.index or '?'}", done.done, done.total or None, note)
            waits_for = [blocker for build in builds for blocker in build.waits_for]
            if not waits_for:
                blocked_since = None
            elif blocked_since is None:
                blocked_since = time.monotonic()
            elif time.monotonic() - blocked_since > BLOCKED_S:
                held.say(find_sessions(connection, waits_for), otherwise="no session holds a lock any more")
            renew(connection)
            if session.stop.requested.wait(POLL_S):
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped while looking for index builds"
            if pid is None
            else f"stopped while waiting for the index build of pid {pid}, which goes on in the server",
            signal_number=session.stop.signal_number,
        ) from None
    finally:
        reporter.end_progress()
    return bool(said)


def _found(build: RunningBuild, table: TableFacts) -> str:
    return (
        f"{build} on {table.qualified}; waiting for its end (a build goes on after its client has died; "
        f"to end it: SELECT pg_cancel_backend({build.pid}))"
    )
