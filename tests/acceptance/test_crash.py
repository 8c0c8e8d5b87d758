"""A controller that is killed: the next one goes on, and the result is that of an undisturbed run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import Server, fresh_database, wait_for, write_corpus
from workplace import Stored, Workplace, assert_same_documents, open_workplace, stored_documents

DOCUMENTS = 120


@pytest.fixture(scope="module")
def undisturbed(pg18: Server, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stored]:
    """What a run that nothing disturbs stores."""
    folder = tmp_path_factory.mktemp("undisturbed")
    corpus = write_corpus(folder / "corpus", DOCUMENTS)
    with (
        fresh_database(pg18, template="ragops_template") as dsn,
        open_workplace(folder, dsn=dsn, corpus=corpus, model=tiny_model, gate=20, index_after=40) as place,
    ):
        done = place.reset()
        assert done.code == 0, done.err
        return stored_documents(place)


@pytest.fixture
def filled(place: Workplace) -> Iterator[Workplace]:
    """A database that holds 15 documents of an earlier campaign."""
    write_corpus(place.folder / "earlier", 15)
    done = place.reset(RAGOPS_CORPUS=str(place.folder / "earlier"))
    assert done.code == 0, done.err
    yield place


def resume(place: Workplace) -> None:
    done = place.ragops("reset", "--resume", "--json")
    assert done.code == 0, done.err
    assert (done.json["status"], done.json["verdict"]) == ("done", "pass")
    assert (done.json["seeded"], done.json["completed"], done.json["failed"]) == (DOCUMENTS, DOCUMENTS, 0)
    assert {step["status"] for step in done.json["steps"]} == {"done"}


@pytest.mark.fault(1)
def test_killed_while_embedding(place: Workplace, undisturbed: dict[str, Stored]) -> None:
    place.slow_down(0.02)
    controller = place.start("reset", "--playbook", "realign.yaml", "--yes", "--workers", "3")
    wait_for(lambda: 50 <= place.completed() < DOCUMENTS, what="half of the documents")
    controller.kill()
    controller.wait()
    completed = place.completed()
    assert completed < DOCUMENTS
    assert place.value("SELECT count(*) FROM documents") == completed
    place.speed_up()
    resume(place)
    assert place.queue() == {"completed": DOCUMENTS}
    assert_same_documents(stored_documents(place), undisturbed)
    assert all(is_valid for *_, is_valid in place.index_definitions())


@pytest.mark.slow
def test_killed_again_and_again(place: Workplace, undisturbed: dict[str, Stored]) -> None:
    place.slow_down(0.02)
    place.start("reset", "--playbook", "realign.yaml", "--yes")
    for number in (10, 45, 80):
        wait_for(lambda number=number: place.completed() >= number, what=f"{number} documents")  # type: ignore[misc]
        place.running[-1].kill()
        place.running[-1].wait()
        place.start("reset", "--resume", "--json")
    place.speed_up()
    out, err = place.running[-1].communicate(timeout=120)
    assert place.running[-1].returncode == 0, err
    assert '"status": "done"' in out
    assert_same_documents(stored_documents(place), undisturbed)


@pytest.mark.fault(15)
def test_a_reader_that_blocks_is_named_and_waited_for(filled: Workplace) -> None:
    with psycopg.connect(filled.dsn, application_name="a reader") as reader:
        reader.execute("SELECT count(*) FROM documents")
        controller = filled.start("reset", "--playbook", "realign.yaml", "--yes")
        assert controller.stderr is not None
        notice = next(line for line in controller.stderr if line.startswith("waiting for a lock"))
    assert "a reader" in notice
    _, err = controller.communicate(timeout=120)
    assert controller.returncode == 0, err
    assert filled.queue() == {"completed": DOCUMENTS}
