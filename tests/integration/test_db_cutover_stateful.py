"""An application writes before, between and after cutovers and rollbacks: every vector is of its text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from beside_at_work import BesideAtWork, beside_at_work
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

IDS = st.integers(1, 8)
WORDS = st.sampled_from(["index", "vector", "query", "table", None, " "])
OLD = "[" + ",".join(["0.5"] * 32) + "]"


class Notes(RuleBasedStateMachine):
    """The application's rows as it has written them, and the old vectors that it has given them."""

    dsn: str

    def __init__(self) -> None:
        super().__init__()
        self._open = self._connected()
        self.application, self.work = self._open.__enter__()
        self.application.execute("DROP TABLE IF EXISTS notes")
        self.application.execute(
            "TRUNCATE ragops.target, ragops.row_state, ragops.work, ragops.captured, ragops.cutover CASCADE"
        )
        self.application.execute("CREATE TABLE notes (id int PRIMARY KEY, body text, embedding vector(32))")
        fill = "INSERT INTO notes SELECT n, 'text ' || n, %s FROM generate_series(1, 5) n"
        self.application.execute(fill, [OLD])
        self.texts: dict[int, str | None] = {n: f"text {n}" for n in range(1, 6)}
        self.since: set[int] = set()
        self.state = "filling"
        self.work.prepare()

    @contextmanager
    def _connected(self) -> Iterator[tuple[psycopg.Connection[tuple[object, ...]], BesideAtWork]]:
        with psycopg.connect(self.dsn, autocommit=True) as application, beside_at_work(self.dsn) as work:
            yield application, work

    def teardown(self) -> None:
        self.work.drain()
        self._check()
        self._open.__exit__(None, None, None)

    def _wrote(self, id: int) -> None:
        if self.state == "cut_over":
            self.since.add(id)

    @rule(id=IDS, word=WORDS)
    def edit(self, id: int, word: str | None) -> None:
        if id in self.texts:
            self.application.execute("UPDATE notes SET body = %s, embedding = %s WHERE id = %s", [word, OLD, id])
            self.texts[id] = word
            self._wrote(id)

    @rule(id=IDS)
    def insert(self, id: int) -> None:
        query = "INSERT INTO notes (id, body, embedding) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
        if self.application.execute(query, [id, f"new {id}", OLD]).rowcount:
            self.texts[id] = f"new {id}"
            self._wrote(id)

    @rule(id=IDS)
    def delete(self, id: int) -> None:
        self.application.execute("DELETE FROM notes WHERE id = %s", [id])
        self.texts.pop(id, None)
        self.since.discard(id)

    @rule(id=IDS, to=IDS)
    def renumber(self, id: int, to: int) -> None:
        if id in self.texts and to not in self.texts:
            self.application.execute("UPDATE notes SET id = %s WHERE id = %s", [to, id])
            self.texts[to] = self.texts.pop(id)
            if id in self.since or self.state == "cut_over":
                self.since.discard(id)
                self.since.add(to)

    @rule()
    def drain(self) -> None:
        self.work.drain()
        self._check()

    @precondition(lambda self: self.state != "cut_over")
    @rule()
    def cut_over(self) -> None:
        self.work.cut_over()
        self.state = "cut_over"
        self._check()

    @precondition(lambda self: self.state == "cut_over")
    @rule()
    def roll_back(self) -> None:
        written = self.work.roll_back().written
        self.state = "rolled_back"
        keys = {int(key.strip('[]"')) for one in written for key in one.keys}
        # No row is forgotten whose old vector the application has not written.
        assert self.since <= keys
        rows = self.application.execute("SELECT id, embedding::text FROM notes").fetchall()
        assert {id for id, vector in rows if vector != OLD} <= keys

    def _check(self) -> None:
        """Compare the rows with what the application wrote, and the vectors with the texts."""
        rows = self.application.execute("SELECT id, body FROM notes").fetchall()
        assert sorted(map(str, rows)) == sorted(map(str, self.texts.items()))
        assert self.work.wrong_rows("body") == []
        if self.state != "cut_over":
            # The old column is the application's alone.
            vectors = self.application.execute("SELECT embedding::text FROM notes WHERE embedding IS NOT NULL")
            assert {vector for (vector,) in vectors} <= {OLD}


def test_every_vector_is_of_its_text_and_no_old_one_is_lost(dsn18: str) -> None:
    machine = type("NotesOfThisDatabase", (Notes,), {"dsn": dsn18})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=6, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.slow
@pytest.mark.long
def test_the_same_many_times(dsn18: str) -> None:
    machine = type("NotesOfThisDatabase", (Notes,), {"dsn": dsn18})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
