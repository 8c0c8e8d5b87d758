"""Run the operator's own commands before and after a cutover, on this machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

from ragops.errors import RagopsError
from ragops.reporter import Reporter
from ragops.subprocesses import ending_of, kill_tree, new_session_flags

_SHOWN = 500


def run_hooks(commands: Sequence[str], *, when: str, timeout_s: float, reporter: Reporter) -> None:
    """Run the commands one after the other, each by a shell. Raises RagopsError for the first one that fails."""
    for command in commands:
        reporter.info(f"{when}: {command}")
        started = time.monotonic()
        # The operator's own command, with the operator's own environment: `remember_playbook` vouches for it.
        process = subprocess.Popen(
            command,
            shell=True,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **new_session_flags(),
        )
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            kill_tree(process.pid)
            process.communicate()
            raise RagopsError(
                f"the command {when} took too long and was ended",
                where=command,
                actual=f"{timeout_s:g} s",
                expected="an end within hooks.timeout_s",
            ) from None
        except BaseException:
            kill_tree(process.pid)
            raise
        text = output.decode("utf-8", "replace").strip()
        if process.returncode != 0:
            raise RagopsError(
                f"the command {when} failed",
                where=command,
                actual=f"{ending_of(process.returncode)}: {text[-_SHOWN:]}",
            )
        reporter.info(
            f"{when}: done in {time.monotonic() - started:,.1f} s" + (f": {text[-_SHOWN:]}" if text else "")
        )
