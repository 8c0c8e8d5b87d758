"""A campaign that is killed at every step while an application writes: no write is lost, no vector is wrong."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psycopg
import pytest
from conftest import wait_for
from cutover_library import SCHEMA, WRONG, write_playbook
from tiny_gguf import write_tiny_bert
from workplace import Workplace

STEPS = 7
OLD = "[" + ",".join(["0.5"] * 32) + "]"


class Application:
    """Edits, inserts and deletes rows until it is told to end; keeps what it wrote, and its errors."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._end = threading.Event()
        self.errors: list[str] = []
        self.titles: dict[int, str] = {}
        self.writes = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Application:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True, prepare_threshold=None) as connection:
            rows = connection.execute("SELECT id, title FROM kb.articles").fetchall()
            self.titles = dict(rows)
            while not self._end.is_set():
                self.writes += 1
                try:
                    self._write(connection, self.writes)
                except psycopg.Error as error:
                    self.errors.append(str(error))
                time.sleep(0.02)

    def _write(self, connection: psycopg.Connection[tuple[object, ...]], number: int) -> None:
        id = number % 60 + 1
        match number % 5:
            case 0:
                connection.execute(
                    "INSERT INTO kb.articles (tenant, id, title, embedding) VALUES (0, %s, 'new', %s)",
                    [1000 + number, OLD],
                )
                self.titles[1000 + number] = "new"
            case 1 if number > 20:
                connection.execute("DELETE FROM kb.articles WHERE id = %s", [1000 + number - 11])
                self.titles.pop(1000 + number - 11, None)
            case _:
                connection.execute("UPDATE kb.articles SET title = %s WHERE id = %s", [f"edit {number}", id])
                if id in self.titles:
                    self.titles[id] = f"edit {number}"
        connection.execute("SELECT id FROM kb.articles ORDER BY embedding <=> %s::vector LIMIT 3", [OLD])


@pytest.mark.slow
def test_killed_at_every_step_beside_an_application(place: Workplace, tmp_path: Path) -> None:
    place.execute("DROP ROLE IF EXISTS reader", SCHEMA, "UPDATE kb.articles SET deleted_at = NULL")
    place.variables["RAGOPS_MODEL"] = str(write_tiny_bert(tmp_path / "other.gguf", seed=7))
    write_playbook(place, when="ready")
    notes = (
        "SELECT md5(string_agg((tenant, id, body, note)::text, '' ORDER BY id)) FROM kb.articles WHERE id < 1000"
    )
    before = place.value(notes)
    command = ["reset", "--playbook", "reembed.yaml", "--yes"]
    with Application(place.dsn) as application:
        for number in range(1, STEPS + 1):
            program = place.start(*command)
            reached = f"SELECT count(*) FROM ragops.step WHERE number >= {number} AND status <> 'pending'"
            wait_for(
                lambda reached=reached, program=program: place.value(reached) or program.poll() is not None,  # type: ignore[misc]
                what=f"step {number}",
            )
            assert program.poll() is None, program.communicate()
            time.sleep(0.05 * (number % 3))
            program.kill()
            program.wait()
            command = ["reset", "--resume", "--playbook", "reembed.yaml"]
        done = place.ragops(*command, "--json")
        assert done.code == 0, done.err
        assert {step["status"] for step in done.json["steps"]} == {"done"}
    done = place.ragops("cutover", "run", "--json")
    assert done.code == 0, done.err
    assert application.errors == []
    assert application.writes > 50
    assert place.rows(WRONG.format(column="embedding")) == []
    assert dict(place.rows("SELECT id, title FROM kb.articles")) == application.titles
    assert place.value(notes) == before
    assert place.value(
        "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'kb.articles'::regclass AND attname = 'embedding'"
    )
