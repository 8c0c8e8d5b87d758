"""One look at everything that the promises speak of, in one statement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import psycopg

from simulator.clock import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017

_LEDGER = """
SELECT (SELECT json_agg(json_build_array(c.id, c.status, c.phase, c.epoch, c.holder,
                        (extract(epoch FROM l.lease_until) * 1000000)::bigint, c.error) ORDER BY c.id)
          FROM ragops.campaign c LEFT JOIN ragops.lease l ON l.campaign_id = c.id),
       (SELECT json_agg(json_build_array(campaign_id, number, verb, status)) FROM ragops.step),
       (SELECT json_agg(source) FROM ragops.source)
"""
_ROWS = """,
       (SELECT json_agg(json_build_array(id, file_path, status, claim_id, claimed_by, phase, attempts,
                        (extract(epoch FROM lease_until) * 1000000)::bigint)) FROM files_queue),
       (SELECT json_agg(json_build_array(id, file_id, file_path, content, embedding::text)) FROM documents),
       (SELECT json_agg(json_build_array(document_id, chunk_index, content, embedding::text))
          FROM document_chunks),
       (SELECT json_agg(json_build_array(id, file_id, content_hash)) FROM parsed_files),
       (SELECT json_agg(json_build_array(id, worker, documents)) FROM ingestion_metrics)
"""


class Item(NamedTuple):
    """One row of the queue."""

    id: int
    location: str
    status: str
    claim: str | None
    worker: str | None
    phase: int
    attempts: int
    lease_us: int | None


class Document(NamedTuple):
    id: int
    item: int
    location: str
    text: str
    vector: str


class Campaign(NamedTuple):
    id: int
    status: str
    phase: int
    epoch: int
    holder: str | None
    lease_us: int | None
    error: str | None

    @property
    def is_finished(self) -> bool:
        return self.status in ("done", "abandoned", "undone")


@dataclass(frozen=True)
class Snapshot:
    """The five tables and the ledger at one moment."""

    items: dict[int, Item]
    documents: dict[int, Document]
    chunks: frozenset[tuple[Any, ...]]
    parsed: frozenset[tuple[Any, ...]]
    metrics: frozenset[tuple[Any, ...]]
    campaigns: dict[int, Campaign]
    steps: dict[tuple[int, int], tuple[str, str]]
    source: dict[str, Any] | None

    @property
    def rows(self) -> tuple[object, ...]:
        """The contents of the five tables, and what the queue was filled from: what an undo brings back."""
        source = None if self.source is None else self.source.get("folder")
        return (self.items, self.documents, self.chunks, self.parsed, self.metrics, source)

    @property
    def open_campaign(self) -> Campaign | None:
        newest = self.campaigns[max(self.campaigns)] if self.campaigns else None
        return None if newest is None or newest.is_finished else newest

    def with_status(self, *statuses: str) -> list[Item]:
        return [item for item in self.items.values() if item.status in statuses]


def take_snapshot(connection: Connection, last: Snapshot | None = None) -> Snapshot:
    """Look at everything. Tables that someone keeps readers out of are as they were at the last look."""
    try:
        parts = _read(connection, _LEDGER + _ROWS)
    except psycopg.errors.LockNotAvailable:
        assert last is not None
        campaigns, steps, sources = _read(connection, _LEDGER)
        return replace(last, **_ledger(campaigns, steps, sources))
    campaigns, steps, sources, items, documents, chunks, parsed, metrics = parts
    return Snapshot(
        items={item[0]: Item(*item) for item in items},
        documents={document[0]: Document(*document) for document in documents},
        chunks=frozenset(map(tuple, chunks)),
        parsed=frozenset(map(tuple, parsed)),
        metrics=frozenset(map(tuple, metrics)),
        **_ledger(campaigns, steps, sources),
    )


def _read(connection: Connection, query: str) -> list[list[Any]]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return [[] if part is None else part for part in row]


def _ledger(campaigns: list[Any], steps: list[Any], sources: list[Any]) -> dict[str, Any]:
    return {
        "campaigns": {campaign[0]: Campaign(*campaign) for campaign in campaigns},
        "steps": {(campaign, number): (verb, status) for campaign, number, verb, status in steps},
        "source": sources[0] if sources else None,
    }


def shown(us: int | None) -> str:
    """Return a virtual time for people."""
    return "no time" if us is None else f"{_EPOCH + timedelta(microseconds=us):%m-%d %H:%M:%S.%f}"
