"""Find index builds that other sessions run: the server finishes CREATE INDEX whether its client lives or not."""

from __future__ import annotations

from dataclasses import dataclass

from ragops.postgres.connection import Connection
from ragops.postgres.index_builds import StatementProgress, progress_of
from ragops.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class RunningBuild:
    """A CREATE INDEX or REINDEX of another session. A field is None if it is not known or may not be seen."""

    pid: int
    application: str
    user: str
    since_s: int | None
    index: str | None
    progress: StatementProgress | None
    waits_for: tuple[int, ...]
    """Sessions that it waits for; 0 is a prepared transaction."""

    def __str__(self) -> str:
        who = f"pid {self.pid}" + (f" ({self.application})" if self.application else "")
        what = f"the index {self.index}" if self.index else "an index"
        since = f" for {self.since_s:,} s" if self.since_s is not None else ""
        return f"{who}, user {self.user}, has been building {what}{since}"


def running_builds(connection: Connection, oid: int) -> list[RunningBuild]:
    """Return the builds of other sessions on the table with this oid."""
    rows = connection.execute(statement("catalog", "running_builds"), {"oid": oid}).fetchall()
    return [_build(*row) for row in rows]


def _build(
    pid: int, application: str, user: str, since_s: int | None, index: str | None, phase: str | None, *rest: object
) -> RunningBuild:
    *numbers, waits_for = rest
    assert isinstance(waits_for, list)
    progress = None if phase is None else progress_of(phase, *(int(str(number)) for number in numbers))
    return RunningBuild(pid, application, user, since_s, index, progress, tuple(waits_for))
