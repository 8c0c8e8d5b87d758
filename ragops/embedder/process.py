"""Run the embedder child as an operating system process: start, pipes, stderr, end and its cause."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, BinaryIO, cast

from ragops.errors import EmbedderError
from ragops.subprocesses import new_session_flags

# Characters of stderr in an error: a backtrace of faulthandler and llama.cpp's own last lines fit.
STDERR_TAIL = 2000
EXIT_WAIT_S = 5.0


class ChildProcess:
    """A started child with binary pipes and its stderr in a temporary file.

    Ctrl-C at the terminal does not reach it; it ends by itself when its stdin closes. Raises EmbedderError
    if the program cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # A file and not a pipe: a full pipe that nobody reads would block llama.cpp's log.
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the child)
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=dict(environment),
                **new_session_flags(),
            )
        except OSError as error:
            self._stderr.close()
            raise EmbedderError(
                "cannot start the embedder process",
                where=command[0],
                actual=error.strerror or str(error),
                expected="an interpreter that has llama-cpp-python",
                hint=f"check the path of the interpreter: {command[0]} --version",
            ) from error
        # Popen's pipes are IO[bytes] | None to the type checker; both were requested above.
        self.stdin = cast(BinaryIO, self._process.stdin)
        self.stdout = cast(BinaryIO, self._process.stdout)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit status, None while it runs; a negative one is a signal (POSIX)."""
        return self._process.poll()

    def kill(self) -> None:
        """Kill it at once; does nothing after its end."""
        self._process.kill()

    def wait(self, timeout_s: float = EXIT_WAIT_S) -> int:
        """Return its exit status; it is killed if it does not end within `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def stderr_tail(self) -> str:
        """Return the last characters of its stderr; empty if there are none."""
        if self._stderr.closed:
            return ""
        # The child writes at the same offset: reading to the end leaves it where the child needs it.
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, end - 4 * STDERR_TAIL))  # a character of UTF-8 has up to 4 bytes
        text = self._stderr.read().decode("utf-8", "replace")
        return text[-STDERR_TAIL:].strip()

    def close(self, timeout_s: float = EXIT_WAIT_S) -> None:
        """Close its stdin, wait for its end, release the pipes and the file."""
        with contextlib.suppress(OSError):  # a flush into a child that has ended
            self.stdin.close()
        self.wait(timeout_s)
        self.stdout.close()
        self._stderr.close()
