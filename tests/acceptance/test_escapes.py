"""Escape sequences of other people's data reach neither the terminal nor a log as such."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from conftest import wait_for
from workplace import Finished, Workplace, clean_environment, program

# Set the window's title, clear the screen, CSI as one character, reverse the direction, ring.
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202ecod\x7f"
HARMFUL = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u202e"} - {"\t", "\n", "\r"}


def assert_harmless(text: str, *, without: str = "") -> None:
    found = sorted({character for character in text if character in HARMFUL} - set(without))
    assert not found, [hex(ord(character)) for character in found]


@pytest.fixture
def hostile(place: Workplace) -> Workplace:
    """A corpus, a queue, a session and a table with such names."""
    corpus = Path(place.variables["RAGOPS_CORPUS"])
    (corpus / f"a{EVIL}.txt").write_bytes(b"\x00 not text")
    return place


@pytest.mark.skipif(sys.platform != "linux", reason="file names with control characters, and a pseudo terminal")
def test_no_screen_log_or_error_has_them(hostile: Workplace, tmp_path: Path) -> None:
    log, as_json = tmp_path / "log", tmp_path / "log.json"
    logged = ("--log-format", "json", "--log-file", str(as_json))
    runs = [hostile.ragops("queue", "reseed"), hostile.ragops("embed", "--log-file", str(log))]
    hostile.execute("UPDATE files_queue SET last_error = last_error || E'\\x1b[2J' WHERE status = 'failed'")
    with psycopg.connect(hostile.dsn) as reader:
        # A blocker whose own query has them.
        reader.execute(f"SELECT count(*) /* {EVIL} */ FROM documents".encode())
        process = hostile.start("tables", "empty", "documents", "document_chunks", "--yes")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_for(lambda: hostile.value(waiting) > 0, what="the emptying waits for the reader")
        wait_for(lambda: hostile.value(waiting) == 0, what="the emptying says who is in its way")
        reader.rollback()
        out, err = process.communicate(timeout=120)
        blocked = Finished(process.returncode, out, err)
        runs += [blocked]
    runs += [
        hostile.ragops("queue", "status"),
        hostile.ragops("queue", "status", "--json"),
        hostile.ragops("status", f"--dsn=postgresql:///x{EVIL.replace('%', '')}"),
        hostile.ragops("--debug", "status", "--playbook", f"no{EVIL}"),
        hostile.ragops("search", "x", *logged, RAGOPS_MODEL=f"no{EVIL}"),
    ]
    assert "\\x1b" in runs[3].out
    assert "\\u009b" in runs[4].out
    for done in runs:
        assert_harmless(done.out + done.err)
    json.loads(runs[4].out)
    assert "\\x1b" in blocked.err
    assert_harmless(log.read_text(encoding="utf-8") + as_json.read_text(encoding="utf-8"))
    assert [json.loads(line) for line in as_json.read_text(encoding="utf-8").splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="a pseudo terminal")
def test_on_a_terminal_only_its_own_styles_remain(hostile: Workplace) -> None:
    assert hostile.ragops("queue", "reseed").code == 0
    assert hostile.ragops("embed").code == 0
    ours, theirs = pty.openpty()
    environment = clean_environment(hostile.folder) | hostile.variables | {"TERM": "xterm"}
    del environment["NO_COLOR"]
    command = [*program(), "queue", "status"]
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # EIO: the program has ended
                break
    os.close(ours)
    assert process.returncode == 0
    text = shown.decode()
    assert "\\x1b]0;owned\\x07" in text.replace("\r\n", "")
    assert_harmless(text, without="\x1b")
    assert "\x1b]0;" not in text and "\x1b[2J" not in text
