"""The ledger: one campaign's row, its fence and its steps.

A controller holds a campaign by its `epoch`. Taking a campaign over raises the epoch, so whatever an
earlier holder still tries in a fenced transaction fails. The lease only says when taking over is polite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from ragops.errors import CampaignHeld, FenceLost, PlanRefused
from ragops.identity import holder_name, is_dead_here, short_name
from ragops.playbook.tables import Tables
from ragops.postgres.connection import Connection, fetch_row, transaction
from ragops.postgres.encodings import jsonb, server_encoding, storable
from ragops.postgres.statements import queue_key, statement

LEASE_S = 60.0
FINISHED = frozenset({"done", "abandoned", "undone"})
# What commands call a campaign whose controller was killed before it could write how it ended.
INTERRUPTED = "interrupted"
Waiting = Callable[[int], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """A campaign as the ledger has it."""

    id: int
    name: str
    playbook: dict[str, Any]
    plan: dict[str, object]
    status: str
    phase: int
    epoch: int
    holder: str | None
    lease_until: datetime | None
    lease_is_live: bool | None
    error: str | None
    queue: str | None = None
    """The qualified name of the queue that it fills; None of an older version, whose campaigns hold for all."""

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def source_folder(self) -> str | None:
        """The folder that the campaign's documents come from; None for another kind of source."""
        folder = self.playbook.get("source", {}).get("folder")
        return None if folder is None else str(folder)


@dataclass(frozen=True, slots=True)
class StepRow:
    number: int
    verb: str
    status: str
    effect: Mapping[str, object] | None
    """The result as JSON, as the step recorded it."""
    error: str | None
    seconds: float | None

    def recorded_number(self, key: str) -> int:
        """Return an integer of the recorded result; 0 where it has none of that name."""
        value = (self.effect or {}).get(key)
        return value if isinstance(value, int) else 0


def find_latest_campaign(connection: Connection, tables: Tables) -> CampaignRow | None:
    """The newest campaign of the mapped queue, or None where there was none yet, and no ledger maybe."""
    known = connection.execute("SELECT to_regclass('ragops.campaign') IS NOT NULL").fetchone()
    return latest_campaign(connection, tables) if known and known[0] else None


def latest_campaign(connection: Connection, tables: Tables) -> CampaignRow | None:
    row = connection.execute(_with_leases(connection, "latest", queue_key=queue_key(tables))).fetchone()
    return CampaignRow(*row) if row else None


def _with_leases(connection: Connection, name: str, **more: sql.Composable) -> sql.Composed:
    """Return a statement that reads campaigns with their leases, if there are any that the role may read."""
    readable = connection.execute(statement("catalog", "ragops_table"), {"name": "lease"}).fetchone()
    has_leases = readable is not None and readable[0]
    lease = sql.Identifier("ragops", "lease") if has_leases else statement("ledger", "no_lease")
    return statement("ledger", name, {"lease": lease, **more})


def all_campaigns(connection: Connection) -> list[CampaignRow]:
    """Return every campaign of this database, the oldest first."""
    return [CampaignRow(*row) for row in connection.execute(_with_leases(connection, "all_campaigns")).fetchall()]


def newest_campaign(connection: Connection) -> CampaignRow | None:
    """Return the newest campaign of any queue; None without one."""
    row = connection.execute(_with_leases(connection, "newest")).fetchone()
    return CampaignRow(*row) if row else None


def find_campaign(connection: Connection, id: int) -> CampaignRow | None:
    """Return a campaign by its number; None if there is no such one."""
    return next((campaign for campaign in all_campaigns(connection) if campaign.id == id), None)


def changing_campaigns(connection: Connection) -> set[int]:
    """Return the campaigns that dropped an index or emptied a table that held rows."""
    return {row[0] for row in connection.execute(statement("ledger", "changing_campaigns")).fetchall()}


def lock_campaigns(connection: Connection) -> None:
    """Let nobody start, take or end a campaign until the caller's transaction ends; readers go on."""
    connection.execute(statement("ledger", "lock_campaigns"))


def mark_undone(connection: Connection, campaigns: Sequence[int]) -> None:
    """End campaigns that were taken back; a controller that still holds one loses its fence."""
    connection.execute(statement("ledger", "undo_campaigns"), {"campaigns": list(campaigns)})


def campaign_steps(connection: Connection, campaign: int) -> list[StepRow]:
    rows = connection.execute(statement("ledger", "steps"), {"campaign": campaign}).fetchall()
    return [StepRow(*row) for row in rows]


def is_held(row: CampaignRow) -> bool:
    """Return whether a controller holds the campaign that lives, as far as its lease and this machine tell."""
    return bool(row.holder and row.lease_is_live and not is_dead_here(row.holder))


def true_status(row: CampaignRow) -> str:
    """Return the campaign's status; INTERRUPTED where the ledger says that it runs, and nobody runs it."""
    return INTERRUPTED if row.status == "running" and not is_held(row) else row.status


def check_free(row: CampaignRow) -> None:
    """Raise CampaignHeld when a living controller holds the campaign."""
    if row.holder and row.holder != holder_name() and is_held(row):
        until = f"{row.lease_until:%H:%M:%S %Z}" if row.lease_until else "?"
        raise CampaignHeld(
            f"campaign {row.id} is held by {short_name(row.holder)} until {until}",
            hint="wait for it, stop it there with Ctrl-C, or after that time: ragops reset --resume",
        )


class Ledger:
    """The ledger of one campaign that this process holds at `epoch`, over one connection."""

    def __init__(self, connection: Connection, campaign: int, epoch: int) -> None:
        self._connection = connection
        self.campaign = campaign
        self.epoch = epoch

    @classmethod
    def open_new(
        cls,
        connection: Connection,
        *,
        name: str,
        playbook: Mapping[str, object],
        plan: Mapping[str, object],
        steps: Sequence[tuple[int, str]],
        tables: Tables,
        check: Callable[[], None] = lambda: None,
    ) -> Ledger:
        """Write a new campaign of the mapped queue and its planned steps, as (number, verb), in one transaction.

        `check` runs while no other campaign can start. Raises CampaignHeld when another one of this queue was
        started in the meantime.
        """
        if storable(connection, playbook) != playbook:
            # A resumed campaign would read another folder than the one that is meant.
            raise PlanRefused(
                f"the encoding of this database, {server_encoding(connection)}, cannot store the playbook",
                expected="names and texts in the playbook that the encoding has",
                hint="rename the folder or file, or use a database in UTF8",
            )
        with transaction(connection):
            lock_campaigns(connection)
            other = latest_campaign(connection, tables)
            if other is not None and not other.is_finished:
                who = short_name(other.holder) if other.holder else "another controller"
                raise CampaignHeld(
                    f"campaign {other.id} was started by {who} at this moment",
                    hint="ragops status",
                )
            check()
            values = {
                "name": name,
                "playbook": jsonb(connection, playbook),
                "plan": jsonb(connection, plan),
                "holder": holder_name(),
                "lease_s": LEASE_S,
            }
            insert = statement("ledger", "insert_campaign", {"queue_key": queue_key(tables)})
            row = connection.execute(insert, values).fetchone()
            assert row is not None
            ledger = cls(connection, row[0], row[1])
            ledger._write_lease()
            for number, verb in steps:
                step_values = {"campaign": row[0], "number": number, "verb": verb}
                connection.execute(statement("ledger", "insert_step"), step_values)
        return ledger

    @classmethod
    def take(
        cls, connection: Connection, row: CampaignRow, *, waiting: Waiting = lambda _: nullcontext()
    ) -> Ledger:
        """Take over an unfinished campaign. Raises CampaignHeld while another controller holds it.

        It waits while an earlier holder's destructive transaction still runs, within `waiting(pid)`, which is told
        the server's process that waits.
        """
        check_free(row)
        values = {"campaign": row.id, "epoch": row.epoch, "holder": holder_name(), "lease_s": LEASE_S}
        with transaction(connection, is_long=True, lock_timeout_s=0):
            (pid,) = fetch_row(connection, statement("ledger", "backend"))
            with waiting(pid):
                connection.execute(statement("ledger", "fence"), {"campaign": row.id})
                # It may have come back meanwhile, from a pause that outlasted its lease.
                now = find_campaign(connection, row.id)
                if now is not None:
                    check_free(now)
                taken = connection.execute(statement("ledger", "take"), values).fetchone()
            if taken is None:
                raise CampaignHeld(
                    f"campaign {row.id} was taken by another controller at this moment", hint="ragops status"
                )
            ledger = cls(connection, row.id, taken[0])
            ledger._write_lease()
        return ledger

    def _write_lease(self) -> None:
        """Write the lease of a campaign that was opened or taken in the caller's transaction."""
        values = {**self._key, "holder": holder_name(), "lease_s": LEASE_S}
        self._connection.execute(statement("ledger", "write_lease"), values)

    def on(self, connection: Connection) -> Ledger:
        """The same hold over another connection, as a heartbeat has its own."""
        return Ledger(connection, self.campaign, self.epoch)

    @contextmanager
    def fenced(self, **options: Any) -> Iterator[None]:
        """A transaction that holds the campaign's row. Raises FenceLost when another controller took it."""
        with transaction(self._connection, **options):
            row = self._connection.execute(statement("ledger", "fence"), {"campaign": self.campaign}).fetchone()
            if row is None or row[0] != self.epoch:
                raise self._lost()
            yield

    @property
    def _key(self) -> dict[str, object]:
        return {"campaign": self.campaign, "epoch": self.epoch}

    def _lost(self) -> FenceLost:
        if find_campaign(self._connection, self.campaign) is None:
            return FenceLost(
                f"campaign {self.campaign} is not in the ledger any more; nothing was changed",
                hint="ragops status",
            )
        return FenceLost(
            f"campaign {self.campaign} was taken over by another controller; nothing was changed",
            hint="ragops status",
        )

    def _record(self, name: str, **values: Any) -> None:
        """Raises FenceLost, like every record of this campaign, when another controller took it."""
        if self._connection.execute(statement("ledger", name), {**self._key, **values}).rowcount != 1:
            raise self._lost()

    def renew(self) -> None:
        """Extend the lease, also while a transaction of this controller holds the campaign's row."""
        self._connection.execute(statement("ledger", "renew"), {**self._key, "lease_s": LEASE_S})

    def end_lease(self) -> None:
        """Let others take the campaign at once, whatever its status says; without effect once it has ended."""
        self._connection.execute(statement("ledger", "end_lease"), self._key)

    def set_phase(self, phase: int) -> None:
        """Open the queue up to `phase`."""
        self._record("set_phase", phase=phase)

    def step_started(self, number: int) -> None:
        self._record("step_started", number=number)

    def step_done(self, number: int, effect: Mapping[str, Any]) -> None:
        """Record the step, in the caller's transaction where its effect is one."""
        self._record("step_done", number=number, effect=jsonb(self._connection, effect))

    def step_noted(self, number: int, effect: Mapping[str, Any]) -> None:
        """Record what a running step is about to do."""
        self._record("step_noted", number=number, effect=jsonb(self._connection, effect))

    def step_failed(self, number: int, error: str, effect: Mapping[str, Any] | None = None) -> None:
        json = jsonb(self._connection, effect) if effect else None
        self._record("step_failed", number=number, error=storable(self._connection, error), effect=json)

    def finish(self, status: str, error: str | None = None) -> None:
        """Give the campaign up with this status. Raises FenceLost when another controller took it."""
        self._record("finish", status=status, error=storable(self._connection, error))

    def save_playbook(self, playbook: Mapping[str, object]) -> None:
        """Replace the playbook that the campaign goes on with."""
        self._record("save_playbook", playbook=jsonb(self._connection, playbook))

    def save_plan(self, plan: Mapping[str, object]) -> None:
        """Replace the plan that the campaign was started with by the one that was confirmed since."""
        self._record("save_plan", plan=jsonb(self._connection, plan))


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """What an operator changed of a campaign that was resumed."""

    setting: str
    before: Any
    after: Any
    by: str
    at: datetime

    def to_json(self) -> dict[str, object]:
        return {
            "setting": self.setting,
            "before": self.before,
            "after": self.after,
            "by": self.by,
            "at": self.at.isoformat(),
        }


def record_change(connection: Connection, campaign: int, setting: str, *, before: object, after: object) -> None:
    """Record a change of a campaign, in the caller's transaction."""
    values = {
        "campaign": campaign,
        "setting": setting,
        "before": jsonb(connection, before),
        "after": jsonb(connection, after),
        "process": short_name(holder_name()),
    }
    connection.execute(statement("ledger", "record_change"), values)


def campaign_changes(connection: Connection, campaign: int) -> list[ChangeRow]:
    """Return what was changed of a campaign, the oldest first; nothing in a ledger of an older version."""
    known = connection.execute(statement("catalog", "ragops_table"), {"name": "change"}).fetchone()
    if known is None or not known[0]:
        return []
    return [ChangeRow(*row) for row in connection.execute(statement("ledger", "changes"), {"campaign": campaign})]


def abandon(connection: Connection, row: CampaignRow) -> None:
    """End an unfinished campaign for good; what it did stays. Raises CampaignHeld while it is held."""
    check_free(row)
    values = {"campaign": row.id, "epoch": row.epoch}
    if connection.execute(statement("ledger", "abandon"), values).rowcount != 1:
        raise CampaignHeld(
            f"campaign {row.id} was taken by another controller at this moment", hint="ragops status"
        )
