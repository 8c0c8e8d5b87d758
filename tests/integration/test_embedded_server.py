"""The embedded server: shared by several commands, stopped by one, started again with its data."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from conftest import wait_for

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


def connect_as_nobody(conninfo: str) -> str:
    """What another user of this machine gets: the error, or an empty text."""
    # Forked: that user may not run this interpreter's program, which can lie in a home folder.
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            psycopg.connect(conninfo, connect_timeout=5).close()
        except Exception as error:  # noqa: BLE001 (told by the parent)
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


is_root = sys.platform != "win32" and os.geteuid() == 0


@pytest.mark.skipif(not is_root, reason="only root can run a program as another user")
@pytest.mark.parametrize("version", [16, 18])
def test_another_user_of_the_machine_cannot_connect(version: int) -> None:
    # With a space, so that the socket is outside of the data, which are closed anyway.
    with tempfile.TemporaryDirectory(prefix="my ragops ") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer(Path(folder) / "closed" / "postgres", version=version)
        (Path(folder) / "closed").mkdir(mode=0o700)
        try:
            target = server.start()
            with psycopg.connect(target.conninfo, autocommit=True) as connection:
                connection.execute("CREATE ROLE other LOGIN")
                (sockets,) = connection.execute("SHOW unix_socket_directories").fetchone() or ("",)
                (mode,) = connection.execute("SHOW unix_socket_permissions").fetchone() or ("",)
            # The user itself may be any role.
            psycopg.connect(target.conninfo, user="other").close()
            assert (mode, stat.S_IMODE(Path(sockets).stat().st_mode)) == ("0700", 0o700)
            # Passed through, not listed.
            assert stat.S_IMODE((Path(folder) / "closed").stat().st_mode) == 0o711
            # Even with the folder open and the socket's file too, the server asks the system who it is.
            Path(sockets).chmod(0o755)
            for file in Path(sockets).glob(".s.PGSQL.*"):
                file.chmod(0o777)
            for role in ("postgres", "other", "nobody"):
                said = connect_as_nobody(psycopg.conninfo.make_conninfo(target.conninfo, user=role))
                assert "Peer authentication failed" in said
        finally:
            server.stop()


def test_the_server_keeps_no_secret_of_who_started_it(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKEND_API_KEY", "c4n4ry")
    server.start()
    pid = int((server.folder / "postmaster.pid").read_text().splitlines()[0])
    assert "c4n4ry" not in str(psutil.Process(pid).environ())
    assert os.environ["BACKEND_API_KEY"] == "c4n4ry"


@pytest.mark.slow
def test_a_server_that_recovers_for_longer_than_its_wheel_waits(server: EmbeddedServer) -> None:
    with psycopg.connect(server.start().conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n")
        postmaster = psutil.Process(int((server.folder / "postmaster.pid").read_text().splitlines()[0]))
    postmaster.kill()
    wait_for(lambda: not postmaster.is_running(), what="its end")
    # Each file that the recovery asks for takes nine seconds, and there is none.
    settings = server.folder / "postgresql.conf"
    settings.write_text(settings.read_text() + "restore_command = 'sleep 9; false'\nhot_standby = off\n")
    signal_file = server.folder / "recovery.signal"
    signal_file.touch()
    owner = settings.stat()
    os.chown(signal_file, owner.st_uid, owner.st_gid)
    command = [sys.executable, "-c", "from ragops.report.console import console_reporter as c; c()\n" + START]
    commands = [
        subprocess.Popen([*command, str(server.folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=180) for process in commands]
    assert [process.returncode for process in commands] == [0, 0], ends
    assert all(err.count("starts, recovers or stops; waiting for it") == 1 for _, err in ends), ends
    with psycopg.connect(ends[0][0].strip()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
