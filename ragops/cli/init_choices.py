"""What `ragops init` asks about one vector column, and the playbook that the answers make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ragops.cli.questions import Questions, ask, say
from ragops.errors import RagopsError, UsageError

if TYPE_CHECKING:
    from ragops.facts import ModelFacts
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
    from ragops.introspection.choices import conditions
    from ragops.introspection.realigning import map_documents
    from ragops.introspection.writing import Draft

    survey, vector = gathered.survey, gathered.vector
    model, facts = _model(session, given, questions)
    campaign = _campaign(gathered, given, questions, dimensions=facts.dimensions if facts else None)
    if campaign == "realign":
        mapping = map_documents(gathered)
        draft = Draft(
            campaign,
            survey.table.quoted,
            vector.name,
            mapping.text,
            model=model,
            comments=mapping.notes,
            mapped=mapping.columns,
            tables=mapping.tables,
        )
        return Drafted(draft, notes=mapping.notes)
    text = _text(session, gathered, given, questions)
    key = _key(session, gathered, given, questions)
    where = _where(session, gathered, given, questions, text, campaign)
    questions.refuse_missing(where=f"{session.target.label}: {vector.quoted}")
    assert campaign is not None and text is not None and where is not None
    if not where and not given.where:
        where = conditions(gathered.groups, gathered.recognised, campaign)
    client = gathered.recognised
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
        model=model,
        comments=tuple(comments),
    )
    texts = _texts(session, gathered, draft.target(where[0] if where else None))
    notes = (
        [] if facts else ["no model was named, so which text made the stored vectors was not measured: --model"]
    )
    return Drafted(draft, texts, notes=tuple(notes))


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
    gathered: Gathered, given: Given, questions: Questions, *, dimensions: int | None
) -> Campaign | None:
    from ragops.introspection.choices import CAMPAIGNS, Choice, choose_campaign

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
    choice = choose_campaign(gathered.vectors, gathered.vector, dimensions)
    return questions.settle(choice, question="campaign", show=str, parse=parse, options=CAMPAIGNS)


def _text(session: Session, gathered: Gathered, given: Given, questions: Questions) -> TextChoice | None:
    from ragops.introspection.choices import Choice, choose_text
    from ragops.introspection.texts import TextChoice, candidate_texts, parse_text

    survey = gathered.survey

    def parse(answer: str) -> TextChoice:
        if answer.startswith("sql:"):
            found = TextChoice(answer, sql=answer.removeprefix("sql:").strip())
        else:
            found = parse_text(answer, survey)
        _check(session, gathered, found, None)
        return found

    if given.text is not None or given.sql is not None:
        try:
            chosen = parse(given.text if given.text is not None else f"sql:{given.sql}")
        except ValueError as error:
            raise UsageError(
                "--text does not fit the table", where=survey.table.quoted, actual=str(error)
            ) from None
        return questions.take(Choice("--text", chosen, "given"), chosen.shown)
    choice = choose_text(survey, gathered.recognised)
    proposals = [one.shown for one in candidate_texts(survey)]
    if choice.value is None and not questions.asks and proposals:
        choice = Choice(choice.option, None, "unknown", f"{choice.why}; candidates: {', '.join(proposals[:6])}")
    return questions.settle(
        choice,
        question="text",
        show=lambda text: text.shown,
        parse=parse,
        options=[p for p in proposals if "\n" not in p],
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
        if where in ("", "true"):
            return ()
        _check(session, gathered, text, where)
        return (where,)

    if given.where:
        found = tuple(one for where in given.where for one in check(where))
        return questions.take(Choice("--where", found, "given"), "; ".join(found) or "every row")
    choice = choose_where(gathered.survey, gathered.vector, gathered.vectors, gathered.groups, campaign)
    options = [group.where for group in gathered.groups[:20]]
    return questions.settle(choice, question="where", show="; ".join, parse=check, options=options)


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
