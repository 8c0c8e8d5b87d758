"""What `ragops init` asks about one vector column, and the playbook that the answers make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragops.cli.questions import Questions, ask, say
from ragops.errors import RagopsError, UsageError

if TYPE_CHECKING:
    from ragops.facts import ModelFacts
    from ragops.forensics.findings import Findings
    from ragops.introspection.choices import Campaign
    from ragops.introspection.gathering import Gathered
    from ragops.introspection.texts import TextChoice
    from ragops.introspection.writing import Draft
    from ragops.playbook.targets import RowTarget
    from ragops.session import Session


@dataclass(frozen=True, slots=True)
class Given:
    """The options of the command line."""

    text: str | None
    sql: str | None
    key: tuple[str, ...]
    where: tuple[str, ...]
    model: Path | None
    campaign: str | None


@dataclass(frozen=True, slots=True)
class Drafted:
    """What the answers make, and what was learned on the way."""

    draft: Draft
    texts: Sequence[str | None] = ()
    """The beginnings of some rows' texts."""
    measured: Mapping[str, object] | None = None
    measured_lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def make_draft(session: Session, gathered: Gathered, given: Given, questions: Questions) -> Drafted:
    """Ask for what is not given. Raises UsageError with all that is missing where nobody can be asked."""
    from ragops.introspection.measuring import measure, misfit, repaired_as, rows_to_repair
    from ragops.introspection.realigning import map_documents
    from ragops.introspection.writing import Draft

    survey, vector, client = gathered.survey, gathered.vector, gathered.recognised
    # What is wrong on the command line is said before minutes of measuring.
    named = _given_text(session, gathered, given)
    for condition in given.where:
        _check(session, gathered, named, condition)
    key = _key(session, gathered, given, questions) if given.campaign != "realign" else None
    file, facts = _model(session, given, questions)
    findings = None
    if file and given.campaign != "realign":
        findings = measure(session, gathered, file, where=given.where[0] if len(given.where) == 1 else None)
    told = tuple(findings.sentences()) if findings else ()
    if questions.asks:
        for line in told:
            say(f"measured: {line}")
    campaign = _campaign(gathered, given, questions, findings, dimensions=facts.dimensions if facts else None)
    if campaign == "realign":
        mapped = map_documents(gathered)
        draft = Draft(campaign, survey.table.quoted, vector.name, mapped.text, model=file, comments=mapped.notes)
        draft = replace(draft, mapped=mapped.columns, tables=mapped.tables)
        return Drafted(draft, notes=mapped.notes)
    text = _text(session, gathered, named, questions, findings)
    where = _where(session, gathered, given, questions, text, campaign)
    questions.refuse_missing(where=f"{session.target.label}: {vector.quoted}")
    assert campaign is not None and text is not None and where is not None
    comments = [f"{client.client}: {client.why}."] if client else []
    if client:
        comments += [f"{one[0].upper()}{one[1:]}." for one in client.also]
    draft = Draft(
        campaign,
        survey.table.quoted,
        vector.name,
        text,
        key=key if key and key != survey.key else (),
        conditions=where,
        model=file,
        rows=rows_to_repair(findings),
        comments=(*comments, *(f"Measured: {line}." for line in told)),
    )
    # The vectors that stay decide how new ones are made; a column of its own is made as the model says.
    if campaign == "repair" and (writer := repaired_as(findings, text)) is not None:
        recipe = writer.recipe
        draft = replace(draft, pooling=recipe.pooling, document_prefix=recipe.prefix)
        draft = replace(draft, long_text=recipe.long_text or draft.long_text, dimensions=recipe.dimensions)
    texts = _texts(session, gathered, draft.target(where[0] if where else None))
    notes = (
        [] if findings else ["no model was named (--model): which text made the stored vectors was not measured"]
    )
    if campaign == "repair" and (reason := misfit(findings, text)) is not None:
        notes.append(reason)
    if client is not None and client.doubt:
        notes.append(f"{client.client}: {client.doubt}")
    measured = findings.to_json() if findings else None
    return Drafted(draft, texts, measured=measured, measured_lines=told, notes=tuple(notes))


def _model(session: Session, given: Given, questions: Questions) -> tuple[Path | None, ModelFacts | None]:
    """Return the model's file and facts; None without one. Raises ModelUnusable for one that is unfit."""
    from ragops.embedder.config import probe_model

    def facts_of(file: Path) -> ModelFacts:
        return probe_model(session.playbook.with_changes(model={"file": file}))

    named = given.model or session.playbook.model.file
    if named is not None:
        return named.absolute(), facts_of(named)
    if not questions.asks or questions.accepts:
        return None, None
    while True:
        answer = ask("GGUF model (empty: none; then nothing is measured)", "")
        if not answer:
            return None, None
        try:
            file = Path(answer).expanduser()
            return file.absolute(), facts_of(file)
        except RagopsError as error:
            say(f"  {error.what}: {error.actual or error.where or ''}")


def _campaign(
    gathered: Gathered,
    given: Given,
    questions: Questions,
    findings: Findings | None,
    *,
    dimensions: int | None,
) -> Campaign | None:
    from ragops.introspection.choices import CAMPAIGNS, Choice, choose_campaign
    from ragops.introspection.measuring import measured_campaign

    def parse(answer: str) -> Campaign:
        for one in CAMPAIGNS:
            if answer == one:
                return one
        raise ValueError(f"{answer!r} is not one of {', '.join(CAMPAIGNS)}")

    if given.campaign is not None:
        try:
            chosen = parse(given.campaign)
        except ValueError as error:
            raise UsageError("unknown campaign", actual=str(error)) from None
        return questions.take(Choice("--campaign", chosen, "given"), chosen)
    measured = measured_campaign(findings) if findings else None
    choice = measured or choose_campaign(gathered.vectors, gathered.vector, dimensions)
    return questions.settle(choice, question="campaign", show=str, parse=parse, options=CAMPAIGNS)


def _given_text(session: Session, gathered: Gathered, given: Given) -> TextChoice | None:
    """Return the text of the command line; None without one. Raises UsageError where it does not fit."""
    if given.text is None and given.sql is None:
        return None
    try:
        return _parse_text(session, gathered, given.text if given.text is not None else f"sql:{given.sql}")
    except ValueError as error:
        where = gathered.survey.table.quoted
        raise UsageError("--text does not fit the table", where=where, actual=str(error)) from None


def _parse_text(session: Session, gathered: Gathered, answer: str) -> TextChoice:
    """Return what an answer means: a template, a column's name, or SQL. Raises ValueError or UsageError."""
    from ragops.introspection.texts import TextChoice, parse_text

    if answer.startswith("sql:"):
        found = TextChoice(answer, sql=answer.removeprefix("sql:").strip())
    else:
        found = parse_text(answer, gathered.survey)
    _check(session, gathered, found, None)
    return found


def _text(
    session: Session,
    gathered: Gathered,
    named: TextChoice | None,
    questions: Questions,
    findings: Findings | None,
) -> TextChoice | None:
    from ragops.introspection.choices import Choice, choose_text
    from ragops.introspection.measuring import measured_text
    from ragops.introspection.texts import candidate_texts

    if named is not None:
        return questions.take(Choice("--text", named, "given"), named.shown)
    choice = (measured_text(findings) if findings else None) or choose_text(gathered.survey, gathered.recognised)
    proposals = [one.shown for one in candidate_texts(gathered.survey)]
    if choice.value is None and not questions.asks and proposals:
        choice = Choice(choice.option, None, "unknown", f"{choice.why}; candidates: {', '.join(proposals[:6])}")
    return questions.settle(
        choice,
        question="text",
        show=lambda text: text.shown,
        parse=lambda answer: _parse_text(session, gathered, answer),
        options=proposals,
    )


def _key(session: Session, gathered: Gathered, given: Given, questions: Questions) -> tuple[str, ...] | None:
    from ragops.introspection.choices import Choice, choose_key

    survey = gathered.survey

    def parse(answer: str) -> tuple[str, ...]:
        return check([answer] if answer in survey.columns else [part.strip() for part in answer.split(",")])

    def check(names: Sequence[str]) -> tuple[str, ...]:
        from ragops.postgres.introspected_rows import find_repeated

        unknown = [name for name in names if name not in survey.columns]
        if unknown:
            raise ValueError(
                f"{survey.table.quoted} has no column {unknown[0]!r}; it has {', '.join(survey.columns)}"
            )
        if not any(set(key.columns) <= set(names) for key in survey.keys if key.is_usable):
            found = session.through_outages(lambda: find_repeated(session.connection, survey.table, names))
            if found is not None:
                raise ValueError(
                    f"{', '.join(names)} identifies no row: {found} is NULL, or stands in several rows"
                )
        return tuple(names)

    if given.key:
        names = list(given.key)
        if len(names) == 1 and names[0] not in survey.columns:
            names = [part.strip() for part in names[0].split(",")]
        try:
            chosen = check(names)
        except ValueError as error:
            raise UsageError(
                "--key does not fit the table", where=survey.table.quoted, actual=str(error)
            ) from None
        return questions.take(Choice("--key", chosen, "given"), ", ".join(chosen))
    return questions.settle(choose_key(survey), question="key", show=", ".join, parse=parse)


def _where(
    session: Session,
    gathered: Gathered,
    given: Given,
    questions: Questions,
    text: TextChoice | None,
    campaign: Campaign | None,
) -> tuple[str, ...] | None:
    from ragops.introspection.choices import Choice, choose_where

    def check(where: str) -> tuple[str, ...]:
        if where in ("", "true", "every row"):
            return ()
        _check(session, gathered, text, where)
        return (where,)

    if given.where:
        found = tuple(one for where in given.where for one in check(where))
        return questions.take(Choice("--where", found, "given"), "; ".join(found) or "every row")
    choice = choose_where(gathered.vector, gathered.vectors, gathered.groups, gathered.recognised, campaign)
    options = [group.where for group in gathered.groups[:20]]
    return questions.settle(
        choice, question="where", show=lambda found: "; ".join(found) or "every row", parse=check, options=options
    )


def _check(session: Session, gathered: Gathered, text: TextChoice | None, where: str | None) -> None:
    """Raise UsageError for a text or a condition that does not work on the table."""
    from ragops.introspection.texts import TextChoice
    from ragops.introspection.writing import Draft

    known = text or TextChoice("", sql="NULL")
    draft = Draft("repair", gathered.survey.table.quoted, gathered.vector.name, known)
    _texts(session, gathered, draft.target(where))


def _texts(session: Session, gathered: Gathered, target: RowTarget) -> list[str | None]:
    from ragops.postgres.introspected_rows import read_texts

    return session.through_outages(lambda: read_texts(session.connection, gathered.survey.table, target))
