"""The simulated world: one database with a virtual clock, two corpora, machines and their processes."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from ragops.facts import DatabaseFacts, TableFacts
from ragops.playbook.tables import Tables
from ragops.postgres.catalog import read_database
from ragops.postgres.connection import Target, connect
from ragops.postgres.setup import ensure_ragops_schema, initialise, plan_setup
from simulator.clock import BEGINNING_US, install_clock, set_clock
from simulator.tasks import SimConnection, State, Task

if TYPE_CHECKING:
    from simulator.oracle import Oracle
    from simulator.processes import Process

DIMENSIONS = 4
TEMPLATE = "ragops_simulator"
Admin = psycopg.Connection[tuple[Any, ...]]


def read_text(source: str, location: str) -> str | None:
    """Return the text of a document of a corpus; None if the corpus lacks it.

    The corpora share most of their names, as two versions of one do, but no text.
    """
    number = int(location.removeprefix("doc").removesuffix(".txt"))
    return None if CORPORA[source] <= number else f"{source}: note {number}"


# The number of documents of each corpus.
CORPORA = {"red": 14, "blue": 18}
GATES = (3, 8)
POOLINGS = ("mean", "cls")


def embed_text(text: str, pooling: str) -> NDArray[np.float32]:
    """Return the vector of a text in the space of a pooling."""
    digest = hashlib.blake2b(f"{pooling}|{text}".encode(), digest_size=DIMENSIONS * 2).digest()
    vector = np.frombuffer(digest, dtype=np.uint16).astype(np.float32) + 1
    return vector / np.linalg.norm(vector)


def write_corpora(folder: Path) -> dict[str, Path]:
    """Write the corpora as files, which seeding lists; return their folders."""
    for name, count in CORPORA.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / name / f"doc{number:02}.txt").write_text(f"{name}: note {number}", encoding="utf-8")
    return {name: folder / name for name in CORPORA}


def make_template(admin: Admin, dsn: str) -> str:
    """Make the database that every run starts from, unless the server has it; return its DSN."""
    template = psycopg.conninfo.make_conninfo(dsn, dbname=TEMPLATE)
    if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone():
        return template
    admin.execute(f"CREATE DATABASE {TEMPLATE}".encode())
    target = Target(template, TEMPLATE)
    with connect(target, with_vector=False) as connection:
        initialise(connection, target, plan_setup(connection, Tables(), dimensions=lambda: DIMENSIONS))
        ensure_ragops_schema(connection)
        every = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'ragops')"
        for names in connection.execute(every.encode()).fetchall():
            # Autovacuum comes and goes by the real clock, and takes locks.
            off = sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)")
            connection.execute(off.format(sql.Identifier(*names)))
        install_clock(connection, database=TEMPLATE)
    return template


# A wait in a circle is none: the server ends it with a deadlock, however long that takes on a busy machine.
_BLOCKED = """
WITH RECURSIVE behind(pid) AS (
    SELECT unnest(pg_blocking_pids(%(pid)s))
     UNION SELECT unnest(pg_blocking_pids(behind.pid)) FROM behind
)
SELECT count(*) > 0 AND NOT coalesce(bool_or(pid = %(pid)s), false) FROM behind
"""


@dataclass
class Violation(Exception):
    """A promise that was broken."""

    promise: str
    detail: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.detail}"


@dataclass
class World:
    """Everything that one run shares."""

    dsn: str
    admin: Admin
    """The scheduler's own connection: clock, snapshots, and looks at who waits."""
    corpora: dict[str, Path]
    facts: DatabaseFacts
    """What the program would read from the catalog, which never changes here, but for the numbers of rows."""
    vector_type: tuple[str, int, int]
    """Name and oids of pgvector's type. Read before anything runs: the first run of all must not differ."""
    now_us: int = BEGINNING_US
    campaign_us: int = 0
    """Virtual time during which a campaign was unfinished."""
    is_down: bool = False
    """The database refuses connections."""
    processes: dict[str, Process] = field(default_factory=dict)
    violation: Violation | None = None
    log: list[str] = field(default_factory=list)
    observations: int = 0
    oracle: Oracle = field(init=False)

    def __post_init__(self) -> None:
        from simulator.oracle import Oracle

        self.oracle = Oracle(self)

    @property
    def tables(self) -> dict[str, TableFacts]:
        return {name: table for name, table in self.facts.tables.items() if table}

    @property
    def target(self) -> Target:
        return Target(self.dsn, "the simulated database")

    def advance(self, us: int) -> None:
        """Let time pass."""
        self.now_us += us
        if self.oracle.has_open_campaign:
            self.campaign_us += us
        set_clock(self.admin, self.now_us)

    def tasks(self) -> Iterator[Task]:
        for process in self.processes.values():
            yield from process.tasks

    def is_blocked(self, pid: int) -> bool:
        """Return whether a session waits for a lock that nobody gives it before another task goes on."""
        row = self.admin.execute(_BLOCKED, {"pid": pid}).fetchone()
        return bool(row and row[0])

    def observe(self, task: Task) -> None:
        """Look at what a task has just committed. The first violation ends the run."""
        self.observations += 1
        if self.violation is not None:
            return
        # Statements that waited for this commit may have gone on since.
        movers = {task.process} | {other.process for other in self.tasks() if other.state is State.BLOCKED}
        try:
            self.oracle.observe(movers)
        except Violation as violation:
            self.violation = violation

    def settle(self) -> None:
        """Let the tasks whose statements need not wait any more take their answers."""
        while True:
            moved = False
            for task in list(self.tasks()):
                connection = task.blocked_on
                if connection is None or task.process.is_stopped:
                    continue
                while not connection.is_ready(1, 0):
                    if self.is_blocked(connection.info.backend_pid):
                        break
                else:
                    task.resume(0)
                    moved = True
            if not moved:
                return

    def let_look(self) -> None:
        """Let the lock timeouts of those run out who wait to keep readers out.

        Their turn would come with the commit that follows, before anybody can look at what was committed.
        """
        waiting = {t.blocked_on.info.backend_pid: t for t in self.tasks() if t.blocked_on is not None}
        if not waiting:
            return
        shut = "SELECT pid FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
        for (pid,) in self.admin.execute(shut.encode()).fetchall():
            if pid in waiting:
                self.expire(waiting[pid])

    def expire(self, task: Task) -> None:
        """Let the lock timeout of a waiting statement run out."""
        connection = task.blocked_on
        assert connection is not None
        task.gives_up_waiting = True
        self.admin.execute("SELECT pg_cancel_backend(%s)", (connection.info.backend_pid,))
        while not connection.is_ready(1, 100):
            pass

    def terminate(self, connections: list[SimConnection]) -> None:
        """End the server's side of connections, and wait until it is gone."""
        pids = [c.info.backend_pid for c in connections if not c.closed]
        if not pids:
            return
        self.admin.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (pids,))
        # Not with its second parameter: that looks ten times a second.
        gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY(%s))"
        while not (self.admin.execute(gone, (pids,)).fetchone() or [False])[0]:
            time.sleep(0.0005)

    def report_crash(self, task: Task, error: BaseException) -> None:
        """Note a program that ended by an exception which no promise covers."""
        if self.violation is None:
            self.violation = Violation(
                "programs end with a named error", f"{task}: {type(error).__name__}: {error}"
            )
            self.log.append("".join(traceback.format_exception(error)))


def open_world(admin_dsn: str, name: str, folder: Path) -> World:
    """Make a fresh database and the world around it."""
    with psycopg.connect(admin_dsn, autocommit=True) as server:
        make_template(server, admin_dsn)
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        server.execute(create.format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
        # Settings of a database are not copied from its template.
        # A deadlock ends at once: nobody else runs who could end it. Whoever waits has looked for one before the
        # scheduler goes on (`PATIENCE_MS`), so that it ends who comes last, however busy the machine is.
        for setting in ("search_path = sim, pg_catalog, public", "deadlock_timeout = '1ms'"):
            server.execute(sql.SQL("ALTER DATABASE {} SET " + setting).format(sql.Identifier(name)))
    dsn = psycopg.conninfo.make_conninfo(admin_dsn, dbname=name)
    # Who keeps readers out while he pauses does so for the scheduler's own looks, too.
    admin = psycopg.connect(dsn, autocommit=True, options="-c lock_timeout=5ms")
    query = "SELECT typname::text, oid::bigint, typarray::bigint FROM pg_type WHERE typname = 'vector'"
    (vector_type,) = admin.execute(query.encode()).fetchall()
    return World(dsn, admin, write_corpora(folder), _read_facts(admin, admin_dsn), vector_type)


_read: dict[str, DatabaseFacts] = {}


def _read_facts(admin: Admin, server: str) -> DatabaseFacts:
    """Return the facts of a database: those of the first copy of the template, with its own name."""
    if server not in _read:
        _read[server] = read_database(admin, Tables())
    facts = _read[server]
    row = admin.execute(
        "SELECT datname, oid::bigint FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return replace(facts, server=replace(facts.server, database=row[0], database_oid=row[1]))


def close_world(world: World, admin_dsn: str) -> None:
    """End every process and drop the database."""
    for process in world.processes.values():
        process.kill()
    name = psycopg.conninfo.conninfo_to_dict(world.dsn)["dbname"]
    world.admin.close()
    with psycopg.connect(admin_dsn, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))


def as_json(value: object) -> str:
    return json.dumps(value, default=str, sort_keys=True)
