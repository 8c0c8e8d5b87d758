"""Children: what they inherit, which terminal they listen to, how their end is named."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ragops.subprocesses import child_environment, new_session_flags, signal_name


def test_the_environment_is_filtered_by_name_and_value() -> None:
    full = {
        "PATH": "/bin",
        "PGHOST": "h",
        "PgPassword": "x",
        "DATABASE_URL": "x",
        "DB_PASSWORD": "x",
        "OTHER": "postgresql://u:p@h/d",
        "PYTHONPATH": "lib",
    }
    assert child_environment(full) == {"PATH": "/bin", "PYTHONPATH": "lib"}
    assert child_environment(full, own_interpreter=False) == {"PATH": "/bin"}


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
