"""The watchdog looks at connections that other threads close meanwhile."""

from __future__ import annotations

from ragops.postgres.connection import Target, connect
from ragops.postgres.watchdog import AGAIN_S, SUSPICIOUS_S, Watchdog


def test_a_connection_that_its_thread_closes_meanwhile_does_not_end_the_watch(target: Target) -> None:
    said: list[str] = []
    watchdog = Watchdog(target, info=said.append)
    with connect(target) as closed, connect(target) as idle:
        closed.close()
        # As `_run` gives them, which saw both wait; times without waiting for them.
        for now in (0.0, SUSPICIOUS_S, SUSPICIOUS_S + AGAIN_S):
            watchdog._check([closed, idle], now=now)
    # The other one was judged all the same: the server has nothing to do for it.
    assert said and "the server's session is idle" in said[0]
