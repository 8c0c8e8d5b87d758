"""PgBouncer in transaction mode in front of a server, started by an unprivileged user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from own_server import free_port
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
# Debian's package brings this user; every Unix has the second.
USERS = ("postgres", "nobody")
SETTINGS = """\
[databases]
* = host={host} port={server_port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
ignore_startup_parameters = extra_float_digits,options
server_login_retry = 1
query_wait_timeout = {wait_s}
logfile = {folder}/log
pidfile = {folder}/pid
"""


@dataclass
class Pooler:
    """A running PgBouncer."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def dsn(self, dsn: str) -> str:
        """The same database through the pooler."""
        parts = conninfo_to_dict(dsn)
        return make_conninfo(host="127.0.0.1", port=self.port, user=parts.get("user"), dbname=parts.get("dbname"))

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")


@contextmanager
def running_pooler(dsn: str, *, pool_size: int = 4, wait_s: int = 120) -> Iterator[Pooler]:
    """PgBouncer in front of the server of `dsn`, which is reached by TCP and without a password."""
    assert PROGRAM is not None
    parts = conninfo_to_dict(dsn)
    with tempfile.TemporaryDirectory(prefix="ragops-tests-") as name:
        folder, port, user = Path(name), free_port(), _user()
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            SETTINGS.format(
                host=parts["host"],
                server_port=parts.get("port", 5432),
                port=port,
                pool_size=pool_size,
                wait_s=wait_s,
                folder=folder,
            ),
            encoding="utf-8",
        )
        if user is not None:
            shutil.chown(folder, user)
        process = subprocess.Popen([PROGRAM, "-q", str(settings)], user=user, stderr=subprocess.PIPE)
        pooler = Pooler(folder, port, process)
        try:
            _wait_until_ready(pooler, pooler.dsn(dsn))
            yield pooler
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def _wait_until_ready(pooler: Pooler, dsn: str) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=5).close()
            return
        except psycopg.OperationalError as error:
            assert pooler.process.poll() is None, pooler.process.stderr and pooler.process.stderr.read()
            assert time.monotonic() < until, error
            time.sleep(0.1)


def _user() -> str | None:
    """Who runs it where root runs the tests: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in USERS if name in known)
