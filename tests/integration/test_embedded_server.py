"""The embedded server: shared by several commands, stopped by one, started again with its data."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ragops.errors import DatabaseUnavailable
from ragops.postgres.embedded import EmbeddedServer

START = """
import sys
from pathlib import Path
from ragops.postgres.embedded import EmbeddedServer
print(EmbeddedServer(Path(sys.argv[1])).start().conninfo)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "data" / "postgres")
    yield server
    server.stop()


def test_commands_at_once_share_one_server_whose_data_survive(server: EmbeddedServer) -> None:
    assert server.stop() is False, "it is not running yet"
    command = [sys.executable, "-c", START, str(server.folder)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    targets = {out.strip() for out, _ in ended}
    assert len(targets) == 1
    # All commands have ended; the server keeps running.
    (conninfo,) = targets
    psycopg.connect(conninfo, connect_timeout=5).close()
    assert server.start().conninfo == conninfo
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'still here' AS word")
        before = connection.execute("SELECT pg_postmaster_start_time()").fetchone()
    assert server.stop() is True
    assert server.stop() is False
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(conninfo, connect_timeout=5)
    with psycopg.connect(server.start().conninfo) as connection:
        assert connection.execute("SELECT word FROM kept").fetchone() == ("still here",)
        assert connection.execute("SELECT pg_postmaster_start_time()").fetchone() != before


def test_a_folder_with_spaces_and_letters_of_any_script() -> None:
    # A short path: the wheel itself looks for another place for the socket of a long one.
    with tempfile.TemporaryDirectory(prefix="my ragops ü&") as folder:
        _start_in(Path(folder) / "postgres")


def _start_in(folder: Path) -> None:
    server = EmbeddedServer(folder)
    try:
        with psycopg.connect(server.start().conninfo) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("ragops",)
        assert EmbeddedServer(server.folder).start().conninfo == server.start().conninfo
    finally:
        assert server.stop() is True
    assert server.stop() is False


def test_a_server_that_does_not_start_says_so_once(
    server: EmbeddedServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.start()
    server.stop()
    (server.folder / "postgresql.conf").write_text("no_such_setting = 1\n", encoding="utf-8")
    with pytest.raises(DatabaseUnavailable, match="does not start") as caught:
        server.start()
    found = caught.value.actual or ""
    assert found.startswith("pg_ctl ended with exit code 1 | ")
    assert 'unrecognized configuration parameter "no_such_setting"' in found
    assert capfd.readouterr().err == ""
