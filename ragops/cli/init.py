"""Command `ragops init`: look at a database, ask, write a playbook and prove it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragops.cli.init_choices import Drafted, Given, make_draft
from ragops.cli.options import AsJson, Dsn
from ragops.cli.questions import Questions, ask, say
from ragops.cli.session import emit, start_embedded, stoppable
from ragops.errors import RagopsError, UsageError
from ragops.paths import server_folder

if TYPE_CHECKING:
    from ragops.introspection.gathering import Gathered
    from ragops.introspection.outcome import InitResult
    from ragops.playbook.model import Playbook
    from ragops.postgres.connection import Target
    from ragops.session import Session
    from ragops.survey_facts import VectorColumn

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
        vector = _vector(vectors, session, questions, table=table, column=column)
        same = [one for one in vectors if (one.schema, one.relation) == (vector.schema, vector.relation)]
        gathered = gather(session, same, vector)
        if questions.asks:
            say(gathered.describe())
        given = Given(text, sql, tuple(key or ()), tuple(where or ()), model, campaign)
        drafted = make_draft(session, gathered, given, questions)
        result = _prove_and_write(session, gathered, drafted, questions, output=output, force=force, dsn=dsn)
    emit(result, as_json=as_json, screen=init_screen)
    if result.problems:
        raise typer.Exit(1)


def check_free(output: Path | None, *, force: bool) -> None:
    """Raise UsageError for a file that exists, unless it may be overwritten, and for a folder that does not."""
    if output is not None and not output.parent.is_dir():
        raise UsageError("the folder does not exist", where=str(output.parent), hint="make it, or another -o FILE")
    if output is not None and output.exists() and not force:
        raise UsageError(
            "the file exists, and is not overwritten",
            where=str(output),
            hint="--force overwrites it; or another name: -o FILE",
        )


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


def _vector(
    columns: Sequence[VectorColumn],
    session: Session,
    questions: Questions,
    *,
    table: str | None,
    column: str | None,
) -> VectorColumn:
    """Return the vector column that is meant. Raises UsageError where that is not clear."""
    from ragops.introspection.choices import Choice, matching

    where = session.target.label
    try:
        found = matching(columns, table, column)
    except ValueError as error:
        raise UsageError("--table is no name of a table", actual=str(error)) from None
    usable = [one for one in found if one.is_supported and one.may_read]
    if not usable:
        raise _no_vector(session, columns, found, table=table, column=column)
    option = "--column" if len({one.table for one in usable}) == 1 else "--table"
    if len(usable) == 1:
        why = (
            ""
            if table is not None and column is not None
            else "the only vector column" + (" of the table" if table is not None else "")
        )
        only = usable[0]
        return questions.take(Choice("--column", only, "given" if not why else "sure", why), only.quoted)
    listed = [f"{one.quoted}  ({_rows(one)})" for one in usable]

    def parse(answer: str) -> VectorColumn:
        named = [one for one, line in zip(usable, listed, strict=True) if answer in (line, one.quoted, one.name)]
        named = named or [one for one in usable if answer == one.table]
        if len(named) != 1:
            raise ValueError(f"{answer!r} names {len(named)} of these columns; type its number")
        return named[0]

    choice: Choice[VectorColumn] = Choice(
        option,
        None,
        "unknown",
        f"which of these vector columns: {', '.join(listed)}" if not questions.asks else "which vector column",
    )
    chosen = questions.settle(
        choice, question="vector column", show=lambda one: one.quoted, parse=parse, options=listed
    )
    questions.refuse_missing(where=where)
    assert chosen is not None
    return chosen


def _rows(column: VectorColumn) -> str:
    return column.type + (", not analyzed yet" if column.rows is None else f", ≈ {column.rows:,} rows")


def _no_vector(
    session: Session,
    columns: Sequence[VectorColumn],
    found: Sequence[VectorColumn],
    *,
    table: str | None,
    column: str | None,
) -> RagopsError:
    """Return the error for a table and column among which there is none that ragops can write."""
    from ragops.postgres.introspection import tables_behind

    where = session.target.label
    for one in found:
        if one.relation_kind not in ("table", "partitioned table"):
            behind = session.through_outages(partial(tables_behind, session.connection, one))
            return UsageError(
                f"{one.table} is a {one.relation_kind}: vectors are written where the rows are",
                where=where,
                expected=f"the table that it reads: {', '.join(behind)}" if behind else "the table that it reads",
                hint=f"--table {behind[0]}" if behind else "--table …",
            )
        if not one.may_read:
            return RagopsError(
                f"permission denied: the role may not read {one.quoted}",
                where=where,
                hint=f"GRANT SELECT ON {one.table} TO …",
            )
    if found:
        return UsageError(
            f"ragops writes no vectors of the type {found[0].kind}",
            where=f"{where}: {found[0].quoted}",
            actual=found[0].type,
            expected="vector or halfvec",
        )
    listed = ", ".join(one.quoted for one in columns if one.is_supported)
    asked = " and ".join(
        part for part in (f"--table {table}" if table else "", f"--column {column}" if column else "") if part
    )
    if asked:
        return UsageError(
            f"no vector column fits {asked}",
            where=where,
            expected=f"one of: {listed}" if listed else "a table with a column of the type vector or halfvec",
            hint="ragops init   lists them on a terminal"
            if listed
            else "check the DSN's database, and that the role may use the schema",
        )
    return RagopsError(
        "no column of the type vector or halfvec is in this database",
        where=where,
        actual=", ".join(f"{one.quoted}: {one.type}" for one in columns) or None,
        hint="check the DSN's database, and that the role has USAGE on the table's schema",
    )


def _prove_and_write(
    session: Session,
    gathered: Gathered,
    drafted: Drafted,
    questions: Questions,
    *,
    output: Path | None,
    force: bool,
    dsn: str | None,
) -> InitResult:
    """Plan what the playbook says, write it, and return what is known. Writes nothing that cannot be parsed."""
    from ragops import __version__
    from ragops.introspection.gathering import untouched, warnings
    from ragops.introspection.outcome import InitResult
    from ragops.introspection.proving import prove
    from ragops.introspection.writing import write_playbook
    from ragops.playbook import parse_playbook

    draft = drafted.draft
    file = output or Path(f"{draft.campaign}.yaml")
    is_forced = force
    if file.exists() and not force:
        if not questions.asks:
            check_free(file, force=False)
        answer = ask(f"{file} exists. Overwrite it? Type yes, or another name", "no")
        is_forced = answer.lower() in ("y", "yes")
        if not is_forced:
            if answer.lower() in ("n", "no"):
                raise UsageError("not written; nothing was changed", hint="-o FILE, or --force")
            file = Path(answer)
            check_free(file, force=False)
    text = write_playbook(draft, file=str(file), written_by=f"ragops init ({__version__})")
    # As the next command reads it: variables of the environment count there, too.
    playbook = parse_playbook(text, file=str(file), environment=os.environ)
    proof = prove(session.with_playbook(playbook), plan=_plan)
    _write(file, text, force=is_forced)
    recognised = gathered.recognised
    place = f"ragops reset --playbook {_shell(str(file))}"
    return InitResult(
        file=str(file),
        campaign=draft.campaign,
        database=session.target.label,
        column=gathered.describe(),
        client=f"{recognised.client} ({recognised.why})" if recognised else None,
        decisions=tuple(questions.decisions),
        also=recognised.also if recognised else (),
        # The plan looks closer at what the catalog has, and says it in its notes.
        warnings=(*drafted.notes, *(proof.notes or warnings(gathered))),
        untouched=tuple(untouched(gathered, playbook.targets[0] if playbook.targets else None)),
        texts=tuple(drafted.texts),
        measured=drafted.measured,
        measured_lines=drafted.measured_lines,
        planned=proof.is_planned,
        steps=tuple(step.step for step in playbook.steps),
        problems=proof.problems,
        next=f"{_variables(session.target, dsn, needs_model=draft.model is None)}{place} --dry-run",
    )


def _variables(target: Target, dsn: str | None, *, needs_model: bool) -> str:
    """Return the assignments that the next command needs before it; a password is not repeated."""
    parts: list[str] = []
    if dsn is not None:
        parts.append("RAGOPS_DSN=…" if "password" in target.conninfo else f"RAGOPS_DSN={_shell(dsn)}")
    elif not target.is_embedded and not os.environ.get("RAGOPS_DSN"):
        parts.append("RAGOPS_DSN=…")
    if needs_model:
        parts.append("RAGOPS_MODEL=FILE.gguf")
    return "".join(f"{part} " for part in parts)


def _shell(text: str) -> str:
    import shlex

    return shlex.quote(text)


def _plan(session: Session) -> list[str]:
    """Plan the campaign as `ragops reset --dry-run` does; return its notes."""
    from ragops.cli.campaign import prepare_plan

    plan = session.through_outages(lambda: prepare_plan(session))
    return list(plan.notes)


def _write(file: Path, text: str, *, force: bool) -> None:
    """Write the file in one move, so that an interrupted command leaves no half of it."""
    import contextlib
    import tempfile

    folder = file.parent
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{file.name}.", suffix=".new")
    written = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        written.chmod(0o644)
        if not force and file.exists():
            check_free(file, force=False)
        written.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            written.unlink()
        raise
