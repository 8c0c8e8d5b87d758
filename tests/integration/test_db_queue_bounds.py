"""`bound_for`: several commands with their own bound complete exactly as many items as asked for."""

from __future__ import annotations

import random
from typing import Any

import pytest
from campaigns import claim, execute, queue_of, seed

from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.queue import Claim, Cursor
from ragops.postgres.setup import initialise, plan_setup


def completed(connection: Connection) -> int:
    return queue_of(connection).counts()["completed"]


def test_bounds_count_what_is_done_and_what_is_open(connection: Connection) -> None:
    seed(connection, 10)
    assert queue_of(connection).bound_for(until=4) == Cursor(1, 4)
    held = claim(connection, 3)
    assert queue_of(connection).bound_for(until=4) == Cursor(1, 4)
    queue_of(connection).fail(held, [(held.items[0].id, "x")])
    assert queue_of(connection).bound_for(until=4) == Cursor(1, 5)
    queue_of(connection).complete(held, [item.id for item in held.items[1:]])
    assert queue_of(connection).bound_for(until=4) == Cursor(1, 5)
    assert queue_of(connection).bound_for(until=2) is None
    assert queue_of(connection).bound_for(until=100) == Cursor(1, 10)


def test_no_bound_without_open_items(connection: Connection) -> None:
    assert queue_of(connection).bound_for(until=5) is None
    seed(connection, 1)
    held = claim(connection)
    queue_of(connection).fail(held, [(held.items[0].id, "x")])
    assert queue_of(connection).bound_for(until=5) is None


class Competitor:
    """A command that embeds until so many items are completed, as `steps.embed` does, one move at a time."""

    def __init__(self, connection: Connection, *, until: int, dice: random.Random) -> None:
        self._connection, self._until, self._dice = connection, until, dice
        self._bound: Any = None
        self._held: Claim | None = None
        self.is_done = False

    def move(self) -> None:
        if self._held is not None:
            self._finish(self._held)
        elif self._bound is None:
            self._bound = queue_of(self._connection).bound_for(until=self._until)
            self.is_done = self._bound is None
        else:
            self._held = queue_of(self._connection).claim(
                size=self._dice.randint(1, 4), worker="w", lease_s=60, bound=self._bound
            )
            if self._held is None and not sum(queue_of(self._connection).open_items(bound=self._bound)):
                self._bound = None

    def _finish(self, held: Claim) -> None:
        self._held = None
        failed = [item.id for item in held.items if self._dice.random() < 0.3]
        queue_of(self._connection).fail(held, [(id, "x") for id in failed])
        queue_of(self._connection).complete(held, [item.id for item in held.items if item.id not in failed])


@pytest.mark.parametrize("seed_number", range(4))
def test_two_competitors_with_failures_stop_at_exactly_the_number(
    connection: Connection, target: Target, seed_number: int
) -> None:
    seed(connection, 60)
    dice = random.Random(seed_number)
    with connect(target) as other:
        competitors = [Competitor(c, until=20, dice=dice) for c in (connection, other)]
        while not all(competitor.is_done for competitor in competitors):
            dice.choice([c for c in competitors if not c.is_done]).move()
            assert completed(connection) <= 20
    assert completed(connection) == 20
    assert queue_of(connection).counts()["processing"] == 0


def test_ids_in_another_order_than_the_claims_stop_at_exactly_the_number(
    connection: Connection, target: Target
) -> None:
    """The queue's ids are uuids, and phases cut across their order."""
    connection.execute("DROP TABLE files_queue")
    connection.execute(
        "CREATE TABLE files_queue (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), file_path text, status text)"
    )
    initialise(connection, target, plan_setup(connection, Tables(), dimensions=lambda: 32))
    seed(connection, 60, gates=(10, 30))
    for until in (5, 10, 25, 42):
        while (bound := queue_of(connection).bound_for(until=until)) is not None:
            held = queue_of(connection).claim(size=4, worker="w", lease_s=60, bound=bound)
            assert held is not None
            queue_of(connection).complete(held, [item.id for item in held.items])
        assert completed(connection) == until
        behind = connection.execute(
            "SELECT count(*) FROM files_queue p JOIN files_queue c ON p.phase < c.phase"
            " WHERE p.status = 'pending' AND c.status = 'completed'"
        ).fetchone()
        assert behind == (0,), "the phases in their order"
    execute(
        target.conninfo, "INSERT INTO ragops.campaign (name, playbook, plan, phase) VALUES ('c', '{}', '{}', 2)"
    )
    bound = queue_of(connection).bound_for(until=50)
    assert bound is not None
    assert queue_of(connection).claim(size=99, worker="w", lease_s=60, bound=bound) is None
    assert sum(queue_of(connection).open_items(phase=queue_of(connection).gate(), bound=bound)) == 0
