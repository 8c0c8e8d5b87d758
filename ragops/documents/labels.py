"""Choose the encoding that the playbook names for one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from ragops.documents.patterns import Selection


class Labels:
    """The value of `source.encoding`: a label for all files, or labels by patterns, of which the first decides."""

    def __init__(self, encoding: str | Sequence[tuple[str, str]] | None) -> None:
        """Raises UsageError for a pattern that leads outside the folder."""
        pairs = (("*", encoding),) if isinstance(encoding, str) else encoding or ()
        self._choices = [(Selection((pattern,)), label) for pattern, label in pairs]

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
