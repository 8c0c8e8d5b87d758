"""Names of rows that stay, for people: `kb.articles (7, 2026-01-01)` instead of `1:["7", "2026-01-01"]`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ragops.playbook.targets import RowTarget
from ragops.postgres.row_relation import parse_location


def row_name(target: RowTarget, key: str) -> str:
    """Return the name of a row by its key as text."""
    return f"{target.table} ({', '.join(map(str, json.loads(key)))})"


def shown_location(targets: Sequence[RowTarget], location: str) -> str:
    """Return what a location of the queue is called; the location itself where it is no row of a target."""
    try:
        number, key = parse_location(location)
    except ValueError:
        return location
    if not 1 <= number <= len(targets):
        return location
    return f"{targets[number - 1].table} ({', '.join(key)})"
