"""Start other programs, follow their output, and end them with everything they started."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypedDict

import psutil

from ragops.errors import RagopsError

# Windows ends a crashed process with an NTSTATUS code, where POSIX has a signal:
# https://learn.microsoft.com/openspecs/windows_protocols/ms-erref/596a1078-e883-4972-9bbc-49e60bebca55
_WINDOWS_SIGNALS = {0xC000001D: "SIGILL", 0xC0000005: "SIGSEGV", 0xC0000409: "SIGABRT", 0xC0000094: "SIGFPE"}
_SECRET_NAMES = frozenset({"RAGOPS_DSN", "DATABASE_URL"})
# Point an interpreter at another one's packages; __PYVENV_LAUNCHER__ is macOS's.
_FOREIGN_NAMES = frozenset({"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"})
# Often enough for a clock of seconds that never skips one.
_TICK_S = 0.5
# A killed process is gone at once unless it is stuck in the kernel, on a dead network file system for one.
_KILL_WAIT_S = 5.0
OnTick = Callable[[str | None], None]


class SessionFlags(TypedDict):
    """Arguments of `subprocess.Popen` and `subprocess.run`."""

    start_new_session: bool
    creationflags: int


def new_session_flags() -> SessionFlags:
    """Return the arguments that keep Ctrl-C away from a child: a new session, on Windows a process group.

    The terminal sends SIGINT to all processes of its foreground group. The parent handles it and ends its
    children in order; a child that it ended directly would look like a crash.
    """
    return {
        "start_new_session": sys.platform != "win32",
        "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    }


def child_environment(environment: Mapping[str, str], *, own_interpreter: bool = True) -> dict[str, str]:
    """Return the environment without anything that opens a database.

    RAGOPS_DSN, DATABASE_URL, every PG* variable, every name that contains PASSWORD and every value that
    contains a PostgreSQL URL are dropped. With `own_interpreter=False`, the variables that would lead
    another interpreter to this one's packages are dropped too.
    """
    kept = {}
    for name, value in environment.items():
        upper = name.upper()  # names are case-insensitive on Windows
        is_secret = upper.startswith("PG") or upper in _SECRET_NAMES or "PASSWORD" in upper
        is_foreign = not own_interpreter and upper in _FOREIGN_NAMES
        if not (is_secret or is_foreign or "postgres://" in value or "postgresql://" in value):
            kept[name] = value
    return kept


def signal_name(returncode: int | None) -> str | None:
    """Return `SIGILL` and the like for an exit status that stands for a signal or a Windows exception."""
    if returncode is None or returncode == 0:
        return None
    if returncode < 0:
        try:
            return signal.Signals(-returncode).name
        except ValueError:  # real-time signals have no names
            return f"signal {-returncode}"
    return _WINDOWS_SIGNALS.get(returncode)


def run_logged(command: Sequence[str], *, environment: Mapping[str, str], log: Path, on_tick: OnTick) -> int:
    """Run a program to its end, append all output to `log`, and return the exit status.

    `on_tick` receives every line, and None when there is none for a while. If it raises, or a signal
    handler does, the program and everything it started are killed first. Raises RagopsError if the program
    cannot be started.
    """
    with log.open("ab") as file:
        file.write(f"$ {' '.join(command)}\n".encode())
        try:
            process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                **new_session_flags(),
            )
        except OSError as error:
            raise RagopsError(
                "cannot start the interpreter",
                where=command[0],
                actual=error.strerror or str(error),
                expected="a Python that can create virtual environments",
                hint=f"{command[0]} --version",
            ) from error
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # A thread, because pipes cannot be waited for with a timeout on Windows.
        threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
        try:
            while True:
                try:
                    line = lines.get(timeout=_TICK_S)
                except queue.Empty:
                    file.flush()  # for whoever follows the log
                    on_tick(None)
                    continue
                if line is None:
                    return process.wait()
                file.write(line)
                on_tick(line.decode("utf-8", "replace").rstrip())
        except BaseException:
            kill_tree(process.pid)
            process.wait()
            raise


def _read_lines(source: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    for line in source:
        lines.put(line)
    lines.put(None)


def kill_tree(pid: int) -> None:
    """Kill a process and everything below it, from the top, so that no parent starts more."""
    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.Error):  # ended meanwhile
            process.kill()
    # Not the top: its parent waits for it, and two waiters would compete for its exit status.
    psutil.wait_procs(family[1:], timeout=_KILL_WAIT_S)
