"""Clocks that jump, processes that sleep, transactions that are old: only liveness depends on time."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import wait_for, write_corpus
from fault_fixtures import (
    CAN_STOP,
    DOCUMENTS,
    RESET,
    assert_nothing_burnt,
    assert_stored_once,
    ended,
    fill_queue,
    wait_for_documents,
    write_playbook,
)
from own_server import OwnServer, running_server
from pg_frames import Frame
from tcp_proxy import Break, Link, running_proxy, runs
from workplace import Workplace, open_workplace

MANY = 400


def find_libfaketime() -> Path | None:
    """The library of the package `faketime`, which `faketime -f` would preload."""
    if shutil.which("faketime") is None:
        return None
    return next(
        (path for root in ("/usr/lib", "/usr/local/lib") for path in Path(root).rglob("libfaketime.so.1")), None
    )


LIBRARY = find_libfaketime()
needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed (package faketime)")


class Clock:
    """The clock of a server, which a test may set; what measures durations goes on as it is."""

    def __init__(self, server: OwnServer) -> None:
        self._file = server.folder.parent / "clock"
        self.set("+0")
        # The server has a user of its own.
        self._file.chmod(0o644)

    def set(self, offset: str) -> None:
        """Let it show another time: `+3d`, `-1h`."""
        # In one step: a process that reads it meanwhile would find no offset at all.
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset}\n", encoding="ascii")
        fresh.chmod(0o644)
        fresh.replace(self._file)

    @property
    def variables(self) -> tuple[str, ...]:
        return (
            f"LD_PRELOAD={LIBRARY}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        )


@pytest.fixture(scope="module")
def clocked_server() -> Iterator[tuple[OwnServer, Clock]]:
    with running_server() as server:
        server.stop()
        clock = Clock(server)
        server.variables = clock.variables
        server.start()
        yield server, clock


@pytest.fixture
def clocked(
    clocked_server: tuple[OwnServer, Clock], tiny_model: Path, tmp_path: Path
) -> Iterator[tuple[Workplace, Clock]]:
    """120 documents on a server whose clock may be set."""
    server, clock = clocked_server
    corpus = write_corpus(tmp_path / "corpus", DOCUMENTS)
    with (
        server.database() as dsn,
        open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=20, index_after=40) as place,
    ):
        yield place, clock
        clock.set("+0")


@needs_faketime
@pytest.mark.fault(40)
def test_the_server_s_clock_jumps_forth_and_back(clocked: tuple[Workplace, Clock]) -> None:
    """Every lease ends at once, and then none for days, between any two claims and stores."""
    place, clock = clocked
    jumps: list[str] = []

    def jump(link: Link, frame: Frame) -> Break | None:
        if runs(frame, r"(?s)COPY .*documents|UPDATE .*files_queue.*SKIP LOCKED"):
            jumps.append(("+3d", "-3d", "+1h", "+0")[len(jumps) % 4])
            clock.set(jumps[-1])
        return None

    with running_proxy(place.dsn) as proxy:
        proxy.rule = jump
        done = place.ragops(*RESET, "--batch-size", "5", RAGOPS_DSN=proxy.dsn())
    assert done.code == 0, done.err
    assert len(jumps) > 8
    assert (done.json["status"], done.json["verdict"]) == ("done", "pass")
    assert_stored_once(place)
    assert_nothing_burnt(place)


@needs_faketime
@pytest.mark.fault(6, 40)
def test_a_controller_whose_clock_is_ahead_takes_nothing_over(place: Workplace) -> None:
    """Leases are the server's: a machine that believes to live next week sees that the campaign is held."""
    fill = {"LD_PRELOAD": str(LIBRARY), "FAKETIME": "+9d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    place.slow_down(0.03)
    first = place.start(*RESET)
    wait_for_documents(place, first, 5)
    second = place.ragops("reset", "--resume", "--json", **fill)
    assert second.code == 1
    assert "campaign 1 is held by" in second.json["error"]["what"]
    place.speed_up()
    done = ended(first)
    assert done.code == 0, done.err
    assert_stored_once(place)
    assert_nothing_burnt(place)


@pytest.mark.fault(40)
@pytest.mark.skipif(not CAN_STOP, reason="processes cannot be stopped on this system")
def test_a_controller_that_was_suspended_goes_on(place: Workplace) -> None:
    """Longer than its items' leases, and nobody else came: it stores what it had, or claims it again."""
    playbook = write_playbook(place, workers="lease_s: 2")
    place.slow_down(0.02)
    process = place.start("reset", "-p", playbook, "--yes", "--json")
    wait_for_documents(place, process, 30)
    process.send_signal(signal.SIGSTOP)
    expired = "SELECT count(*) FROM files_queue WHERE status = 'processing' AND lease_until > clock_timestamp()"
    wait_for(lambda: place.value(expired) == 0, what="its leases end")
    process.send_signal(signal.SIGCONT)
    place.speed_up()
    done = ended(process)
    assert done.code == 0, done.err
    assert (done.json["status"], done.json["verdict"]) == ("done", "pass")
    assert_stored_once(place)
    assert_nothing_burnt(place)


@needs_faketime
@pytest.mark.fault(24)
def test_a_long_transaction_is_named_and_slows_no_claim_down(clocked: tuple[Workplace, Clock]) -> None:
    """Every version of the queue's rows stays while it lasts: who began at the front would read them all."""
    place, clock = clocked
    corpus = write_corpus(place.folder / "many", MANY)
    place.variables["RAGOPS_CORPUS"] = str(corpus)
    fill_queue(place, documents=MANY)
    with psycopg.connect(place.dsn, application_name="a report") as report:
        report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        report.execute("SELECT count(*) FROM files_queue")
        holder = report.info.backend_pid
        clock.set("+11m")
        done = place.ragops("embed", "--workers", "1", "--batch-size", "5", "--json")
        shown = place.ragops("queue", "status")
        clock.set("+0")
    assert done.code == 0, done.err
    assert "vacuum is held back" in done.err
    assert "(a report)" in done.err
    assert f"SELECT pg_terminate_backend({holder})" in " ".join(shown.out.split())
    read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'files_queue'"
    # About 10 an item. 80 claims that each began at the front of the queue would read 16,000 entries more.
    assert place.value(read) < 25 * MANY
    assert_stored_once(place, MANY)
