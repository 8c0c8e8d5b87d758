"""One command's surroundings: playbook, target, connection, voice, signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from ragops.cli.chosen_playbook import Adopts, with_campaign_playbook
from ragops.errors import Interrupted, UsageError
from ragops.paths import demo_file, server_folder, with_defaults

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import RenderableType

    from ragops.campaign.reading import Needs
    from ragops.facts import DatabaseFacts
    from ragops.playbook.model import Playbook
    from ragops.postgres.connection import Target
    from ragops.reporter import Reporter
    from ragops.session import Session
    from ragops.workers.state import Stop


def load(playbook: str, dsn: str | None, *, reporter: Reporter | None = None) -> tuple[Playbook, Target | None]:
    """Return the playbook with the target it is to run on; None means the embedded server.

    On the embedded server the demo's corpus and model stand in for variables that are not set.
    """
    from ragops.playbook import load_playbook
    from ragops.postgres.connection import parse_dsn

    loaded = load_playbook(playbook, environment=os.environ)
    given = dsn or os.environ.get("RAGOPS_DSN") or loaded.database.dsn
    if given:
        target = parse_dsn(given, allow_plaintext=loaded.database.allow_plaintext)
        if reporter is not None:
            for note in target.notes:
                reporter.info(f"DSN: {note}")
        return in_schema(loaded, target.schema), target
    defaults = demo_defaults()
    if not defaults:
        return loaded, None
    with_demo = load_playbook(playbook, environment=with_defaults(os.environ, defaults))
    if reporter is not None and with_demo != loaded:
        # A playbook for rows that stay has no corpus.
        corpus = f"corpus ({with_demo.source.folder}) and " if with_demo.source.folder else ""
        reporter.info(
            f"no DSN: working on the embedded database in {server_folder()}, with the demo's "
            f"{corpus}model ({with_demo.model.file})"
        )
    return with_demo, None


def in_schema(playbook: Playbook, schema: str | None) -> Playbook:
    """Return the playbook with a DSN's schema in front of every table that has none."""
    if schema is None:
        return playbook
    from ragops.playbook.names import TableName

    # Copies without validation: only names that were valid change.
    changes: dict[str, object] = {"tables": playbook.tables.in_schema(schema)}
    if playbook.source.table is not None:
        table = TableName.parse(playbook.source.table).in_schema(schema)
        changes["source"] = playbook.source.model_copy(update={"table": table.quoted()})
    changes["targets"] = tuple(
        target.model_copy(update={"table": TableName.parse(target.table).in_schema(schema).quoted()})
        for target in playbook.targets
    )
    return playbook.model_copy(update=changes)


def demo_defaults() -> Mapping[str, str]:
    """Return the variables that the demo left; empty without a demo."""
    import json

    file = demo_file()
    if not file.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in found["variables"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Half written by a demo that was killed: as if there had been none.
        return {}


@runtime_checkable
class Result(Protocol):
    """What a command did, as `--json` prints it."""

    def to_json(self) -> dict[str, object]: ...


Shown = TypeVar("Shown", bound=Result | Mapping[str, object])


@contextmanager
def open_session(
    playbook: str,
    dsn: str | None,
    *,
    changes: Mapping[str, dict[str, object]] | None = None,
    adopts: Adopts = "always",
) -> Iterator[Session]:
    """Open what a command works with, and check nothing yet.

    `changes` are the command line's, by section of the playbook. `adopts`: whether a command without a playbook
    takes that of the newest campaign, if it works on rows. Raises UsageError, PlaybookError or
    DatabaseUnavailable.
    """
    from ragops.postgres.connection import connect
    from ragops.postgres.setup import ensure_pgvector
    from ragops.postgres.watchdog import Watchdog
    from ragops.report.console import console_reporter
    from ragops.session import Session

    reporter = console_reporter()
    loaded, target = load(playbook, dsn, reporter=reporter)
    # A wrong override is a wrong command line: it is refused before a server is started for it.
    adapted = loaded.with_changes(**(changes or {}))
    target = target or start_embedded()
    with stoppable(reporter) as stop:
        if target.is_embedded:
            # The embedded database is ours: it always has pgvector.
            with connect(target, with_vector=False) as first:
                ensure_pgvector(first, target)
        connection = connect(target, timeout_s=adapted.database.connect_timeout_s)
        session = Session.on(connection, target, adapted, reporter=reporter, stop=stop)
        try:
            with Watchdog(target, is_aborted=stop.aborted.is_set, info=reporter.info):
                yield session.through_outages(
                    lambda: with_campaign_playbook(session, adopts=adopts, changes=changes or {})
                )
        finally:
            reporter.end_progress()
            session.database.close()


@contextmanager
def read_session(
    playbook: str,
    dsn: str | None,
    *,
    changes: Mapping[str, dict[str, object]] | None = None,
) -> Iterator[Session]:
    """Open a session of a command that plans to write: every mapped table must be there and fit.

    Raises as `open_session`, and PlanRefused for tables that are missing or of the wrong shape.
    """
    with open_session(playbook, dsn, changes=changes) as session:
        require_tables(session)
        yield session


@contextmanager
def look(
    playbook: str,
    dsn: str | None,
    *,
    needs: Needs,
    extras: Needs | None = None,
    computes: bool = False,
    changes: Mapping[str, dict[str, object]] | None = None,
) -> Iterator[tuple[Session, DatabaseFacts]]:
    """Open a session of a command that only looks, with the catalog as it is; it waits for no lock.

    `needs` are the columns that it cannot do without, `extras` those that it reads where it can; what it cannot
    read of these is said. `computes`: it uses pgvector's operators. Raises as `open_session`, and PlanRefused.
    """
    from ragops.campaign.reading import notes, refuse_unreadable

    with open_session(playbook, dsn, changes=changes) as session:
        facts = session.facts(scans=False)
        _refuse_empty(session, facts)
        tables = session.playbook.tables
        if session.playbook.targets:
            from ragops.campaign.row_status import QUEUE, session_for_rows

            named = set(needs)
            yield (
                session_for_rows(session, facts, needs_rows=bool(named - {QUEUE}), needs_queue=QUEUE in named),
                facts,
            )
            return
        refuse_unreadable(tables, facts, needs, where=session.target.label, computes=computes)
        for note in notes(tables, facts, {**needs, **(extras or {})}):
            session.reporter.info(note)
        yield session, facts


@contextmanager
def write_session(
    playbook: str,
    dsn: str | None,
    *,
    changes: Mapping[str, dict[str, object]] | None = None,
    needs_tables: bool = True,
    is_shared: bool = False,
    adopts: Adopts = "always",
) -> Iterator[Session]:
    """Open a session that may write: with ragops' own schema, and refused while a controller runs a campaign.

    `is_shared` allows it beside a controller, as workers on several machines are. Raises as `read_session`,
    and CampaignHeld, before anything was changed.
    """
    from ragops.postgres.ledger import check_free, find_latest_campaign
    from ragops.postgres.setup import ensure_ragops_schema

    with open_session(playbook, dsn, changes=changes, adopts=adopts) as session:

        def prepare() -> None:
            if needs_tables:
                require_tables(session)
            ensure_ragops_schema(session.connection)
            row = find_latest_campaign(session.connection, session.playbook.tables)
            if not is_shared and row is not None and not row.is_finished:
                check_free(row)

        session.through_outages(prepare)
        yield session


@contextmanager
def stoppable(reporter: Reporter) -> Iterator[Stop]:
    """Install the signals; one that ends everything at once is raised as Interrupted, with its exit code."""
    stop = install_signals(reporter)
    try:
        yield stop
    except KeyboardInterrupt:
        raise Interrupted("stopped", signal_number=stop.signal_number) from None


def start_embedded() -> Target:
    """Return the embedded server's database; start the server if need be."""
    from ragops.postgres.embedded import EmbeddedServer

    return EmbeddedServer(server_folder()).start()


def require_tables(session: Session) -> DatabaseFacts:
    """Return the database as the catalog has it. Raises UsageError or PlanRefused if the playbook does not fit."""
    from ragops.campaign.preflight import find_table_problems, refuse_problems

    facts = session.facts(scans=False)
    _refuse_empty(session, facts)
    refuse_problems(find_table_problems(session.playbook, facts, model=None), where=session.target.label)
    return facts


def refuse_rows(session: Session, command: str, hint: str) -> None:
    """Raise UsageError for a command that is about files alone, with a playbook whose rows stay."""
    if session.playbook.targets:
        raise UsageError(
            f"{command} is for playbooks without targets",
            where=session.target.label,
            actual=f"targets: {', '.join(target.table for target in session.playbook.targets)}",
            hint=hint,
        )


def _refuse_empty(session: Session, facts: DatabaseFacts) -> None:
    """Raise UsageError on an embedded database without any table: there is nothing to look at yet."""
    is_for_rows = bool(session.playbook.targets)
    if session.target.is_embedded and not is_for_rows and not any(facts.tables.values()):
        raise UsageError(
            "the embedded database is empty",
            where=session.target.label,
            expected="tables and a corpus",
            hint="ragops demo   or: ragops db init   or name your own database: --dsn postgresql://…",
        )


def install_signals(reporter: Reporter) -> Stop:
    """Ctrl-C and SIGTERM: the first lets a fleet finish its requests, the next one ends everything at once."""
    from ragops.workers.state import Stop

    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.signal_number = number
        if stop.is_graceful and not stop.requested.is_set():
            stop.requested.set()
            reporter.info("stopping after the requests in flight; once more stops at once")
            return
        if stop.is_graceful and not stop.aborted.is_set():
            # Not KeyboardInterrupt, which may come between the start of a thread and the note that it runs: the
            # fleet looks at this several times a second. A third signal is for a fleet that does not.
            stop.aborted.set()
            return
        stop.aborted.set()
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handle)
    return stop


def confirm(question: str, *, answer: str, yes: bool) -> None:
    """Let the operator type `answer`. Raises UsageError when that is refused or cannot be asked."""
    if yes:
        return
    # A program that was started with its stdin closed has none at all.
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            "this needs a confirmation, and there is no terminal to ask on",
            expected=f"the word {answer!r} typed, or --yes",
            hint="the same command with --yes",
        )
    import typer

    from ragops.report.printable import printable

    typed = typer.prompt(
        f"{printable(question)}\nType {answer} to go on", err=True, default="", show_default=False
    )
    if typed.strip() != answer:
        raise UsageError("not confirmed; nothing was changed", actual=repr(typed), expected=repr(answer))


def emit(result: Shown, *, as_json: bool, screen: Callable[[Shown], RenderableType]) -> None:
    """Print one JSON object, or the screen that `screen(result)` makes."""
    if as_json:
        print_json(result.to_json() if isinstance(result, Result) else result)
        return
    from ragops.report.terminal import show

    show(screen(result))


def print_json(result: Mapping[str, object]) -> None:
    """Print one JSON object on stdout, as strict JSON: a NaN would be an error here."""
    import json

    from ragops.report.printable import printable_json

    print(printable_json(json.dumps(result, default=str, allow_nan=False, ensure_ascii=False)))  # noqa: T201


def overrides(
    *,
    workers: int | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    no_cache: bool = False,
    model: Path | None = None,
    source: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, object]]:
    """Return command-line values as changes of the playbook's sections."""
    cache_mib = 0 if no_cache else None
    given = {"count": workers, "threads": threads, "batch_size": batch_size, "cache_mib": cache_mib}
    changes: dict[str, dict[str, object]] = {"workers": {k: v for k, v in given.items() if v is not None}}
    if model is not None:
        changes["model"] = {"file": model}
    if source:
        changes["source"] = dict(source)
    return changes


def check_names(names: Sequence[str], known: Sequence[str], *, what: str) -> None:
    """Raise UsageError for names that are not among the known ones."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"unknown {what}: {', '.join(unknown)}", expected=", ".join(known))
