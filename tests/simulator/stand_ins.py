"""What takes the place of children, threads, planning and reads of the catalog in a simulated process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch

from pgvector.psycopg.vector import register_vector_info
from psycopg.types import TypeInfo

from ragops import session as session_module
from ragops.campaign import execution, planning, waiting
from ragops.campaign.measure import Agreement
from ragops.campaign.plan import Outlook
from ragops.campaign.steps import embed as embedding
from ragops.campaign.steps import validate as validation
from ragops.campaign.steps.base import Run
from ragops.errors import NegativeVerdict
from ragops.facts import DatabaseFacts
from ragops.playbook.tables import Tables
from ragops.postgres import connection as connection_module
from ragops.postgres.catalog import Rows
from ragops.postgres.connection import Connection
from ragops.postgres.ledger import Ledger
from ragops.postgres.takeover import TakeoverWatch
from ragops.quality.validation import Measurements
from ragops.session import Session
from ragops.workers import space
from simulator.fleet import run_fleet
from simulator.processes import current_process
from simulator.world import Violation

# The chance that a validation fails.
FAILS_GATE = 0.05


@contextmanager
def _heartbeat(session: Session, ledger: Ledger) -> Iterator[None]:
    process = current_process()
    process.ledger, process.playbook = ledger, session.playbook
    try:
        yield
    finally:
        process.ledger = None


class _Validated(validation.ValidationResult):
    """A validation whose verdict was drawn."""

    @property
    def verdict(self) -> str:
        return "fail" if self.checks or self.processing_time_ms else "pass"

    def refuse_failure(self) -> None:
        if self.verdict == "fail":
            raise NegativeVerdict("validation failed")

    def to_json(self) -> dict[str, object]:
        return {"verdict": self.verdict}


def _validate(run: Run, *, after: int | None = None, seed: float | None = None) -> _Validated:
    """Wait for the gate as the real step does, look whether it is one, and draw a verdict."""
    process = current_process()
    if after is not None:
        validation.wait_until(run, after)
    for _ in range(process.rng.randint(0, 2)):
        run.session.stop.requested.wait(1.0)
        run.session.queue.counts()
    try:
        process.world.oracle.judge_gate(process, after=after)
    except Violation as violation:
        process.world.violation = violation
    fails = process.rng.random() < FAILS_GATE
    counts = run.session.through_outages(lambda: run.session.queue.counts())
    measured = cast(Measurements, SimpleNamespace(has_queue=True, queue=counts))
    return _Validated((), measured, cast(Agreement, None), int(fails))


def _virtual_s() -> float:
    return current_process().world.now_us / 1e6


_COUNTS = " UNION ALL ".join(
    f"SELECT '{logical}', count(*) FROM {table.schema or 'public'}.{table.name}"
    for logical, table in Tables().mapped().items()
)


def _read_database(connection: Connection, tables: Tables, *, rows: Rows = Rows.EXACT) -> DatabaseFacts:
    """Return the facts, with the rows as they are now: reading the catalog takes 30 ms, and nothing changes it."""
    facts = current_process().world.facts
    counts: dict[str, int] = dict(connection.execute(_COUNTS.encode()).fetchall())
    counted = {name: table and replace(table, rows=counts[name]) for name, table in facts.tables.items()}
    return replace(facts, tables=counted)


def _register_types(connection: Connection) -> bool:
    """Register pgvector's type without asking for its oid each time: all databases are copies of one."""
    register_vector_info(connection, TypeInfo(*current_process().world.vector_type))
    return True


@contextmanager
def simulated_program() -> Iterator[None]:
    """Put the simulated fleet in the place of children and threads; planning looks at facts alone."""
    with ExitStack() as stack:
        for module, name, value in (
            (execution, "heartbeat", _heartbeat),
            # It only tells people what is waited for.
            (TakeoverWatch, "waiting", lambda watch, pid: nullcontext()),
            (embedding, "_run_fleet", run_fleet),
            (validation, "validate", _validate),
            # Two fleets whose models are the same have the same build here.
            (space, "embed_canaries", lambda *_, **__: None),
            (session_module, "read_database", _read_database),
            (connection_module, "register_vector_types", _register_types),
            (planning, "look_ahead", lambda *_, **__: Outlook((), ())),
            # The seconds that this machine takes would decide when somebody goes on after an outage.
            (waiting, "time", SimpleNamespace(monotonic=_virtual_s)),
            (validation, "time", SimpleNamespace(monotonic=_virtual_s)),
        ):
            stack.enter_context(patch.object(module, name, value))
        yield
