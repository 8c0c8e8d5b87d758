"""Threads of which one runs at a time, and connections at whose every round trip another one may go on.

A task pauses before a round trip when its allowance is used up, and where its statement waits for a lock of
another task. The scheduler alone decides who goes on, so that a run is the same each time.
"""

from __future__ import annotations

import re
import select
import threading
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq, sql

from ragops.postgres.collisions import ReadCommittedConnection, ReadCommittedCursor

if TYPE_CHECKING:
    from simulator.processes import Process
    from simulator.world import World

# How long an answer may take before the server is asked whether the statement waits for a lock.
PATIENCE_MS = 5
_CHANGES = re.compile(r"\b(insert|update|delete|truncate|copy|create|drop|alter|lock|for update)\b", re.IGNORECASE)
_LOCK_TIMEOUT = re.compile(r'SET LOCAL "lock_timeout" = \'(\d+)ms\'')


class Killed(BaseException):
    """The process of this task was killed."""


class State(Enum):
    """What a task does while another one runs."""

    NEW = "new"
    RUNNING = "running"
    PAUSED = "paused"
    ASLEEP = "asleep"
    """It waits for time to pass, and looks again when it is resumed."""
    BLOCKED = "blocked"
    """Its statement waits for a lock."""
    DONE = "done"


class Task:
    """One thread of a simulated process."""

    def __init__(self, process: Process, role: str, program: Callable[[], None]) -> None:
        self.process = process
        self.role = role
        self.state = State.NEW
        self.blocked_on: SimConnection | None = None
        self.gives_up_waiting = False
        """The lock timeout of its statement has run out."""
        self._program = program
        self._allowance = 0
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._body, name=str(self), daemon=True)
        _tasks[self._thread] = self

    def __str__(self) -> str:
        return f"{self.process.id}/{self.role}"

    def resume(self, allowance: int) -> None:
        """Let the task go on for some round trips; return when it has paused or ended."""
        self._allowance = allowance
        if self.state is State.NEW:
            self._thread.start()
        else:
            self._go.release()
        self._back.acquire()

    def pause(self, state: State) -> None:
        """Give the turn back until the scheduler resumes this task. Raises Killed if its process was killed."""
        self.state = state
        self._back.release()
        self._go.acquire()
        self.state = State.RUNNING
        if self.process.is_killed:
            raise Killed()

    def before_exchange(self) -> None:
        """Pause unless the task may go on for another round trip."""
        if self.process.is_killed:
            raise Killed()
        if self._allowance <= 0:
            self.pause(State.PAUSED)
        self._allowance -= 1

    def sleep(self) -> None:
        """Wait for time to pass: until the scheduler resumes this task."""
        self.pause(State.ASLEEP)

    def _body(self) -> None:
        self.state = State.RUNNING
        try:
            self._program()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 (a fault of the program under test, which the run reports)
            self.process.world.report_crash(self, error)
        self.state = State.DONE
        _tasks.pop(self._thread, None)
        self._back.release()


_tasks: dict[threading.Thread, Task] = {}


def current_task() -> Task | None:
    """Return the task that runs in this thread; None in the scheduler's own."""
    return _tasks.get(threading.current_thread())


class SimCursor(ReadCommittedCursor[Any]):
    """Tells its connection what it executes."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        connection = self.connection
        assert isinstance(connection, SimConnection)
        return super().execute(connection.note(query), params, **options)

    def copy(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        assert isinstance(self.connection, SimConnection)
        self.connection.is_dirty = True
        return super().copy(statement, *arguments, **options)


class SimConnection(ReadCommittedConnection):
    """A connection of a simulated process."""

    world: World
    process: Process | None = None
    is_dirty = False
    """Something was changed since the last look at the database."""
    lock_timeout_s: float | None = None

    def keep_read_committed(self) -> None:
        super().keep_read_committed()
        self.cursor_factory = SimCursor

    def note(self, query: Any) -> Any:
        """Remember whether a statement changes something, and return it; a lock timeout runs on virtual time."""
        text = query.as_string(self) if isinstance(query, sql.Composable) else str(query)
        if found := _LOCK_TIMEOUT.match(text):
            self.lock_timeout_s = int(found[1]) / 1000
            return sql.SQL("SET LOCAL lock_timeout = 0")
        self.is_dirty = self.is_dirty or _CHANGES.search(text) is not None
        return query

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Exchange one message with the server, as every statement, BEGIN, COMMIT and block of COPY does."""
        task = current_task()
        if task is None:
            return super().wait(gen, interval, timeout)
        task.before_exchange()
        try:
            result = self._drive(gen, task)
        except psycopg.errors.QueryCanceled:
            if not task.gives_up_waiting:
                raise
            task.gives_up_waiting = False
            raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout") from None
        self._after_exchange(task)
        return result

    def _exec_command(self, command: Any, *arguments: Any, **options: Any) -> Any:
        if command == b"COMMIT" and self.is_dirty:
            self.world.let_look()
        return super()._exec_command(command, *arguments, **options)

    def _drive(self, gen: Any, task: Task) -> Any:
        try:
            wanted = next(gen)
            while True:
                while not (ready := self.is_ready(wanted, PATIENCE_MS)):
                    if self.world.is_blocked(self.info.backend_pid):
                        task.blocked_on = self
                        try:
                            task.pause(State.BLOCKED)
                        finally:
                            task.blocked_on = None
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value

    def is_ready(self, wanted: int, patience_ms: int) -> int:
        """Return which of `wanted` (1 to read, 2 to write) is possible within some milliseconds; 0 if none."""
        socket = self.pgconn.socket
        reads, writes = [socket] if wanted & 1 else [], [socket] if wanted & 2 else []
        readable, writable, _ = select.select(reads, writes, [], patience_ms / 1000)
        return (1 if readable else 0) | (2 if writable else 0)

    def _after_exchange(self, task: Task) -> None:
        if self.info.transaction_status != pq.TransactionStatus.IDLE:
            return
        self.lock_timeout_s = None
        if not self.is_dirty:
            return
        self.is_dirty = False
        self.world.observe(task)
        if task.process.loses_answer:
            # The server has done it, and its answer never arrives.
            task.process.loses_answer = False
            self.world.terminate([self])
            self.close()
            raise psycopg.OperationalError("the answer was lost")
