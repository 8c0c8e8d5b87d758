"""An application edits, inserts and deletes rows while fleets embed them: nothing of it is lost or overwritten."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from rows_at_work import RowsAtWork, put_to_work, vector_of

from ragops.playbook.steps import SelectRows
from ragops.playbook.targets import RowTarget
from ragops.postgres.connection import Connection, Target, connect
from ragops.postgres.writer import Batch

IDS = st.integers(1, 7)
WORDS = st.sampled_from(["index", "vector", "query", "table", "row"])


class Rows(RuleBasedStateMachine):
    """The application's rows as it has written them, beside those of the database."""

    connection: Connection

    def __init__(self) -> None:
        super().__init__()
        self.connection.execute("DROP TABLE IF EXISTS notes")
        self.connection.execute("CREATE TABLE notes (id int PRIMARY KEY, body text, embedding vector(32))")
        self.connection.execute("TRUNCATE ragops.target, ragops.row_state, ragops.work CASCADE")
        self.connection.execute("INSERT INTO notes SELECT n, 'text ' || n FROM generate_series(1, 6) n")
        self.texts = {n: f"text {n}" for n in range(1, 7)}
        self.read: list[tuple[Batch, dict[int, tuple[str, str | None]]]] = []
        self.work: RowsAtWork = self._select()

    def _select(self) -> RowsAtWork:
        return put_to_work(
            self.connection,
            RowTarget(table="notes", text="{body}", where="body <> 'hidden'"),
            settings=SelectRows(step="select_rows", rows=("missing", "stale")),
        )

    def _present(self) -> dict[int, tuple[str, str | None]]:
        rows = self.connection.execute("SELECT id, body, md5(vector_send(embedding)) FROM notes").fetchall()
        return {id: (body, vector) for id, body, vector in rows}

    @rule(id=IDS, word=WORDS)
    def edit(self, id: int, word: str) -> None:
        self.connection.execute("UPDATE notes SET body = body || %s WHERE id = %s", [f" {word}", id])
        if id in self.texts:
            self.texts[id] += f" {word}"

    @rule(id=IDS)
    def insert(self, id: int) -> None:
        self.connection.execute("INSERT INTO notes VALUES (%s, %s) ON CONFLICT DO NOTHING", [id, f"new {id}"])
        self.texts.setdefault(id, f"new {id}")

    @rule(id=IDS)
    def delete(self, id: int) -> None:
        self.connection.execute("DELETE FROM notes WHERE id = %s", [id])
        self.texts.pop(id, None)

    @rule(id=IDS, value=st.floats(0.125, 1))
    def embed_by_application(self, id: int, value: float) -> None:
        vector = [value, *([0.0] * 31)]
        self.connection.execute("UPDATE notes SET embedding = %s::real[]::vector WHERE id = %s", [vector, id])

    @rule(size=st.integers(1, 4))
    def claim(self, size: int) -> None:
        claimed = self.work.claim(size)
        if claimed is not None:
            self.read.append((self.work.read(claimed), self._present()))

    @precondition(lambda self: self.read)
    @rule(place=st.integers(0, 3))
    def store(self, place: int) -> None:
        batch, seen = self.read.pop(place % len(self.read))
        before = self._present()
        self.work.write(batch)
        after = self._present()
        assert after.keys() == before.keys()
        for id in after:
            assert after[id][0] == before[id][0], "a text was changed"
            if after[id][1] != before[id][1]:
                assert before[id] == seen[id], "a row was written that is not what was read"

    @rule(kind=st.sampled_from(["edit", "embed", "delete"]), word=WORDS)
    def race(self, kind: str, word: str) -> None:
        """Write a row between the reading and the storing of its claim."""
        claimed = self.work.claim(2)
        if claimed is None:
            return
        self.read.append((self.work.read(claimed), self._present()))
        id = int(claimed.items[0].location.split('"')[1])
        match kind:
            case "edit":
                self.edit(id, word)
            case "embed":
                self.embed_by_application(id, 0.5)
            case _:
                self.delete(id)
        self.store(len(self.read) - 1)

    @rule()
    def select_again(self) -> None:
        # What another filling read and did not store is lost to it: its claims are gone.
        self.read.clear()
        self.work = self._select()

    def teardown(self) -> None:
        """Embed all that is left, after the application has ended: every row has the vector of its text."""
        self.connection.execute("UPDATE notes SET embedding = NULL")
        self.work = self._select()
        self.work.drain()
        rows = self.connection.execute("SELECT id, body, embedding FROM notes").fetchall()
        assert {id: body for id, body, _ in rows} == self.texts
        for _, body, vector in rows:
            assert np.allclose(vector.to_numpy(), vector_of(body), atol=1e-6)


@pytest.fixture
def machine(dsn18: str) -> Iterator[type[Rows]]:
    with connect(Target(dsn18, "the test database")) as connection:
        Rows.connection = connection
        yield Rows


def test_nothing_of_the_application_is_lost(machine: type[Rows]) -> None:
    profile = settings(max_examples=20, stateful_step_count=20, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=profile)
