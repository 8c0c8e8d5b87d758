"""`bound_for`: several commands with their own bound complete exactly as many items as asked for."""

from __future__ import annotations

import random
from typing import Any

import pytest
from campaigns import QUEUE, claim, seed

from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.queue import Claim


def completed(connection: Connection) -> int:
    return QUEUE.counts(connection)["completed"]


def test_bounds_count_what_is_done_and_what_is_open(connection: Connection) -> None:
    seed(connection, 10)
    assert QUEUE.bound_for(connection, until=4) == 4
    held = claim(connection, 3)
    assert QUEUE.bound_for(connection, until=4) == 4
    QUEUE.fail(connection, held, [(held.items[0].id, "x")])
    assert QUEUE.bound_for(connection, until=4) == 5
    QUEUE.complete(connection, held, [item.id for item in held.items[1:]])
    assert QUEUE.bound_for(connection, until=4) == 5
    assert QUEUE.bound_for(connection, until=2) is None
    assert QUEUE.bound_for(connection, until=100) == 10


def test_no_bound_without_open_items(connection: Connection) -> None:
    assert QUEUE.bound_for(connection, until=5) is None
    seed(connection, 1)
    held = claim(connection)
    QUEUE.fail(connection, held, [(held.items[0].id, "x")])
    assert QUEUE.bound_for(connection, until=5) is None


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
            self._bound = QUEUE.bound_for(self._connection, until=self._until)
            self.is_done = self._bound is None
        else:
            self._held = QUEUE.claim(
                self._connection, size=self._dice.randint(1, 4), worker="w", lease_s=60, last_id=self._bound
            )
            if self._held is None and not sum(QUEUE.open_items(self._connection, last_id=self._bound)):
                self._bound = None

    def _finish(self, held: Claim) -> None:
        self._held = None
        failed = [item.id for item in held.items if self._dice.random() < 0.3]
        QUEUE.fail(self._connection, held, [(id, "x") for id in failed])
        QUEUE.complete(self._connection, held, [item.id for item in held.items if item.id not in failed])


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
    assert QUEUE.counts(connection)["processing"] == 0
