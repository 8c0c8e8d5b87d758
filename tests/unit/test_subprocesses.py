"""Children: what they inherit, which terminal they listen to, how their end is named."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ragops.subprocesses import Purpose, child_environment, new_session_flags, signal_name

KEPT = {"PATH": "/bin", "LC_ALL": "C", "Temp": "t", "LD_LIBRARY_PATH": "/lib"}
NEVER = {
    "PGHOST": "h",
    "PgPassword": "x",
    "DATABASE_URL": "x",
    "DB_PASSWORD": "x",
    "OTHER": "postgresql://u:p@h/d",
    "OPENAI_API_KEY": "x",
    "AWS_SESSION_TOKEN": "x",
    "LLAMA_ARG_API_KEY": "x",
    "LC_NOTE": "host=h password = x",
    "GGML_NOTE": "postgresql+psycopg://u:p@h/d",
    "ANYTHING": "x",
}


def test_a_child_inherits_what_is_on_the_list_for_its_purpose_alone() -> None:
    given = {**KEPT, **NEVER, "PYTHONPATH": "lib", "OMP_NUM_THREADS": "2", "PIP_INDEX_URL": "i", "CC": "cc"}
    expected: dict[Purpose, set[str]] = {
        Purpose.PARSER: set(),
        Purpose.EMBEDDER: {"OMP_NUM_THREADS"},
        Purpose.BUILD: {"OMP_NUM_THREADS", "PIP_INDEX_URL", "CC"},
    }
    for purpose, more in expected.items():
        assert child_environment(given, purpose).keys() == KEPT.keys() | more | {"PYTHONPATH"}
        other = child_environment(given, purpose, own_interpreter=False)
        assert other.keys() == KEPT.keys() | more
        assert other["Temp"] == "t"


@pytest.mark.parametrize(
    ("status", "name"),
    [(None, None), (0, None), (7, None), (0xC000001D, "SIGILL"), (0xC0000005, "SIGSEGV"), (-250, "signal 250")],
)
def test_exit_statuses_and_their_signals(status: int | None, name: str | None) -> None:
    assert signal_name(status) == name


@pytest.mark.skipif(sys.platform == "win32", reason="sessions are POSIX")
def test_a_child_in_a_new_session_does_not_hear_the_terminal() -> None:
    command = [sys.executable, "-c", "import os; print(os.getsid(0), os.getpid())"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, **new_session_flags())
    session, pid = done.stdout.split()
    assert session == pid
    assert int(session) != os.getsid(0)
