"""Time limits of a role: what the same work hits each time is not waited for as an outage is."""

from __future__ import annotations

import pytest

from ragops.errors import OutageTooLong
from ragops.postgres.connection import Connection, Target
from ragops.workers.database import MAX_LIMITS, Database, Outages
from ragops.workers.state import Stop


def test_a_limit_that_the_same_work_hits_each_time_ends_it(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragops.workers.database.LONGEST_S", 0.01)
    tries = 0

    def idle_in_a_transaction(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        with connection.transaction():
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = '20ms'")
            # The server ends the session meanwhile, and says why when it is asked next.
            while not connection.closed:
                connection.execute("SELECT 1")
                Stop().requested.wait(0.2)

    database = Database("test", target, stop=Stop(), outages=Outages(lambda _: None))
    try:
        with pytest.raises(OutageTooLong, match="a time limit of the server ended the same work") as raised:
            database.run(idle_in_a_transaction)
    finally:
        database.close()
    assert tries == MAX_LIMITS + 1
    assert "idle_in_transaction_session_timeout" in str(raised.value.actual)
