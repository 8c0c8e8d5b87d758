"""Measure what made the stored vectors, and draw from it what a playbook says."""

from __future__ import annotations

from pathlib import Path

from ragops.forensics.candidates import Candidate, candidates_of
from ragops.forensics.findings import Findings, Writer
from ragops.forensics.measure import measure_texts, sample_values
from ragops.introspection.choices import Campaign, Choice
from ragops.introspection.gathering import Gathered
from ragops.introspection.texts import TextChoice
from ragops.playbook.model import Model
from ragops.playbook.steps import RowKind
from ragops.session import Session

# Of the sampled rows: what explains fewer of them is one of several writers, and somebody has to choose.
DECISIVE = 0.5


def measure(session: Session, gathered: Gathered, file: Path, *, where: str | None = None) -> Findings:
    """Embed a sample of rows in every way that may have made their vectors. Raises as `measure_texts`."""
    table, column = gathered.survey.table, gathered.vector.name
    known = gathered.recognised.text if gathered.recognised else None
    candidates = [] if known is None else [Candidate(known.label, known.text, known.sql)]
    candidates += [
        one
        for one in candidates_of(table, sample_values(session, table, column, where=where))
        if known is None or (one.text, one.sql) != (known.text, known.sql)
    ]
    count = f"{len(candidates)} text{'s' if len(candidates) != 1 else ''}"
    session.reporter.info(f"measuring what made the vectors of {table.quoted}: {count}, each pooling and prefix")
    return measure_texts(session, table, column, candidates, model=Model(file=file), where=where)


def measured_text(findings: Findings) -> Choice[TextChoice] | None:
    """Return the text that made most of the sampled vectors; None where no candidate explains them."""
    writer = findings.winner
    if writer is None or not findings.sampled:
        return None
    share = writer.rows / findings.sampled
    text = TextChoice(writer.recipe.candidate.label, writer.recipe.candidate.text, writer.recipe.candidate.sql)
    what = "agree" if writer.is_exact else "are near"
    why = f"{writer.rows} of {findings.sampled} sampled vectors {what} with it"
    is_decided = writer.is_exact and share >= DECISIVE
    return Choice("--text", text, "measured" if is_decided else "guess", why)


def measured_campaign(findings: Findings) -> Choice[Campaign] | None:
    """Return the campaign that follows from what made the vectors; None where nothing was there to measure."""
    if not findings.sampled:
        return None
    if not findings.writers:
        return Choice("--campaign", "reembed", "guess", "no text explains the stored vectors with this model")
    if findings.is_uniform:
        why = "the sampled vectors are this model's: only rows without a vector or with a broken one are written"
        return Choice("--campaign", "repair", "guess", why)
    first = findings.writers[0]
    if not first.is_exact:
        near = f"{first.rows} of {findings.sampled} sampled vectors are near this model's"
        why = f"{near}: another quantisation or build made them"
        return Choice("--campaign", "repair", "guess", why)
    why = (
        f"{findings.sampled - first.rows} of {findings.sampled} sampled vectors differ from what this model makes"
    )
    return Choice("--campaign", "repair", "guess", why)


def rows_to_repair(findings: Findings | None) -> tuple[RowKind, ...]:
    """Return which rows a repair selects: those whose vector another text or model made, too, if there are any.

    Without them new vectors of one space would stand among stored ones of another.
    """
    usual: tuple[RowKind, ...] = ("missing", "broken")
    if findings is None or not findings.sampled or findings.is_uniform:
        return usual
    is_near = findings.winner is not None and not findings.winner.is_exact
    return usual if is_near else (*usual, "divergent")


def repaired_as(findings: Findings | None, text: TextChoice) -> Writer | None:
    """Return the writer whose settings new vectors need; None unless they agree with this text, too."""
    writer = findings.winner if findings else None
    if findings is None or writer is None:
        return None
    recipe = writer.recipe
    alike = [
        one.recipe.candidate
        for one in findings.ranking
        if (one.recipe.prefix, one.recipe.pooling) == (recipe.prefix, recipe.pooling)
        and one.recipe.candidate.label in writer.same
    ]
    same = [(one.text, one.sql) for one in (recipe.candidate, *alike)]
    return writer if (text.text, text.sql) in same else None


def misfit(findings: Findings | None, text: TextChoice) -> str | None:
    """Return in words why a repair with this text would not fit the vectors that stay; None if it does."""
    if findings is None or not findings.sampled:
        return None
    writer = findings.winner
    if writer is None:
        return (
            "this model made none of the sampled vectors: the repair replaces all that differ where they are, and "
            "meanwhile the application reads vectors of two spaces; reembed fills a second column instead"
        )
    if not writer.is_exact:
        return (
            "the stored vectors are near this model's, not equal: name the file that made them, or raise "
            "validation.max_distance in the playbook, else its gates fail"
        )
    if repaired_as(findings, text) is not None:
        return None
    return f"the stored vectors were made of {writer.recipe}, as measured: new ones of {text.shown} will not fit"
