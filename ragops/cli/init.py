"""Command `ragops init`: look at a database, ask, write a playbook and prove it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragops.cli.init_choices import Given, make_draft
from ragops.cli.init_vector import choose_vector
from ragops.cli.init_writing import check_free, prove_and_write
from ragops.cli.options import AsJson, Dsn
from ragops.cli.questions import Questions, ask, say
from ragops.cli.session import emit, start_embedded, stoppable
from ragops.errors import UsageError
from ragops.paths import server_folder

if TYPE_CHECKING:
    from ragops.playbook.model import Playbook
    from ragops.postgres.connection import Target
    from ragops.session import Session

# What the session needs of a playbook before there is one.
_NONE_YET = """version: 1
name: init
model:
  file: ${RAGOPS_MODEL:-}
database:
  allow_plaintext: ${RAGOPS_ALLOW_PLAINTEXT:-false}
steps: [{step: validate}]
"""


def register(app: typer.Typer) -> None:
    app.command("init")(init)


def init(
    dsn: Dsn = None,
    table: Annotated[
        str | None, typer.Option("--table", metavar="TABLE", help="Table with the vectors.", show_default=False)
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", metavar="COLUMN", help="Vector column.", show_default=False)
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="TEMPLATE",
            help="What the vectors are made of: columns in braces, e.g. '{title}\\n\\n{body}'.",
            show_default=False,
        ),
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option(
            "--sql", metavar="EXPRESSION", help="The same as SQL, e.g. \"metadata->>'text'\".", show_default=False
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="COLUMN", help="Column that identifies a row; repeatable.", show_default="primary key"
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="SQL condition for the rows of a target; repeatable: one target for each.",
            show_default="every row",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="FILE.gguf",
            help="GGUF embedding model; with it, what made the stored vectors is measured.",
            show_default="RAGOPS_MODEL",
        ),
    ] = None,
    campaign: Annotated[
        str | None,
        typer.Option("--campaign", metavar="repair|reembed|realign", help="What to do.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The playbook to write.", show_default="CAMPAIGN.yaml"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept what is proposed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at a database and write the playbook of a campaign for it.

    It only reads. On a terminal it asks for what no option says and proposes an answer, which --yes accepts.
    Exit 1 if the plan of the playbook has problems.

    Example: ragops init --dsn postgresql://rag@localhost/rag --model model.gguf
    """
    from ragops.introspection.gathering import gather
    from ragops.postgres.introspection import find_vector_columns
    from ragops.report.init import init_screen

    if text is not None and sql is not None:
        raise UsageError("--text and --sql exclude each other", hint="the one that makes the vectors' text")
    questions = Questions(accepts=yes)
    check_free(output, force=force or questions.asks)
    with _session(dsn, questions) as session:
        vectors = session.through_outages(lambda: find_vector_columns(session.connection))
        vector = choose_vector(vectors, session, questions, table=table, column=column)
        same = [one for one in vectors if (one.schema, one.relation) == (vector.schema, vector.relation)]
        gathered = gather(session, same, vector)
        if questions.asks:
            say(gathered.describe())
        given = Given(text, sql, tuple(key or ()), tuple(where or ()), model, campaign)
        drafted = make_draft(session, gathered, given, questions)
        result = prove_and_write(session, gathered, drafted, questions, output=output, force=force, dsn=dsn)
    emit(result, as_json=as_json, screen=init_screen)
    if result.problems:
        raise typer.Exit(1)


@contextmanager
def _session(dsn: str | None, questions: Questions) -> Iterator[Session]:
    """Open a session without a playbook. Raises UsageError without a database, and as `connect`."""
    from ragops.playbook import parse_playbook
    from ragops.postgres.connection import connect
    from ragops.postgres.watchdog import Watchdog
    from ragops.report.console import console_reporter
    from ragops.session import Session

    reporter = console_reporter()
    playbook = parse_playbook(_NONE_YET, file="init", environment=os.environ)
    with stoppable(reporter) as stop:
        target = _target(dsn, playbook, questions)
        for note in target.notes:
            reporter.info(f"DSN: {note}")
        connection = connect(target, timeout_s=playbook.database.connect_timeout_s)
        session = Session.on(connection, target, playbook, reporter=reporter, stop=stop)
        try:
            with Watchdog(target, is_aborted=stop.aborted.is_set, info=reporter.info):
                yield session
        finally:
            reporter.end_progress()
            session.database.close()


def _target(dsn: str | None, playbook: Playbook, questions: Questions) -> Target:
    """Return the database to look at: the option's, the environment's, the embedded one, or what is typed."""
    from ragops.postgres.connection import parse_dsn

    def parse(given: str) -> Target:
        return parse_dsn(given, allow_plaintext=playbook.database.allow_plaintext)

    if given := dsn or os.environ.get("RAGOPS_DSN"):
        return parse(given)
    if server_folder().exists():
        return start_embedded()
    if not questions.asks:
        raise UsageError(
            "init needs a database to look at",
            expected="--dsn postgresql://USER@HOST/DATABASE, or RAGOPS_DSN",
            hint="ragops init --dsn postgresql://…",
        )
    while True:
        try:
            return parse(ask("DSN of the database (postgresql://USER@HOST/DATABASE)"))
        except UsageError as error:
            say(f"  {error.what}: {error.actual or ''}")
