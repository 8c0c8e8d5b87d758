"""Controllers are killed while an application writes: rows that stay end with the vectors of their texts."""

from __future__ import annotations

import random
import threading

import psycopg
import pytest
from conftest import wait_for
from workplace import Workplace

PLAYBOOK = """
version: 1
name: repair
database: {dsn: "${RAGOPS_DSN:-}"}
model: {file: "${RAGOPS_MODEL}"}
workers: {count: 1, lease_s: 5}
targets:
  - table: TABLE
    text: "{body}"
    triggers: fire
steps:
  - step: select_rows
    rows: [ROWS]
  - step: embed
    until: 100
  - step: embed
"""
SCHEMA = """
CREATE TABLE notes (id int PRIMARY KEY, body text, note text, embedding vector(32));
INSERT INTO notes SELECT n, 'index vector query table ' || n, 'note ' || n FROM generate_series(1, 400) n;
CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.003); RETURN NEW; END $$;
CREATE TRIGGER slow_down BEFORE UPDATE OF embedding ON notes FOR EACH ROW EXECUTE FUNCTION slow_down();
"""


class Application(threading.Thread):
    """Edits, inserts and deletes rows, and keeps what it wrote."""

    def __init__(self, dsn: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.dsn, self.random, self.ended = dsn, random.Random(seed), threading.Event()
        self.texts = {n: f"index vector query table {n}" for n in range(1, 401)}
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                while not self.ended.wait(0.02):
                    self.write(connection, self.random.randrange(1, 450))
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            self.error = error

    def write(self, connection: psycopg.Connection[tuple[object, ...]], id: int) -> None:
        if id not in self.texts:
            connection.execute("INSERT INTO notes (id, body) VALUES (%s, %s)", [id, f"row {id}"])
            self.texts[id] = f"row {id}"
        elif self.random.random() < 0.2:
            connection.execute("DELETE FROM notes WHERE id = %s", [id])
            del self.texts[id]
        else:
            connection.execute("UPDATE notes SET body = body || ' lock' WHERE id = %s", [id])
            self.texts[id] += " lock"


def write_playbook(place: Workplace, name: str, *, table: str, rows: str) -> None:
    text = PLAYBOOK.replace("TABLE", table).replace("ROWS", rows)
    (place.folder / name).write_text(text, encoding="utf-8")


def embedded(place: Workplace) -> int:
    """Return how many items are completed; 0 before there are any."""
    try:
        return int(place.value("SELECT count(*) FROM ragops.work WHERE status = 'completed'"))
    except psycopg.errors.UndefinedTable:
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_rows_survive_kills_and_an_application(place: Workplace, seed: int) -> None:
    place.execute(SCHEMA)
    write_playbook(place, "repair.yaml", table="notes", rows="missing")
    write_playbook(place, "stale.yaml", table="notes", rows="missing, stale")
    application, chance = Application(place.dsn, seed), random.Random(seed)
    application.start()
    arguments = ["reset", "--playbook", "repair.yaml", "--yes"]
    for reached in sorted(chance.sample(range(5, 330), 4)):
        controller = place.start(*arguments)
        wait_for(lambda: embedded(place) >= reached, what=f"{reached} embedded rows")  # noqa: B023
        controller.kill()
        controller.wait()
        arguments = ["reset", "--resume", "--playbook", "repair.yaml", "--yes"]
    done = place.ragops(*arguments)
    assert done.code == 0, done.err
    application.ended.set()
    application.join()
    assert application.error is None
    done = place.ragops("reset", "--playbook", "stale.yaml", "--yes")
    assert done.code == 0, done.err
    assert dict(place.rows("SELECT id, body FROM notes")) == application.texts
    assert place.rows("SELECT id FROM notes WHERE id <= 400 AND note <> 'note ' || id") == []
    # What an undisturbed campaign makes of the same texts.
    place.execute("CREATE TABLE copied (id int PRIMARY KEY, body text, embedding vector(32))")
    place.execute("INSERT INTO copied SELECT id, body FROM notes")
    write_playbook(place, "copied.yaml", table="copied", rows="all")
    assert place.ragops("reset", "--playbook", "copied.yaml", "--yes").code == 0
    query = "SELECT count(*) FROM notes n JOIN copied c USING (id) WHERE NOT (n.embedding <=> c.embedding) < 1e-5"
    assert place.value(query) == 0
    assert place.value("SELECT count(*) FROM notes WHERE embedding IS NULL") == 0
