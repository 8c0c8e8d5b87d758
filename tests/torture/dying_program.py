"""Run `ragops` in forked copies of one process, each of which may be killed at one write to the ledger.

Reads commands as lines of JSON and answers each with a line of JSON. The copies are processes of their own, with
connections and children of their own; what they share is what Python had loaded, which takes most of a start.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

WRITE = re.compile(r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE|CREATE\s+TABLE|DROP\s+TABLE)\s+\"?ragops\"?\.")
# A lease is renewed by the clock: how often depends on how fast this machine is.
BY_THE_CLOCK = re.compile(r"^\s*UPDATE\s+ragops\.lease\b")


@dataclass
class Points:
    """The writes to the ledger so far, and the one that kills this process."""

    dies_at: int
    when: str
    seen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def before(self, what: str) -> int:
        with self.lock:
            self.seen.append(what)
            number = len(self.seen)
        self._die(number, "before")
        return number

    def after(self, number: int) -> None:
        self._die(number, "after")

    def _die(self, number: int, when: str) -> None:
        if (number, when) == (self.dies_at, self.when):
            os.kill(os.getpid(), signal.SIGKILL)


def watch(points: Points) -> None:
    """Count the statements that write to the ledger, and the COMMITs of their transactions."""
    execute = psycopg.Cursor.execute
    commit = psycopg.Transaction._commit_gen
    written: set[int] = set()

    def counted_execute(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        text = _text_of(query)
        if not WRITE.search(text) or BY_THE_CLOCK.search(text):
            return execute(self, query, *arguments, **options)
        number = points.before(" ".join(text.split())[:60])
        found = execute(self, query, *arguments, **options)
        if self.connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
            written.add(id(self.connection))
        points.after(number)
        return found

    def counted_commit(self: Any) -> Iterator[Any]:
        # A savepoint ends no transaction.
        is_write = id(self.connection) in written and self._outer_transaction
        number = points.before("COMMIT") if is_write else 0
        yield from commit(self)
        if is_write:
            written.discard(id(self.connection))
            points.after(number)

    psycopg.Cursor.execute = counted_execute  # type: ignore[method-assign]
    psycopg.Transaction._commit_gen = counted_commit  # type: ignore[assignment]


def _text_of(query: Any) -> str:
    if isinstance(query, sql.Composable):
        return query.as_string(None)
    return query.decode() if isinstance(query, bytes) else str(query)


def use_stub(command: Sequence[str]) -> None:
    """Start the stub in place of the embedder child."""
    from ragops.session import Session

    opened = Session.on

    def on(*arguments: Any, **options: Any) -> Session:
        return opened(*arguments, **{**options, "embedder_command": tuple(command)})

    Session.on = on  # type: ignore[method-assign]


def run_copy(order: dict[str, Any]) -> None:
    """In the copy: run the program, as its start does."""
    from ragops.cli.main import run

    with Path(order["out"]).open("wb", buffering=0) as out:
        for number in (1, 2):
            os.dup2(out.fileno(), number)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.environ["PGDATESTYLE"] = "ISO"
    points = Points(order["dies_at"], order["when"])
    watch(points)
    use_stub(order["stub"])
    code = run(order["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    Path(order["points"]).write_text(json.dumps(points.seen))
    os._exit(code)


def main() -> None:
    import ragops.campaign.run
    import ragops.cli.campaign
    import ragops.cli.session
    import ragops.report.campaign
    import ragops.report.console
    import ragops.report.terminal
    import ragops.workers.fleet  # noqa: F401 (loaded once for all copies)

    for line in sys.stdin:
        order = json.loads(line)
        copy = os.fork()
        if copy == 0:
            try:
                run_copy(order)
            finally:
                os._exit(99)
        _, status = os.waitpid(copy, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
