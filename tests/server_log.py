"""The statements that a server has logged."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

_STATEMENT = re.compile(r"LOG:  (?:statement|execute <unnamed>): (.*)")


class ServerLog:
    """The statements that a server has logged since the last look."""

    def __init__(self, dsn: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute("SELECT current_setting('data_directory')").fetchone()
        assert row is not None
        self._file = Path(row[0]) / "log"
        self._read = self._file.stat().st_size

    def statements(self) -> list[str]:
        """New statements in order, each on one line with single spaces."""
        text = self._file.read_bytes()[self._read :]
        self._read += len(text)
        # A line that continues a statement begins with a tab.
        whole = text.decode("utf-8", "replace").replace("\n\t", " ")
        return [one_line(found[1]) for line in whole.splitlines() if (found := _STATEMENT.search(line))]


def one_line(statement: str) -> str:
    return " ".join(statement.split())
