"""`ragops` as a process that faults may hit: here, or as another host."""

from __future__ import annotations

import contextlib
import functools
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from workplace import program

from torture.paced_child import EMBEDDER, TOKENIZER

ENDS_WITHIN_S = 60.0
PARSER = "parse_child.py"
CHILD = "/embedder/child.py"


@functools.cache
def can_be_another_host() -> bool:
    """Whether this process may start others with a host name and process ids of their own."""
    if sys.platform != "linux":
        return False
    command = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "sh", "-c", "hostname ragops-probe"]
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except OSError:
        return False


def host_command(host: str, command: Sequence[str]) -> list[str]:
    """The command on a host of its own: another name, and process ids that nobody else sees."""
    inner = 'hostname "$0" && exec "$@"'
    return [
        "unshare",
        "--uts",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        inner,
        host,
        *command,
    ]


@dataclass(eq=False)
class Program:
    """A running `ragops`, its output in files."""

    name: str
    process: subprocess.Popen[bytes]
    out: Path
    is_host: bool = False
    hits: list[str] = field(default_factory=list)
    """What was done to it on purpose."""
    started: float = field(default_factory=time.monotonic)
    hit_at: float | None = None

    @classmethod
    def start(
        cls, name: str, arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, host: str = ""
    ) -> Program:
        command = [*program(), *arguments]
        out = folder / f"{name}.out"
        with out.open("wb") as file:
            file.write(f"$ {' '.join(arguments)}\n".encode())
            file.flush()
            process = subprocess.Popen(
                host_command(host, command) if host else command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        return cls(name, process, out, is_host=bool(host))

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.poll()

    @property
    def is_running(self) -> bool:
        return self.code is None

    @property
    def is_overdue(self) -> bool:
        """Whether it was told to end and did not."""
        return self.is_running and self.hit_at is not None and time.monotonic() - self.hit_at > ENDS_WITHIN_S

    def output(self) -> str:
        return self.out.read_text(encoding="utf-8", errors="replace")

    def python(self) -> psutil.Process | None:
        """The process that runs ragops itself."""
        with contextlib.suppress(psutil.Error):
            outer = psutil.Process(self.process.pid)
            if not self.is_host:
                return outer
            # `unshare` waits for the first process of the new host, which became ragops.
            inner = next(iter(children_of(outer)), None)
            return inner if inner is not None and "ragops" in inner.cmdline() else None
        return None

    def children(self, kind: str) -> list[psutil.Process]:
        """Its embedders, tokenizers or parsers."""
        python = self.python()
        found = []
        for child in children_of(python) if python else []:
            with contextlib.suppress(psutil.Error):
                if kind_of(child) == kind:
                    found.append(child)
        return found

    def tree(self) -> list[psutil.Process]:
        python = self.python()
        return [python, *children_of(python)] if python else []

    def send(self, number: int, why: str) -> bool:
        """Send a signal; one that ends it is noted, so that its exit is no surprise. False if it has gone."""
        python = self.python()
        if python is None or not self.is_running:
            return False
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self.hits.append(why)
            self.hit_at = self.hit_at or time.monotonic()
        with contextlib.suppress(psutil.Error):
            python.send_signal(number)
            return True
        return False

    def kill(self) -> None:
        """End it and everything below it, at the end of a test."""
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes that it started. Where Linux lists them, without a look at every process of the machine."""
    lists = list(Path(f"/proc/{process.pid}/task").glob("*/children"))
    found = []
    with contextlib.suppress(OSError, psutil.Error):
        if not lists:
            return process.children()
        for pid in sorted(int(pid) for file in lists for pid in file.read_text().split()):
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(pid))
    return found


def kind_of(process: psutil.Process) -> str:
    """`embedder`, `tokenizer`, `parser`, or nothing of that."""
    command = " ".join(process.cmdline())
    if PARSER in command:
        return "parser"
    if process.name() == TOKENIZER:
        return "tokenizer"
    if process.name() == EMBEDDER or command.endswith(CHILD):
        return "embedder"
    return ""
