"""One command's surroundings: playbook, target, connection, voice, signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragops.errors import Interrupted, UsageError
from ragops.paths import demo_file, server_folder, with_defaults

if TYPE_CHECKING:
    from types import FrameType

    from ragops.campaign.context import StepContext
    from ragops.facts import DatabaseFacts
    from ragops.playbook.model import Playbook
    from ragops.postgres.connection import Target
    from ragops.report.console import ConsoleReporter
    from ragops.workers.state import Stop


def load(
    playbook: str, dsn: str | None, *, reporter: ConsoleReporter | None = None
) -> tuple[Playbook, Target | None]:
    """The playbook with the target it is to run on; None means the embedded server.

    On the embedded server the demo's corpus and model stand in for variables that are not set.
    """
    from ragops.playbook import load_playbook
    from ragops.postgres.connection import parse_dsn

    loaded = load_playbook(playbook, environment=os.environ)
    given = dsn or os.environ.get("RAGOPS_DSN") or loaded.database.dsn
    if given:
        return loaded, parse_dsn(given, allow_plaintext=loaded.database.allow_plaintext)
    defaults = demo_defaults()
    if not defaults:
        return loaded, None
    with_demo = load_playbook(playbook, environment=with_defaults(os.environ, defaults))
    if reporter is not None and with_demo != loaded:
        reporter.info(
            f"no DSN: working on the embedded database in {server_folder()}, with the demo's "
            f"corpus ({with_demo.source.folder}) and model ({with_demo.model.file})"
        )
    return with_demo, None


def demo_defaults() -> Mapping[str, str]:
    """The variables that the demo left; empty without a demo."""
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


@contextmanager
def session(
    playbook: str,
    dsn: str | None,
    *,
    changes: Mapping[str, dict[str, Any]] | None = None,
    needs_tables: bool = True,
    needs_ledger: bool = True,
    changes_data: bool = False,
    reads: Collection[str] | None = None,
) -> Iterator[StepContext]:
    """Open what a command works with.

    `reads` are the only tables that the command needs; None: all.
    `changes_data` refuses while another controller runs a campaign there. Raises UsageError,
    PlaybookError, DatabaseUnavailable, PlanRefused or CampaignHeld before anything was changed.
    """
    from ragops.campaign.context import StepContext
    from ragops.postgres.connection import connect
    from ragops.postgres.setup import ensure_ragops_schema
    from ragops.report.console import ConsoleReporter

    reporter = ConsoleReporter()
    loaded, target = load(playbook, dsn, reporter=reporter)
    target = target or start_embedded()
    adapted = loaded.with_changes(**(changes or {}))
    with stoppable(reporter) as stop:
        if target.is_embedded:
            _prepare_embedded(target)
        connection = connect(target, timeout_s=adapted.database.connect_timeout_s)
        context = StepContext(target, adapted, connection, reporter=reporter, stop=stop)
        try:
            if needs_tables:
                require_tables(context, reads)
            if needs_ledger:
                ensure_ragops_schema(connection)
            if changes_data:
                _require_free(context)
            yield context
        finally:
            reporter.end_progress()
            context.connection.close()


@contextmanager
def stoppable(reporter: ConsoleReporter) -> Iterator[Stop]:
    """Install the signals; one that ends everything at once is raised as Interrupted, with its exit code."""
    stop = install_signals(reporter)
    try:
        yield stop
    except KeyboardInterrupt:
        raise Interrupted("stopped", signal_number=stop.signal_number) from None


def start_embedded() -> Target:
    """The embedded server's database, started if need be."""
    from ragops.postgres.embedded import EmbeddedServer

    return EmbeddedServer(server_folder()).start()


def _prepare_embedded(target: Target) -> None:
    """The embedded database is ours: it always has pgvector."""
    from ragops.postgres.connection import connect
    from ragops.postgres.setup import ensure_pgvector

    with connect(target, with_vector=False) as connection:
        ensure_pgvector(connection, target)


def require_tables(context: StepContext, reads: Collection[str] | None = None) -> DatabaseFacts:
    """The database as the catalog has it, checked against the playbook. Raises UsageError or PlanRefused."""
    from dataclasses import replace

    from ragops.campaign.plan import refuse_problems
    from ragops.campaign.preflight import find_table_problems

    facts = context.facts(scans=False)
    if context.target.is_embedded and not any(facts.tables.values()):
        raise UsageError(
            "the embedded database is empty",
            where=context.target.label,
            expected="tables and a corpus",
            hint="ragops demo   or: ragops db init   or name your own database: --dsn postgresql://…",
        )
    if reads is not None:
        facts = replace(facts, tables={name: facts.tables[name] for name in reads})
    refuse_problems(find_table_problems(context.playbook, facts, model=None), where=context.target.label)
    return facts


def _require_free(context: StepContext) -> None:
    from ragops.campaign.run import latest_row
    from ragops.postgres.ledger import check_free

    row = latest_row(context)
    if row is not None and not row.is_finished:
        check_free(row)


def install_signals(reporter: ConsoleReporter) -> Stop:
    """Ctrl-C and SIGTERM: the first lets a fleet finish its batch, the next one ends everything at once."""
    from ragops.workers.state import Stop

    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.signal_number = number
        if stop.is_graceful and not stop.requested.is_set():
            stop.requested.set()
            reporter.info("stopping after the requests at hand; once more stops at once")
            return
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

    typed = typer.prompt(f"{question}\nType {answer} to go on", err=True, default="", show_default=False)
    if typed.strip() != answer:
        raise UsageError("not confirmed; nothing was changed", actual=repr(typed), expected=repr(answer))


def emit(result: Mapping[str, Any], *, as_json: bool, screen: Any) -> None:
    """One JSON object, or the screen that `screen(result)` makes."""
    if as_json:
        import json

        print(json.dumps(result, default=str, allow_nan=False, ensure_ascii=False))  # noqa: T201
        return
    from ragops.report.terminal import show

    show(screen(result))


def overrides(
    *,
    workers: int | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    no_cache: bool = False,
    model: Path | None = None,
    source: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Command-line values as changes of the playbook's sections."""
    cache_mib = 0 if no_cache else None
    given = {"count": workers, "threads": threads, "batch_size": batch_size, "cache_mib": cache_mib}
    changes: dict[str, dict[str, Any]] = {"workers": {k: v for k, v in given.items() if v is not None}}
    if model is not None:
        changes["model"] = {"file": model}
    if source:
        changes["source"] = dict(source)
    return changes


def check_names(names: Sequence[str], known: Sequence[str], *, what: str) -> None:
    """Raise UsageError for names that are none of the known ones."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"unknown {what}: {', '.join(unknown)}", expected=", ".join(known))
