"""What the tests of faults share: a proxy, a server of their own, changed playbooks, and what must hold after."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from conftest import wait_for, write_corpus
from own_server import OwnServer, running_server
from stub_child import stub_command
from tcp_proxy import TcpProxy, running_proxy
from workplace import Finished, Workplace, open_workplace, stored_documents

DOCUMENTS = 120
RESET = ("reset", "--playbook", "realign.yaml", "--yes", "--json")
SHIPPED = Path(__file__).parents[1] / "playbooks/realign.yaml"
STARTED = "SELECT 1 FROM ragops.campaign WHERE status = 'running'"
TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE application_name LIKE 'ragops%' AND datname = current_database()
"""
CAN_STOP = hasattr(signal, "SIGSTOP")


@pytest.fixture
def proxy(place: Workplace) -> Iterator[TcpProxy]:
    """A proxy in front of the workplace's database; the program goes through it, the test's own looks do not."""
    with running_proxy(place.dsn) as running:
        place.variables["RAGOPS_DSN"] = running.dsn()
        yield running


@pytest.fixture(scope="session")
def own_server() -> Iterator[OwnServer]:
    """A server that tests may stop; each starts it again."""
    with running_server() as server:
        yield server


@pytest.fixture
def own_place(own_server: OwnServer, tiny_model: Path, tmp_path: Path) -> Iterator[Workplace]:
    """120 documents and a fresh database on the server that may be stopped, gates at 20 and 40."""
    corpus = write_corpus(tmp_path / "corpus", DOCUMENTS)
    with (
        own_server.database() as dsn,
        open_workplace(tmp_path, dsn=dsn, corpus=corpus, model=tiny_model, gate=20, index_after=40) as place,
    ):
        yield place


def write_playbook(place: Workplace, name: str = "changed.yaml", **changes: str) -> str:
    """Write realign.yaml with more keys at the beginning of its sections: `workers="lease_s: 2"`."""
    text = SHIPPED.read_text(encoding="utf-8")
    for section, keys in changes.items():
        assert text.count(f"\n{section}:\n") == 1, section
        # A key that the section has already is replaced.
        for line in keys.splitlines():
            key = line.split(":")[0]
            text = "\n".join(known for known in text.split("\n") if not known.startswith(f"  {key}: "))
        added = "".join(f"  {line}\n" for line in keys.splitlines())
        text = text.replace(f"\n{section}:\n", f"\n{section}:\n{added}")
    (place.folder / name).write_text(text, encoding="utf-8")
    return name


def fill_queue(place: Workplace, *, documents: int = DOCUMENTS) -> None:
    done = place.ragops("queue", "reseed", "--json")
    assert done.code == 0, done.err
    assert done.json["seeded"] == documents


def ended(process: subprocess.Popen[str], *, timeout_s: float = 240) -> Finished:
    """Wait for a program that was started."""
    out, err = process.communicate(timeout=timeout_s)
    return Finished(process.returncode, out, err)


def lines_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what a running program says until a line matches; its end before that fails the test."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if re.search(pattern, line):
            return said
    pytest.fail(f"the program ended and never said {pattern!r}:\n{said}")


def terminate_all(dsn: str) -> int:
    """Terminate every backend of ragops in this database; returns how many there were."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        row = admin.execute(TERMINATE).fetchone()
    assert row is not None
    return int(row[0])


def assert_stored_once(place: Workplace, documents: int = DOCUMENTS) -> None:
    """Every document is completed and stored exactly once, with its chunks and metrics."""
    assert place.queue() == {"completed": documents}
    assert len(stored_documents(place)) == documents
    joined = "FROM documents d JOIN files_queue q ON q.id = d.file_id AND q.file_path = d.file_path"
    assert place.value(f"SELECT count(DISTINCT q.id) {joined}") == documents
    assert place.value("SELECT count(*) FROM parsed_files") == documents
    assert place.value("SELECT count(DISTINCT document_id) FROM document_chunks") == documents
    assert place.value("SELECT sum(documents) FROM ingestion_metrics") == documents


def assert_nothing_burnt(place: Workplace) -> None:
    """An outage costs no attempt."""
    assert place.value("SELECT max(attempts) FROM files_queue") == 0


def assert_consistent(place: Workplace) -> None:
    """Vectors are there if and only if their item is completed."""
    assert place.value("SELECT count(*) FROM documents") == place.completed()
    stored_documents(place)


PYTHON = """#!{python}
import os, sys
stands_in = sys.argv[1:2] and os.path.basename(sys.argv[1]) == "child.py" and {command!r}
os.execv({python!r}, list(stands_in) if stands_in else [{python!r}, *sys.argv[1:]])
"""


def stub_interpreter(folder: Path, *arguments: str) -> str:
    """An interpreter of the workers whose embedder child is the stub that a document's text drives."""
    program = folder / "-".join(["worker-python", *(argument.split("=")[0] for argument in arguments)])
    program.write_text(PYTHON.format(python=sys.executable, command=stub_command(*arguments)), encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def embedders_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The embedder children of a program that have loaded their model, tokenisers left out."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "child.py" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def kill(process: subprocess.Popen[str]) -> None:
    """K9, and wait for its end."""
    process.kill()
    process.communicate(timeout=60)


def wait_while_running(
    process: subprocess.Popen[str], condition: Callable[[], bool], *, what: str, timeout_s: float = 60.0
) -> None:
    """Wait for a condition that a running program brings about; its end before that fails the test."""

    def has_come() -> bool:
        if condition():
            return True
        if process.poll() is not None:
            _, err = process.communicate()
            pytest.fail(f"the program ended with exit code {process.returncode} before {what}:\n{err}")
        return False

    wait_for(has_come, timeout_s=timeout_s, what=what)


def wait_for_documents(place: Workplace, process: subprocess.Popen[str], number: int) -> None:
    """Wait until a running program has stored so many documents."""
    wait_while_running(process, lambda: place.completed() >= number, what=f"{number} documents are stored")
