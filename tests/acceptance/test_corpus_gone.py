"""A corpus that disappears ends the run, and no document fails for it; deleted documents fail, each alone."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_for, write_corpus
from workplace import Finished, Workplace, stored_documents

from ragops.workers.missing import LIMIT

DOCUMENTS = 120
FAILED = "SELECT file_path, last_error FROM files_queue WHERE status = 'failed' ORDER BY 1"


@pytest.fixture
def corpus(place: Workplace) -> Path:
    """The corpus of a queue that is filled."""
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == DOCUMENTS
    return Path(place.variables["RAGOPS_CORPUS"])


def files(corpus: Path) -> list[Path]:
    return sorted(file for file in corpus.rglob("*") if file.is_file())


def delete_all(corpus: Path) -> None:
    """`find corpus -type f -delete`"""
    for file in files(corpus):
        file.unlink()


def embed(place: Workplace, *arguments: str) -> Finished:
    return place.ragops("embed", "--json", *arguments)


def assert_gone(place: Workplace, done: Finished, corpus: Path, *, completed: int = 0) -> None:
    assert done.code == 1, done.err
    assert f"the documents of {corpus} are gone" in done.err
    assert "ragops reset --resume" in done.err
    left = {"completed": completed, "pending": DOCUMENTS - completed}
    assert place.queue() == {status: number for status, number in left.items() if number}


def assert_goes_on(place: Workplace, corpus: Path) -> None:
    write_corpus(corpus, DOCUMENTS)
    done = embed(place)
    assert done.code == 0, done.err
    assert place.queue() == {"completed": DOCUMENTS}
    assert len(stored_documents(place)) == DOCUMENTS


@pytest.mark.fault(31)
@pytest.mark.parametrize("keeps_folders", [True, False], ids=["find-delete", "empty mount point"])
def test_a_corpus_that_is_gone_before_the_run(place: Workplace, corpus: Path, keeps_folders: bool) -> None:
    if keeps_folders:
        delete_all(corpus)
    else:
        shutil.rmtree(corpus)
        corpus.mkdir()
    done = embed(place)
    assert_gone(place, done, corpus)
    assert f"{LIMIT} in a row do not exist, nor does any in a sample of the queue" in done.err
    assert_goes_on(place, corpus)


def test_a_corpus_that_is_gone_in_mid_run(place: Workplace, corpus: Path) -> None:
    place.slow_down(0.05)
    process = place.start("embed", "--json", "--batch-size", "2")
    wait_for(lambda: place.completed() >= 4, what="the first documents")
    delete_all(corpus)
    out, err = process.communicate(timeout=120)
    completed = place.completed()
    assert 4 <= completed < DOCUMENTS - LIMIT, err
    assert_gone(place, Finished(process.returncode, out, err), corpus, completed=completed)
    assert f"{LIMIT} in a row do not exist, nor does part" in err
    assert "which was read before" in err
    assert place.value("SELECT count(*) FROM documents") == completed
    place.speed_up()
    assert_goes_on(place, corpus)


def test_a_campaign_stops_and_goes_on_when_the_corpus_is_back(place: Workplace) -> None:
    corpus = Path(place.variables["RAGOPS_CORPUS"])
    place.slow_down(0.05)
    process = place.start("reset", "--playbook", "realign.yaml", "--yes", "--batch-size", "2")
    wait_for(lambda: place.completed() >= 4, what="the first documents")
    delete_all(corpus)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert f"the documents of {corpus} are gone" in err
    assert "failed" not in place.queue()
    assert "processing" not in place.queue()
    write_corpus(corpus, DOCUMENTS)
    place.speed_up()
    done = place.ragops("reset", "--resume", "--json")
    assert done.code == 0, done.err
    assert (done.json["completed"], done.json["failed"], done.json["verdict"]) == (DOCUMENTS, 0, "pass")


def test_a_corpus_folder_that_is_missing(place: Workplace, corpus: Path) -> None:
    shutil.rmtree(corpus)
    done = embed(place)
    assert done.code == 1, done.err
    assert "the corpus folder no longer exists" in done.err
    assert str(corpus) in done.err
    assert place.queue() == {"pending": DOCUMENTS}
    assert_goes_on(place, corpus)


def test_a_small_corpus_that_is_gone(place: Workplace) -> None:
    corpus = write_corpus(place.folder / "small", 3)
    place.variables["RAGOPS_CORPUS"] = str(corpus)
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == 3
    delete_all(corpus)
    done = embed(place)
    assert done.code == 1, done.err
    assert "3 in a row do not exist" in done.err
    assert place.queue() == {"pending": 3}


@pytest.mark.parametrize("batch_size", ["1", "100"])
def test_some_deleted_documents_fail_alone(place: Workplace, corpus: Path, batch_size: str) -> None:
    gone = [str(file.relative_to(corpus)) for file in files(corpus)[::5]]
    for name in gone:
        (corpus / name).unlink()
    done = embed(place, "--batch-size", batch_size)
    assert done.code == 0, done.err
    assert place.rows(FAILED) == [(name, "no such file") for name in gone]
    assert place.queue() == {"completed": DOCUMENTS - len(gone), "failed": len(gone)}


@pytest.mark.parametrize("kept", [0, DOCUMENTS - 1], ids=["the first is left", "the last is left"])
def test_many_deleted_documents_fail_while_one_is_there(place: Workplace, corpus: Path, kept: int) -> None:
    for file in [file for number, file in enumerate(files(corpus)) if number != kept]:
        file.unlink()
    # A sample of 50 out of 120 may miss the one.
    few = "SELECT id FROM files_queue ORDER BY id OFFSET 30 LIMIT 75"
    place.execute(f"DELETE FROM files_queue WHERE id IN ({few})")
    done = embed(place)
    assert done.code == 0, done.err
    assert place.queue() == {"completed": 1, "failed": 44}


def test_the_end_of_a_queue_that_is_deleted(place: Workplace, corpus: Path) -> None:
    """Nothing is read in the second run: the documents of the first one show that the corpus is there."""
    assert embed(place, "--until", "60").code == 0
    done = place.rows("SELECT file_path FROM files_queue WHERE status = 'completed'")
    for file in files(corpus):
        if (str(file.relative_to(corpus)),) not in done:
            file.unlink()
    again = embed(place)
    assert again.code == 0, again.err
    assert place.queue() == {"completed": 60, "failed": 60}


def test_a_document_replaced_by_a_folder_and_a_folder_by_a_file(place: Workplace, corpus: Path) -> None:
    document = files(corpus / "part1")[0]
    document.unlink()
    document.mkdir()
    shutil.rmtree(corpus / "part2")
    (corpus / "part2").write_text("no folder any more")
    assert embed(place).code == 0
    failed = dict(place.rows(FAILED))
    assert failed.pop(str(document.relative_to(corpus))) == "a folder, not a regular file"
    assert {(name.split("/")[0], reason) for name, reason in failed.items()} == {("part2", "not a folder: part2")}
    assert place.queue() == {"completed": DOCUMENTS - len(failed) - 1, "failed": len(failed) + 1}


def test_a_stop_while_documents_wait_for_their_judgement(place: Workplace, corpus: Path) -> None:
    """They have not failed, and go back to the queue."""
    for file in files(corpus)[10:]:
        file.unlink()
    place.slow_down(0.5)
    process = place.start("embed", "--json", "--batch-size", "1")
    wait_for(lambda: place.completed() >= 2, what="the first documents")
    for file in files(corpus):
        file.unlink()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert set(place.queue()) <= {"completed", "pending"}


class Rows:
    """A queue of the rows of a table."""

    def __init__(self, place: Workplace) -> None:
        place.execute(
            "CREATE TABLE texts (id int PRIMARY KEY, body text)",
            f"INSERT INTO texts SELECT n, 'the text of row ' || n FROM generate_series(1, {DOCUMENTS}) n",
        )
        (place.folder / "rows.yaml").write_text(
            "version: 1\nname: rows\nsource: {table: texts, id_column: id, text_column: body}\n"
            f"model: {{file: '{place.variables['RAGOPS_MODEL']}'}}\nsteps: [{{step: embed}}]\n",
            encoding="utf-8",
        )
        seeded = place.ragops("queue", "reseed", "-p", "rows.yaml", "--json")
        assert seeded.json["seeded"] == DOCUMENTS, seeded.err
        self._place = place

    def embed(self) -> Finished:
        return embed(self._place, "-p", "rows.yaml")


@pytest.fixture
def rows(place: Workplace) -> Iterator[Rows]:
    yield Rows(place)


def test_an_emptied_source_table(place: Workplace, rows: Rows) -> None:
    place.execute("CREATE TABLE saved AS TABLE texts", "TRUNCATE texts")
    done = rows.embed()
    assert done.code == 1, done.err
    assert f"are gone: {LIMIT} in a row do not exist" in done.err
    assert "restore its rows" in done.err
    assert place.queue() == {"pending": DOCUMENTS}
    place.execute("INSERT INTO texts TABLE saved")
    assert rows.embed().code == 0
    assert place.queue() == {"completed": DOCUMENTS}


def test_a_dropped_source_table(place: Workplace, rows: Rows) -> None:
    place.execute("DROP TABLE texts")
    done = rows.embed()
    assert done.code == 1, done.err
    assert 'relation "texts" does not exist' in done.err
    assert "no document was failed for it" in done.err
    assert place.queue() == {"pending": DOCUMENTS}


def test_some_deleted_rows_fail_alone(place: Workplace, rows: Rows) -> None:
    place.execute("DELETE FROM texts WHERE id % 10 = 0")
    assert rows.embed().code == 0
    assert place.queue() == {"completed": 108, "failed": 12}
    assert place.value("SELECT DISTINCT last_error FROM files_queue WHERE status = 'failed'") == (
        "no such row in the source"
    )
