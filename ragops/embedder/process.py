"""The embedder child as an operating system process: start, pipes, stderr, end and its cause."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, BinaryIO, cast

from ragops.errors import EmbedderError

STDERR_TAIL = 2000
EXIT_WAIT_S = 5.0


class ChildProcess:
    """A started child with binary pipes, its stderr in a temporary file.

    It runs in a session (on Windows: a process group) of its own, so that Ctrl-C at the terminal
    reaches the controller only; it ends by itself when its stdin closes.

    Raises EmbedderError when the program cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the child)
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=dict(environment),
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            self._stderr.close()
            raise EmbedderError(
                "the embedder child cannot be started",
                where=command[0],
                actual=error.strerror or str(error),
                expected="an interpreter that has llama-cpp-python",
                hint=f"check the path of the interpreter: {command[0]} --version",
            ) from error
        # Popen's pipes are IO[bytes] | None to the type checker; both were asked for above.
        self.stdin = cast(BinaryIO, self._process.stdin)
        self.stdout = cast(BinaryIO, self._process.stdout)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, None while it runs; below 0 it is a signal (POSIX)."""
        return self._process.poll()

    def kill(self) -> None:
        """End it at once; harmless when it is gone already."""
        self._process.kill()

    def wait(self, timeout_s: float = EXIT_WAIT_S) -> int:
        """Its exit status; it is killed when it does not end within `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def stderr_tail(self) -> str:
        """The last characters of what it wrote to stderr; empty when there is nothing."""
        if self._stderr.closed:
            return ""
        # The child writes at the same offset: reading to the end leaves it where the child needs it.
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, end - 4 * STDERR_TAIL))
        text = self._stderr.read().decode("utf-8", "replace")
        return text[-STDERR_TAIL:].strip()

    def close(self, timeout_s: float = EXIT_WAIT_S) -> None:
        """Close its stdin, wait for it to end, release the pipes and the file."""
        with contextlib.suppress(OSError):  # a flush into a child that is gone
            self.stdin.close()
        self.wait(timeout_s)
        self.stdout.close()
        self._stderr.close()
