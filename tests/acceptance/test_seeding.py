"""Two commands that fill one queue at once; a corpus that was queued twice; a queue that others work on."""

from __future__ import annotations

import re

import psycopg
from conftest import wait_for
from workplace import Workplace

FILL = ("queue", "reseed", "--playbook", "realign.yaml", "--json")
REPEATED = "SELECT count(*) - count(DISTINCT file_path) FROM files_queue"
# Every row takes its time, so that the other command comes while the first one fills.
SLOW_FILL = (
    "CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$",
    "CREATE TRIGGER take_time BEFORE INSERT ON files_queue FOR EACH ROW EXECUTE FUNCTION take_time()",
)


def test_of_two_that_fill_the_queue_at_once_one_is_refused(place: Workplace) -> None:
    place.execute(*SLOW_FILL)
    both = [place.start(*FILL) for _ in range(2)]
    ended = [(process.communicate(timeout=120), process.returncode) for process in both]
    assert sorted(code for _, code in ended) == [0, 1], ended
    (refused,) = (err for (_, err), code in ended if code)
    assert "the queue is not empty" in refused
    assert (place.queue(), place.value(REPEATED)) == ({"pending": 120}, 0)


def test_of_two_that_append_at_once_each_location_is_queued_once(place: Workplace) -> None:
    place.execute(*SLOW_FILL)
    both = [place.start(*FILL, "--append") for _ in range(2)]
    ended = [(process.communicate(timeout=120), process.returncode) for process in both]
    assert [code for _, code in ended] == [0, 0], ended
    assert sorted(int(re.findall(r'"seeded": (\d+)', out)[0]) for (out, _), _ in ended) == [0, 120]
    assert (place.queue(), place.value(REPEATED)) == ({"pending": 120}, 0)


def test_who_holds_the_queue_is_named(place: Workplace) -> None:
    with psycopg.connect(place.dsn, application_name="legacy") as other:
        other.execute("LOCK TABLE files_queue IN ROW EXCLUSIVE MODE")
        filling = place.start(*FILL)
        assert filling.stderr is not None
        line = filling.stderr.readline()
        other.rollback()
    _, err = filling.communicate(timeout=120)
    assert re.match(r"waiting for a lock on public.files_queue: pid \d+ \(legacy\)", line), (line, err)
    assert (filling.returncode, place.queue()) == (0, {"pending": 120})


def test_a_corpus_that_was_queued_twice_does_not_pass(place: Workplace) -> None:
    assert place.ragops(*FILL).code == 0
    place.execute(
        "INSERT INTO files_queue (file_path, status, attempts, phase)"
        " SELECT file_path, status, attempts, phase FROM files_queue"
    )
    assert place.ragops("embed", "--playbook", "realign.yaml").code == 0
    judged = place.ragops("validate", "--playbook", "realign.yaml", "--json")
    checks = {check["id"]: check for check in judged.json["checks"]}
    assert (judged.code, judged.json["verdict"]) == (3, "fail")
    assert checks["queue_locations_unique"]["measured"] == "120 locations are queued more than once"
    assert checks["documents_paths_unique"]["measured"] == "120 documents have the path of another one"
    assert checks["documents"]["status"] == "pass"


def test_what_another_program_left_is_released(place: Workplace) -> None:
    assert place.ragops(*FILL).code == 0
    place.execute("UPDATE files_queue SET status = 'processing' WHERE id <= 3")
    embedding = place.start("embed", "--playbook", "realign.yaml")
    wait_for(lambda: place.completed() == 117, what="the other items")
    released = place.ragops("queue", "release", "--json")
    assert (released.code, released.json) == (0, {"released": 3})
    _, err = embedding.communicate(timeout=120)
    assert (embedding.returncode, place.queue()) == (0, {"completed": 120})
    assert "3 items are in process without a lease or claim" in err
    assert place.ragops("queue", "release").out.strip() == "0 items are pending again"
