"""Fingerprints of the workers that wrote vectors, with the vectors of their canary texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ragops.postgres.connection import Connection
from ragops.postgres.encodings import jsonb
from ragops.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class StoredFingerprint:
    """A fingerprint as the ledger has it."""

    document: Mapping[str, Any]
    canary: Mapping[str, Any] | None
    """None of a fleet that recorded none."""


def save_fingerprint(
    connection: Connection, *, id: str, document: Mapping[str, Any], canary: Mapping[str, Any] | None
) -> None:
    """Keep a fingerprint, and its canary vectors if there are none yet."""
    values = {
        "id": id,
        "document": jsonb(connection, document),
        "canary": None if canary is None else jsonb(connection, canary),
    }
    connection.execute(statement("ledger", "save_fingerprint"), values)


def load_fingerprint(connection: Connection, id: str) -> StoredFingerprint | None:
    """Return a fingerprint by its id; None if it was never saved."""
    row = connection.execute(statement("ledger", "load_fingerprint"), {"id": id}).fetchone()
    return StoredFingerprint(*row) if row else None
