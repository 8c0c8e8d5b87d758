"""Room: shared memory that is too small, and a disk that is full."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_corpus
from fault_fixtures import (
    DOCUMENTS,
    RESET,
    assert_nothing_burnt,
    assert_stored_once,
    ended,
    lines_until,
)
from own_server import OwnServer, can_mount, running_server, small_disk
from pg_frames import Frame
from tcp_proxy import Break, Link, running_proxy, runs
from workplace import Workplace, open_workplace

CANNOT_MOUNT = "only root of a Linux machine may mount a small file system"
SHARED_MEMORY_MIB = 32
# Documents of several KiB, so that a small disk is full before all of them are stored.
LONG = "index vector query table row page lock plan cost scan join sort hash " * 150


@pytest.fixture
def place_of_little_shared_memory(tiny_model: Path, tmp_path: Path) -> Iterator[Workplace]:
    """A server in whose `/dev/shm` a parallel build does not fit, whatever the machine has."""
    corpus = write_corpus(tmp_path / "corpus", DOCUMENTS)
    with running_server(min_parallel_table_scan_size=0, max_parallel_maintenance_workers=2) as server:
        server.stop()
        # A mount in a namespace of its own: nothing else sees it, and it ends with the server.
        mounts = f'mount -t tmpfs -o size={SHARED_MEMORY_MIB}m,mode=1777 tmpfs /dev/shm && exec "$@"'
        server.prefix = ("unshare", "--mount", "sh", "-c", mounts, "sh")
        server.start()
        server.prefix = ()
        with (
            server.database() as dsn,
            open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=20, index_after=40) as place,
        ):
            yield place


@pytest.mark.fault(20)
@pytest.mark.skipif(not can_mount(), reason=CANNOT_MOUNT)
def test_shared_memory_that_is_too_small_is_not_the_disk(place_of_little_shared_memory: Workplace) -> None:
    place = place_of_little_shared_memory
    reset = place.ragops(*RESET)
    assert reset.code == 0, reset.err
    assert place.ragops("index", "drop", "--yes", "--json").code == 0
    asked = ("--maintenance-work-mem", "64MB", "--parallel-workers", "1")
    for how in ((), ("--concurrently",)):
        done = place.ragops("index", "rebuild", *asked, *how, "--json")
        assert done.code == 0, done.err
        assert "the disk is not full" in done.err
        assert "going on without parallel workers" in done.err
        assert [is_valid for *_, is_valid in place.index_definitions()] == [True, True]
        assert place.ragops("index", "drop", "--yes", "--json").code == 0


@pytest.fixture
def full_place(own_server: OwnServer, own_place: Workplace) -> Iterator[tuple[Workplace, Path]]:
    """Documents and chunks on a small disk, and a file that takes its room away while it is there."""
    with small_disk(own_server.folder.parent / "disk", mebibytes=12) as disk:
        subprocess.run(["chown", f"{own_server.user}:", disk], check=True)
        own_place.execute(
            f"CREATE TABLESPACE small LOCATION '{disk}'",
            "ALTER TABLE documents SET TABLESPACE small",
            "ALTER TABLE document_chunks SET TABLESPACE small",
        )
        try:
            yield own_place, disk / "filler"
        finally:
            own_place.close()
            own_place.execute(
                "DROP TABLE documents, document_chunks CASCADE", "CHECKPOINT", "DROP TABLESPACE small"
            )


def fill(filler: Path) -> None:
    """Take all the room that a disk has left."""
    with filler.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(8192))


@pytest.mark.fault(21)
@pytest.mark.skipif(not can_mount(), reason=CANNOT_MOUNT)
@pytest.mark.parametrize(
    "statement",
    [r"COPY .*documents", pytest.param(r"CREATE INDEX", marks=pytest.mark.slow)],
    ids=["store", "build"],
)
def test_a_full_disk_pauses_the_campaign(full_place: tuple[Workplace, Path], statement: str) -> None:
    place, filler = full_place
    for number, file in enumerate(sorted((place.folder / "corpus").rglob("*.txt"))):
        file.write_text(f"note {number} {LONG}", encoding="utf-8")

    def fill_once(link: Link, frame: Frame) -> Break | None:
        # Once something is stored, from which the rest can be estimated.
        if not filler.exists() and runs(frame, statement) and place.completed() > 0:
            fill(filler)
        return None

    with running_proxy(place.dsn) as proxy:
        proxy.rule = fill_once
        process = place.start(*RESET, RAGOPS_DSN=proxy.dsn())
        said = lines_until(process, "the server's disk is full")
        assert "MiB more" in said
        stored = place.completed()
        assert place.value("SELECT count(*) FROM documents") == stored < DOCUMENTS
        assert process.poll() is None
        proxy.rule = None
        filler.unlink()
        done = ended(process)
    assert done.code == 0, said + done.err
    assert (done.json["status"], done.json["verdict"]) == ("done", "pass")
    assert_stored_once(place)
    assert_nothing_burnt(place)
    assert [is_valid for *_, is_valid in place.index_definitions()] == [True, True]
