"""Processes that are killed, stopped, hang or crash: the work is done again, once."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest
from conftest import wait_for, write_corpus
from fault_fixtures import (
    CAN_STOP,
    DOCUMENTS,
    RESET,
    assert_consistent,
    assert_stored_once,
    embedders_of,
    ended,
    fill_queue,
    kill,
    lines_until,
    stub_interpreter,
    wait_for_documents,
    wait_while_running,
    write_playbook,
)
from pg_frames import Frame
from tcp_proxy import Break, How, Link, Rule, TcpProxy
from workplace import Workplace

GOOD = 40
BLOCKED = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode LIKE 'Access%'"


@pytest.mark.fault(1)
def test_an_embedder_that_is_killed_costs_no_document(place: Workplace) -> None:
    fill_queue(place)
    place.slow_down(0.02)
    process = place.start("embed", "--workers", "2", "--batch-size", "10", "--json")
    for number in (10, 40):
        wait_for_documents(place, process, number)
        for child in embedders_of(process):
            child.kill()
    place.speed_up()
    done = ended(process)
    assert done.code == 0, done.err
    assert (done.json["completed"], done.json["failed"]) == (DOCUMENTS, 0)
    assert_stored_once(place)


def killing(victims: list[subprocess.Popen[str]], *, at: int) -> Rule:
    """Kill the last of the victims after `at` bytes of the rows of a COPY."""

    def rule(link: Link, frame: Frame) -> Break | None:
        if frame.from_server or frame.tag != b"d" or link.copied - len(frame.body) > at:
            return None
        victims[-1].kill()
        return Break(How.CLOSE, after=at)

    return rule


@pytest.mark.slow
@pytest.mark.fault(2)
def test_killed_inside_a_copy(place: Workplace, proxy: TcpProxy) -> None:
    fill_queue(place)
    running: list[subprocess.Popen[str]] = []
    # Before the first byte of the rows, inside the first of them, and in the middle of the block.
    for at in (0, 40, 1500):
        stored = place.completed()
        proxy.rule = killing(running, at=at)
        running.append(place.start("embed", "--batch-size", "10"))
        done = ended(running[-1])
        proxy.rule = None
        assert done.code == -signal.SIGKILL, done.err
        assert place.completed() == stored
        assert_consistent(place)
    finished = place.ragops("embed", "--json")
    assert finished.code == 0, finished.err
    assert_stored_once(place)


@pytest.mark.fault(4)
@pytest.mark.skipif(not CAN_STOP, reason="processes cannot be stopped on this system")
def test_a_zombie_that_wakes_after_its_lease_stores_nothing(place: Workplace, tmp_path: Path) -> None:
    fill_queue(place)
    playbook = write_playbook(place, workers="lease_s: 2")
    gate = tmp_path / "gate"
    waits = stub_interpreter(tmp_path, f"hold={gate}")
    # It has claimed, and its children answer once the gate opens: it can store nothing yet.
    zombie = place.start("embed", "-p", playbook, "--json", RAGOPS_WORKER_PYTHON=waits)
    wait_while_running(zombie, lambda: place.queue().get("processing", 0) > 0, what="a claim")
    zombie.send_signal(signal.SIGSTOP)
    other = place.ragops("embed", "-p", playbook, "--json", RAGOPS_WORKER_PYTHON=stub_interpreter(tmp_path))
    assert other.code == 0, other.err
    assert other.json["completed"] == DOCUMENTS
    gate.touch()
    zombie.send_signal(signal.SIGCONT)
    done = ended(zombie)
    assert done.code == 0, done.err
    assert "batch dropped" in done.err
    assert done.json["completed"] == 0
    assert_stored_once(place)


@pytest.mark.fault(5)
def test_killed_in_a_truncation_and_another_starts_at_once(place: Workplace) -> None:
    write_corpus(place.folder / "earlier", 15)
    earlier = place.reset(RAGOPS_CORPUS=str(place.folder / "earlier"))
    assert earlier.code == 0, earlier.err
    with psycopg.connect(place.dsn) as reader:
        reader.execute("SELECT count(*) FROM document_chunks")
        reader.execute("SELECT count(*) FROM parsed_files")
        killed = place.start(*RESET)
        wait_for(lambda: place.value(BLOCKED) > 0, what="a lock that is waited for")
        kill(killed)
        assert place.value("SELECT count(*) FROM documents") == 15
        resumed = place.start("reset", "--resume", "--json")
        # It waits for the transaction of the dead one, or finds that the server has ended it already.
        said = lines_until(resumed, r"(taking|took) campaign \d+ over")
    done = ended(resumed)
    taken = next(line for line in (said + done.err).splitlines() if line.startswith("took campaign 2 over from"))
    assert socket.gethostname() in taken
    assert str(killed.pid) in taken
    assert done.code == 0, said + done.err
    assert (done.json["status"], done.json["verdict"]) == ("done", "pass")
    assert_stored_once(place)


def broken_corpus(place: Workplace, *texts: str) -> None:
    """`GOOD` documents, and some that drive the stub."""
    corpus = write_corpus(place.folder / "mixed", GOOD)
    for number, text in enumerate(texts):
        (corpus / f"bad{number}.txt").write_text(text, encoding="utf-8")
    place.variables["RAGOPS_CORPUS"] = str(corpus)
    fill_queue(place, documents=GOOD + len(texts))


def reasons(place: Workplace) -> dict[str, str]:
    return dict(place.rows("SELECT file_path, last_error FROM files_queue WHERE status = 'failed'"))


@pytest.mark.fault(25, 27, 29)
def test_what_a_document_does_to_the_embedder_fails_that_document_alone(place: Workplace, tmp_path: Path) -> None:
    """It returns broken vectors, crashes, or hangs; each level of a bisected request costs a deadline then."""
    texts = {
        "NAN": "NaN",
        "INF": "Inf at",
        "ZERO": "zero vector",
        "POISON": "SIGABRT",
        "HANG": "no response",
        "WIDE": "132 bytes for 1 vectors of 32",
    }
    broken_corpus(place, *(f"this one makes {word} of it" for word in texts))
    playbook = write_playbook(place, workers="request_deadline_s: 2")
    done = place.ragops("embed", "-p", playbook, "--json", RAGOPS_WORKER_PYTHON=stub_interpreter(tmp_path))
    assert done.code == 0, done.err
    assert (done.json["completed"], done.json["failed"], done.json["pending"]) == (GOOD, len(texts), 0)
    found = reasons(place)
    assert found.keys() == {f"bad{number}.txt" for number in range(len(texts))}
    for number, reason in enumerate(texts.values()):
        assert reason in found[f"bad{number}.txt"], found
    assert "restarting it" in done.err
    assert_consistent(place)
    assert place.value("SELECT count(*) FROM files_queue WHERE status = 'completed' AND attempts > 0") == 0


@pytest.mark.fault(28)
def test_a_child_that_every_document_crashes_stops_the_run(place: Workplace, tmp_path: Path) -> None:
    broken_corpus(place)
    done = place.ragops("embed", "--json", RAGOPS_WORKER_PYTHON=stub_interpreter(tmp_path, "illegal"))
    assert done.code == 1
    assert "SIGILL" in done.json["error"]["what"]
    assert "next:" in done.err
    assert place.queue().get("failed", 0) <= 3
    assert "processing" not in place.queue()
    assert place.value("SELECT count(*) FROM documents") == 0
    # The next command goes on where the embedder is a good one.
    if "failed" in place.queue():
        assert place.ragops("queue", "retry", "--json").code == 0
    again = place.ragops("embed", "--json", RAGOPS_WORKER_PYTHON=stub_interpreter(tmp_path))
    assert again.code == 0, again.err
    assert_stored_once(place, GOOD)
