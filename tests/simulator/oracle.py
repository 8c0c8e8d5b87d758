"""The promises: what each commit may have changed, judged by who made it.

The oracle knows nothing of ragops' statements. It compares the database before and after each commit and asks
whether the process that committed had the right to do this: by its claim, by its epoch, by the clock, or by the
death of another process that it can know of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragops.errors import CampaignHeld, DatabaseUnavailable, Interrupted, RagopsError
from simulator.snapshot import Campaign, Item, Snapshot, shown, take_snapshot
from simulator.world import POOLINGS, Violation, World, embed_text, read_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from simulator.processes import Process

VECTOR_DIGITS = 1e-5
# What keeps an undo from its work for a while: a controller, a database that is away, a signal, others' locks, and
# that there is nothing to do.
PASSES = (CampaignHeld, DatabaseUnavailable, Interrupted)
NOTHING = "there is nothing to bring back"
REASONS = (NOTHING, "another undo ran at this moment", "could not get a lock", "collided with other transactions")


@dataclass
class Filling:
    """What the queue was filled with."""

    source: str
    gates: tuple[int, ...]


@dataclass
class Unit:
    """What one undo takes back: campaigns, and the rows as they were before."""

    campaigns: list[int]
    before: Snapshot
    filling: Filling | None
    since_us: int
    is_undone: bool = False


class Oracle:
    """Compares each commit with the one before it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.last = take_snapshot(world.admin)
        self.filling: Filling | None = None
        self.units: list[Unit] = []
        self._controllers: dict[tuple[int, int], Process] = {}
        self._claimants: dict[str, Process] = {}
        self._lapsed_us: dict[int, int] = {}
        self.reopened = 0
        """Failed items that were opened again in this filling."""

    @property
    def has_open_campaign(self) -> bool:
        return self.last.open_campaign is not None

    @property
    def space(self) -> str | None:
        """The space of what is stored; None while nothing is."""
        document = next(iter(self.last.documents.values()), None)
        return None if document is None else space_of(document.vector, document.text)

    def observe(self, movers: Collection[Process]) -> None:
        """Judge what has changed since the last look. Raises Violation."""
        new = take_snapshot(self._world.admin, self.last)
        old, self.last = self.last, new
        self._judge_campaigns(old, new, movers)
        if any(c.status == "undone" and old.campaigns[id].status != "undone" for id, c in new.campaigns.items()):
            self._judge_undo(new, movers)
        elif _newly_done(old, new, "empty_tables"):
            self._judge_emptying(old, new, movers)
        elif _newly_done(old, new, "reseed_queue"):
            self._judge_filling(old, new, movers)
        elif old.rows != new.rows:
            if old.items.keys() != new.items.keys():
                if any(p.kind == "reseed" for p in movers):
                    self._judge_filling(old, new, movers)
                    return
                raise Violation("effect and record commit together", f"the queue was changed by {names(movers)}")
            self._judge_items(old, new, movers)
        if old.rows != new.rows:
            self._judge_rows(new)

    # Campaigns: whoever changes one holds its epoch, and an epoch is taken from nobody whose lease runs.

    def _judge_campaigns(self, old: Snapshot, new: Snapshot, movers: Collection[Process]) -> None:
        for id, campaign in new.campaigns.items():
            before = old.campaigns.get(id)
            if before is None:
                self._note_controller(campaign, movers)
                earlier = old.open_campaign
                if earlier is not None and not new.campaigns[earlier.id].is_finished:
                    raise Violation("one unfinished campaign at a time", f"{campaign} beside {earlier}")
            elif before.epoch != campaign.epoch:
                self._judge_taking(before, campaign, movers)
            elif before != campaign and self._controllers.get((id, campaign.epoch)) not in movers:
                raise Violation(
                    "one controller acts per epoch",
                    f"{before} became {campaign} by {names(movers)}; it is held by "
                    f"{self._controllers.get((id, campaign.epoch))}",
                )
            if any(c is not None and (c.lease_us or 0) <= self._world.now_us for c in (before, campaign)):
                # It ran out some time before this commit.
                self._lapsed_us[id] = self._world.now_us
        for key, status in new.steps.items():
            campaign = new.campaigns[key[0]]
            holder = self._controllers.get((campaign.id, campaign.epoch))
            if key in old.steps and old.steps[key] != status and holder not in movers:
                raise Violation(
                    "an earlier controller records nothing", f"step {key}: {status} by {names(movers)}"
                )

    def _judge_taking(self, before: Campaign, after: Campaign, movers: Collection[Process]) -> None:
        if after.epoch < before.epoch:
            raise Violation("an epoch only grows", f"{before} became {after}")
        holder = self._controllers.get((before.id, before.epoch))
        if not before.is_finished and not self._may_take(before, holder, movers):
            raise Violation(
                "a campaign's lease that runs is respected",
                f"{before} of {holder} (until {shown(before.lease_us)}) became {after} by {names(movers)} at "
                f"{shown(self._world.now_us)}",
            )
        if after.status == "running":
            self._note_controller(after, movers)
        else:
            self._controllers.pop((after.id, after.epoch), None)

    def _may_take(self, before: Campaign, holder: Process | None, movers: Collection[Process]) -> bool:
        now = self._world.now_us
        # A lease of another holder may have been written between the taker's look and its own write.
        if before.holder is None or before.lease_us is None or before.lease_us <= now or holder is None:
            return True
        # It had run out while the taker looked, and its holder has renewed it since: harmless, the epoch decides.
        if any(self._lapsed_us.get(before.id, -1) >= mover.begun_us for mover in movers):
            return True
        return holder in movers or any(knows_dead(mover, holder) for mover in movers)

    def _note_controller(self, campaign: Campaign, movers: Collection[Process]) -> None:
        owners = [p for p in movers if campaign.holder and p.is_called(campaign.holder)]
        if len(owners) != 1:
            raise Violation("a campaign names its holder", f"{campaign} by {names(movers)}")
        self._controllers[campaign.id, campaign.epoch] = owners[0]

    def _is_controller(self, movers: Collection[Process]) -> bool:
        campaign = self.last.open_campaign
        return campaign is not None and self._controllers.get((campaign.id, campaign.epoch)) in movers

    # Items: whoever changes one holds its claim, and a claim is taken from nobody whose lease runs.

    def _judge_items(self, old: Snapshot, new: Snapshot, movers: Collection[Process]) -> None:
        for id, item in new.items.items():
            before = old.items[id]
            if before == item:
                continue
            if (before.location, before.phase) != (item.location, item.phase):
                raise Violation("an item stays what it is", f"{before} became {item}")
            self._judge_change(before, item, movers, gate=self._gate(old, new))
        self._judge_stored(old, new, movers)

    def _judge_change(self, before: Item, item: Item, movers: Collection[Process], *, gate: int) -> None:
        owner = self._claimants.get(before.claim or "")
        if before.status == "completed":
            raise Violation("what is completed stays completed", f"{before} became {item} by {names(movers)}")
        if before.status == "failed":
            if item.status != "pending" or not any(p.kind == "retry" for p in movers):
                raise Violation("what failed stays failed until it is retried", f"{before} became {item}")
            self.reopened += 1
            return
        if (
            before.status == "processing"
            and item.claim != before.claim
            and item.status in ("pending", "processing")
        ):
            self._judge_return(before, item, owner, movers)
        if item.status == "processing":
            if item.claim == before.claim:
                if owner not in movers:
                    raise Violation("a claim is its owner's", f"{before} became {item} by {names(movers)}")
                return
            claimants = [p for p in movers if item.worker and p.is_called(item.worker)]
            if item.claim is None or len(claimants) != 1 or item.lease_us is None:
                raise Violation("a claim has an id, an owner and a lease", f"{item} by {names(movers)}")
            if item.phase > gate:
                raise Violation(
                    "nothing is claimed behind a gate", f"{item} behind gate {gate} by {names(movers)}"
                )
            if item.lease_us <= self._world.now_us:
                raise Violation("a new claim has a lease that runs", f"{item} at {shown(self._world.now_us)}")
            self._claimants[item.claim] = claimants[0]
        elif item.status in ("completed", "failed") and (
            before.status != "processing" or owner is None or owner not in movers
        ):
            raise Violation(
                "only its own claim ends an item", f"{before} became {item} by {names(movers)}, claim of {owner}"
            )

    def _judge_return(self, before: Item, item: Item, owner: Process | None, movers: Collection[Process]) -> None:
        now = self._world.now_us
        if owner is None or owner in movers or before.lease_us is None or before.lease_us <= now:
            return
        if not any(knows_dead(mover, owner) for mover in movers):
            raise Violation(
                "a claim's lease that runs is respected",
                f"{before} of {owner} (until {shown(before.lease_us)}) became {item} by {names(movers)} at "
                f"{shown(now)}",
            )

    def _judge_stored(self, old: Snapshot, new: Snapshot, movers: Collection[Process]) -> None:
        if not old.documents.items() <= new.documents.items() or not old.chunks <= new.chunks:
            raise Violation("what is stored stays", f"documents changed or went by {names(movers)}")
        ended = [
            i for i in new.items.values() if i.status == "completed" and old.items[i.id].status != "completed"
        ]
        added = [d for id, d in new.documents.items() if id not in old.documents]
        if sorted(i.id for i in ended) != sorted(d.item for d in added):
            raise Violation(
                "vectors exist if and only if their item is completed",
                f"completed {[i.id for i in ended]}, stored {[d.item for d in added]} by {names(movers)}",
            )
        parsed, metrics = new.parsed - old.parsed, sum(m[2] for m in new.metrics - old.metrics)
        if len(parsed) != len(added) or metrics != len(added):
            raise Violation(
                "every table gets its rows once", f"{len(added)} documents, {len(parsed)} parsed, {metrics}"
            )

    def _gate(self, old: Snapshot, new: Snapshot) -> int:
        """Return the last phase that was open before or after this commit."""
        return max(32_767 if c is None else c.phase for c in (old.open_campaign, new.open_campaign))

    # Contents: tables are emptied, filled and restored as a whole, by who may.

    def _judge_emptying(self, old: Snapshot, new: Snapshot, movers: Collection[Process]) -> None:
        campaign = new.open_campaign
        if campaign is None or not self._is_controller(movers):
            raise Violation("only the controller empties", f"by {names(movers)}, {campaign}")
        if new.items or new.documents or new.chunks or new.parsed or new.metrics:
            raise Violation("the tables are emptied together", f"{len(new.documents)} documents are left")
        unit = self.units[-1] if self.units else None
        if unit is not None and not unit.is_undone and self._goes_on(unit, campaign, new):
            unit.campaigns.append(campaign.id)
        else:
            self.units.append(Unit([campaign.id], old, self.filling, self._world.now_us))
        self.filling = None

    def _goes_on(self, unit: Unit, campaign: Campaign, new: Snapshot) -> bool:
        """Return whether a campaign took the place of those before it, which were given up."""
        between = [c for c in new.campaigns.values() if unit.campaigns[-1] <= c.id < campaign.id]
        return all(c.status == "abandoned" for c in between)

    def _judge_filling(self, old: Snapshot, new: Snapshot, movers: Collection[Process]) -> None:
        seeders = [p for p in movers if p.kind == "reseed" or self._is_controller([p])]
        intended = [p.intended_filling() for p in seeders]
        # Of two that wait for each other's lock the database says which one it was.
        recorded = [
            f for f in intended if self._world.corpora[f.source] == Path((new.source or {}).get("folder", ""))
        ]
        if not recorded:
            raise Violation("only a controller or an operator fills", f"by {names(movers)}, {new.open_campaign}")
        if old.items or not new.items:
            raise Violation("a queue is filled when it is empty", f"by {names(movers)}")
        self.filling = recorded[0]
        self.reopened = 0
        phases = [1 + sum(gate <= place for gate in self.filling.gates) for place in range(len(new.items))]
        if [item.phase for _, item in sorted(new.items.items())] != phases:
            raise Violation("filling assigns the phases", f"by {names(movers)}")
        if any(item.status != "pending" for item in new.items.values()):
            raise Violation("a filled queue is pending", f"by {names(movers)}")

    def _judge_undo(self, new: Snapshot, movers: Collection[Process]) -> None:
        unit = next((unit for unit in reversed(self.units)), None)
        if unit is None or unit.is_undone:
            raise Violation("undo takes back the newest campaign, once", f"{unit} by {names(movers)}")
        # A retry that waited for the undo's locks has committed as well before anyone could look.
        retried = {
            id: item
            for id, item in new.items.items()
            if item.status == "pending" and id in unit.before.items and unit.before.items[id].status == "failed"
        } if any(mover.kind == "retry" for mover in movers) else {}  # fmt: skip
        expected = replace(unit.before, items=unit.before.items | retried)
        if new.rows != expected.rows:
            raise Violation("undo brings back exactly the archived rows", difference(expected, new))
        if any(new.campaigns[id].status != "undone" for id in unit.campaigns):
            raise Violation("undo ends what it takes back", f"{unit.campaigns}: {new.campaigns}")
        unit.is_undone = True
        self.filling, self.reopened = unit.filling, len(retried)

    def judge_refused_undo(self, process: Process, refusal: RagopsError) -> None:
        """Judge an undo that has changed nothing: rows that could come back must come back. Raises Violation."""
        unit = self.units[-1] if self.units else None
        may_bring_back = unit is not None and not unit.is_undone and unit.since_us < process.begun_us
        is_known = isinstance(refusal, PASSES) or any(refusal.what.startswith(reason) for reason in REASONS)
        if not is_known or (may_bring_back and refusal.what.startswith(NOTHING)):
            raise Violation("undo is refused for a reason alone", f"{process}: {refusal.what}")

    # Rows: what is stored is what this filling's source and model give.

    def _judge_rows(self, new: Snapshot) -> None:
        stored = sorted(document.item for document in new.documents.values())
        completed = sorted(item.id for item in new.with_status("completed"))
        if stored != completed:
            raise Violation("one document for each completed item", f"stored {stored}, completed {completed}")
        filling = self.filling
        if filling is None:
            return
        spaces: set[str] = set()
        chunks = {document: (text, vector) for document, _, text, vector in new.chunks}
        for document in new.documents.values():
            text = read_text(filling.source, document.location)
            if document.location != new.items[document.item].location or document.text != text:
                raise Violation("the stored text is that of the source", f"{document}, expected {text!r}")
            for vector in (document.vector, chunks.get(document.id, ("", "[]"))[1]):
                spaces.add(space_of(vector, document.text))
        if len(spaces) > 1 or "no space" in spaces:
            raise Violation("the stored vectors are of one space", f"{sorted(spaces)} in {new.documents.values()}")

    def judge_gate(self, process: Process, *, after: int | None) -> None:
        """Judge the moment at which a controller believes that a gate is reached. Raises Violation."""
        snapshot, filling = self.last, self.filling
        campaign = snapshot.open_campaign
        if campaign is None or filling is None or not self._is_controller([process]):
            return
        ended = snapshot.with_status("completed", "failed")
        due = len(snapshot.items) if after is None else min(after, len(snapshot.items))
        if len(ended) + self.reopened < due or len(ended) > due:
            raise Violation("a gate is reached with exactly its items", f"{len(ended)} of {due}, {campaign}")


def space_of(vector: str, text: str) -> str:
    """Return the pooling that gives a text this vector."""
    found = [float(x) for x in vector.strip("[]").split(",") if x]
    for pooling in POOLINGS:
        wanted = [float(x) for x in embed_text(text, pooling)]
        if len(found) == len(wanted) and all(
            abs(a - b) <= VECTOR_DIGITS for a, b in zip(found, wanted, strict=True)
        ):
            return pooling
    return "no space"


def _newly_done(old: Snapshot, new: Snapshot, verb: str) -> bool:
    """Return whether a step with this verb has been recorded as done."""
    return any(step == (verb, "done") and old.steps.get(key, ("", "")) != step for key, step in new.steps.items())


def knows_dead(one: Process, other: Process) -> bool:
    """Return whether a process can know that another one is dead: it ran on the same machine."""
    return one.host == other.host and not other.is_alive


def names(movers: Collection[Process]) -> str:
    return ", ".join(sorted(map(str, movers)))


def difference(expected: Snapshot, found: Snapshot) -> str:
    """Return in words in which tables two snapshots differ."""
    tables = ("files_queue", "documents", "document_chunks", "parsed_files", "ingestion_metrics", "source")
    parts = [
        f"{table}: {_size(a)} expected, {_size(b)} found"
        for table, a, b in zip(tables, expected.rows, found.rows, strict=True)
        if a != b
    ]
    return "; ".join(parts)


def _size(part: object) -> str:
    return f"{len(part)} rows" if isinstance(part, dict | frozenset) else str(part)
