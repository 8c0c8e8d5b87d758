"""A machine that can be broken, shared by the tests of one process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from torture.world import Machine, running_machine

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # It has neither SIGSTOP nor SIGKILL.


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    with running_machine() as opened:
        yield opened
