"""Choose the encoding that the playbook names for one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from ragops.documents.patterns import Selection


class Labels:
    """The value of `source.encoding`: one label for all files, or labels by patterns.

    Of several patterns that match a file, the longest one decides: the ledger, which keeps the playbook of a resumed
    campaign, loses the order of a mapping's keys.
    """

    def __init__(self, encoding: str | Mapping[str, str] | None) -> None:
        given = {"*": encoding} if isinstance(encoding, str) else encoding or {}
        by_length = sorted(given.items(), key=lambda item: (-len(item[0]), item[0]))
        self._choices = [(Selection((pattern,)), label) for pattern, label in by_length]

    def of(self, location: str) -> str | None:
        """Return the label for the file at a location; None if the playbook names none."""
        return next((label for selection, label in self._choices if _is_in(selection, location)), None)


def _is_in(selection: Selection, location: str) -> bool:
    *folders, name = PurePosixPath(location).parts
    place = selection.root
    for folder in folders:
        below = selection.enter(place, folder)
        if below is None:
            return False
        place = below
    return place.wants(name)
