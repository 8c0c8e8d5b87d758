"""Start, watch and end other programs."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from ragops.errors import RagopsError

# What Windows reports as an exit code where POSIX has a signal.
_WINDOWS_SIGNALS = {0xC000001D: "SIGILL", 0xC0000005: "SIGSEGV", 0xC0000409: "SIGABRT", 0xC0000094: "SIGFPE"}
_SECRET_NAMES = frozenset({"RAGOPS_DSN", "DATABASE_URL"})
_FOREIGN_NAMES = frozenset({"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"})


def child_environment(environment: Mapping[str, str], *, own_interpreter: bool = True) -> dict[str, str]:
    """The environment without anything that opens a database.

    Dropped are RAGOPS_DSN, DATABASE_URL, every PG* variable, every name with PASSWORD in it and
    every value with a PostgreSQL URL in it. For another interpreter, `own_interpreter=False`, the
    variables that would lead it to this one's packages go too.
    """
    kept = {}
    for name, value in environment.items():
        upper = name.upper()
        is_secret = upper.startswith("PG") or upper in _SECRET_NAMES or "PASSWORD" in upper
        is_foreign = not own_interpreter and upper in _FOREIGN_NAMES
        if not (is_secret or is_foreign or "postgres://" in value or "postgresql://" in value):
            kept[name] = value
    return kept


def signal_name(returncode: int | None) -> str | None:
    """`SIGILL` and the like for an exit status that stands for a signal or a Windows exception."""
    if returncode is None or returncode == 0:
        return None
    if returncode < 0:
        try:
            return signal.Signals(-returncode).name
        except ValueError:
            return f"signal {-returncode}"
    return _WINDOWS_SIGNALS.get(returncode)


TICK_S = 0.5
OnTick = Callable[[str | None], None]


def run_logged(command: Sequence[str], *, environment: Mapping[str, str], log: Path, on_tick: OnTick) -> int:
    """Run to the end, append all output to `log`, and return the exit status.

    `on_tick` gets every line, and None when for a while there is none. When it or a signal raises, the
    program and everything it started are killed first. Raises RagopsError when it cannot be started.
    """
    with log.open("ab") as file:
        file.write(f"$ {' '.join(command)}\n".encode())
        process = _start(command, environment)
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            _follow(lines, file, on_tick)
            return process.wait()
        except BaseException:
            kill_tree(process.pid)
            process.wait()
            raise


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this side only, which then ends the whole tree in order.
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    except OSError as error:
        raise RagopsError(
            "the interpreter cannot be started",
            where=command[0],
            actual=error.strerror or str(error),
            expected="a Python that makes virtual environments",
            hint=f"{command[0]} --version",
        ) from error


def _read(source: IO[bytes] | None, lines: queue.SimpleQueue[bytes | None]) -> None:
    assert source is not None
    for line in source:
        lines.put(line)
    lines.put(None)


def _follow(lines: queue.SimpleQueue[bytes | None], file: IO[bytes], on_tick: OnTick) -> None:
    while True:
        try:
            line = lines.get(timeout=TICK_S)
        except queue.Empty:
            file.flush()
            on_tick(None)
            continue
        if line is None:
            return
        file.write(line)
        on_tick(line.decode("utf-8", "replace").rstrip())


def kill_tree(pid: int) -> None:
    """Kill a process and all below it, from the top, so that nobody starts more."""
    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(family[1:], timeout=5)
