"""What can be taken back: the database's history of emptied tables and dropped indexes, in units. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ragops.postgres.archive import Archive
from ragops.postgres.vector_archives import VectorArchive

ABANDONED, UNDONE = "abandoned", "undone"


@dataclass(frozen=True, slots=True)
class Unit:
    """What one `ragops undo` takes back: a campaign, or one `ragops tables empty`."""

    campaign: int | None
    """None for `ragops tables empty`."""
    campaigns: tuple[int, ...]
    """The campaign and those directly before it that were given up: it took their place (`ragops reset --new`)."""
    archives: tuple[Archive, ...]
    """All of the unit's archives, the oldest first."""
    is_undone: bool
    vectors: tuple[VectorArchive, ...] = ()
    """Archives of vectors that the unit replaced in place, the oldest first."""

    @property
    def generation(self) -> int | None:
        """The newest emptying of the unit; None for a campaign that archived nothing."""
        return self.archives[-1].generation if self.archives else None

    @property
    def oldest_archives(self) -> list[Archive]:
        """Return the first archive of each table: its rows as they were before the unit.

        A later one of the same table holds what the unit itself stored meanwhile.
        """
        first: dict[int | str, Archive] = {}
        for archive in self.archives:
            first.setdefault(archive.table_oid or archive.qualified, archive)
        return list(first.values())


def units(
    statuses: Mapping[int, str],
    archives: Sequence[Archive],
    *,
    changed_by: Collection[int],
    vectors: Sequence[VectorArchive] = (),
) -> list[Unit]:
    """Return every unit, the oldest first.

    `statuses` are those of the campaigns by id, ascending; `changed_by` are the campaigns that
    dropped an index or emptied a table.
    Rows that an undo removed are no unit.
    """
    found: list[tuple[float, Unit]] = []
    for generation in sorted({a.generation for a in archives if a.campaign is None and a.undo is None}):
        own = tuple(a for a in archives if a.generation == generation and a.campaign is None)
        found.append((own[-1].number, Unit(None, (), own, all(a.is_restored for a in own))))
    place = 0.0
    for chain in _chains(statuses):
        own = tuple(a for a in archives if a.campaign in chain and a.undo is None)
        replaced = tuple(v for v in vectors if v.campaign in chain)
        if not own and not replaced and not any(campaign in changed_by for campaign in chain):
            continue
        # Archives are numbered in the order of time. A campaign without any comes right after the one before it.
        place = float(own[-1].number) if own else place + 0.5
        is_undone = statuses[chain[0]] == UNDONE
        found.append((place, Unit(chain[0], chain, own, is_undone, replaced)))
    return [unit for _, unit in sorted(found, key=lambda pair: pair[0])]


def _chains(statuses: Mapping[int, str]) -> list[tuple[int, ...]]:
    """Return the campaigns in groups, the newest of each group first: one with those given up before it."""
    chains: list[tuple[int, ...]] = []
    given_up: tuple[int, ...] = ()
    for campaign, status in statuses.items():
        given_up = (campaign, *given_up)
        if status != ABANDONED:
            chains.append(given_up)
            given_up = ()
    return [*chains, given_up] if given_up else chains
