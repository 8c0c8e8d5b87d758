"""Processes that somebody kills: no document is blamed, and a first start is tried again."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from conftest import wait_for
from workplace import Workplace

from ragops.embedder.starting import STARTS_AGAIN

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def test_a_parser_that_is_killed_costs_no_document(place: Workplace) -> None:
    """As the out-of-memory killer does it; the real parser reads a page of HTML in the second try."""
    corpus, started = place.folder / "html", place.folder / "started"
    corpus.mkdir()
    (corpus / "a.html").write_text("<p>Hello from a page</p>")
    real = Path(sys.modules["ragops"].__file__ or "").parent / "documents" / "parse_child.py"
    child = place.folder / "parse_child.py"
    child.write_text(
        f"import os, pathlib, runpy, sys, time\nstarted = pathlib.Path({str(started)!r})\n"
        "if not started.exists():\n"
        "    started.with_suffix('.new').write_text(str(os.getpid()))\n"
        "    started.with_suffix('.new').rename(started)\n    time.sleep(60)\n"
        f"sys.argv[0] = {str(real)!r}\nrunpy.run_path({str(real)!r}, run_name='__main__')\n"
    )
    hook = f"import pathlib\nfrom ragops.documents import parser\nparser._CHILD = pathlib.Path({str(child)!r})\n"
    (place.folder / "sitecustomize.py").write_text(hook)
    place.variables["RAGOPS_CORPUS"] = str(corpus)
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == 1
    path = os.pathsep.join([str(place.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = place.start("embed", "--json", PYTHONPATH=path)
    wait_for(started.exists, what="the parser")
    psutil.Process(int(started.read_text())).send_signal(signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert place.rows("SELECT status, last_error FROM files_queue") == [("completed", None)]
    assert place.value("SELECT content FROM documents").strip() == "Hello from a page"


def with_interpreter(place: Workplace, body: str) -> Path:
    """A playbook whose embedders run under a program that runs `body` first; returns a folder for its use."""
    folder, interpreter = place.folder / "starts", place.folder / "interpreter"
    folder.mkdir()
    interpreter.write_text(f"#!/bin/sh\ncd '{folder}'\n{body}\nexec '{sys.executable}' \"$@\"\n")
    interpreter.chmod(0o755)
    (place.folder / "other.yaml").write_text(
        f"version: 1\nname: other\nsource: {{folder: '{place.variables['RAGOPS_CORPUS']}'}}\n"
        f"model: {{file: '{place.variables['RAGOPS_MODEL']}'}}\n"
        f"workers: {{python: '{interpreter}'}}\nsteps: [{{step: embed}}]\n",
        encoding="utf-8",
    )
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == 120
    return folder


def test_a_first_start_that_is_killed_is_tried_again(place: Workplace) -> None:
    # mkdir: only one of the processes that start at once can make a folder.
    body = f"for n in $(seq {STARTS_AGAIN}); do mkdir $n 2>/dev/null && kill -KILL $$; done"
    folder = with_interpreter(place, body)
    done = place.ragops("embed", "-p", "other.yaml", "--workers", "1", "--json")
    assert done.code == 0, done.err
    assert done.err.count("embedder child did not start (ended by SIGKILL") == STARTS_AGAIN
    assert len(list(folder.iterdir())) == STARTS_AGAIN
    assert place.queue() == {"completed": 120}


@pytest.mark.parametrize(
    ("ending", "starts", "says"),
    [
        ("kill -KILL $$", 1 + STARTS_AGAIN, "killed by SIGKILL"),
        ("kill -ILL $$", 1, "killed by SIGILL"),
        ("exit 5", 1, "ended with exit status 5"),
    ],
)
def test_a_child_that_never_starts_ends_the_run(place: Workplace, ending: str, starts: int, says: str) -> None:
    folder = with_interpreter(place, f"echo >> starts; {ending}")
    done = place.ragops("fingerprint", "capture", "-p", "other.yaml")
    assert done.code == 1, done.err
    assert says in done.err
    assert len((folder / "starts").read_text().splitlines()) == starts
    assert place.ragops("embed", "-p", "other.yaml", "--json").code == 1
    assert place.queue() == {"pending": 120}
