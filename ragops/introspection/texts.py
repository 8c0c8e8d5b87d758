"""Candidates for the text that the vectors of a table are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragops.facts import quoted
from ragops.playbook.targets import template_parts
from ragops.postgres.statements import literal
from ragops.survey_facts import ColumnSurvey, Survey

# Names that programs and tutorials give to the column with the text, the most common first.
TEXT_NAMES = (
    *("content", "text", "document", "chunk", "body", "page_content", "chunk_text", "chunk_content", "passage"),
    *("paragraph", "content_text", "text_content", "raw_text", "plain_text", "description", "summary"),
)
# What often stands in front of the text.
TITLE_NAMES = ("title", "heading", "headline", "subject", "name", "question")
# Texts shorter than this are words, codes and states.
PROSE_LENGTH = 24
MOST_CANDIDATES = 12


@dataclass(frozen=True, slots=True)
class TextChoice:
    """A text that vectors may be made of: a template or an SQL expression, as a target has it."""

    label: str
    text: str | None = None
    sql: str | None = None
    why: str = ""

    @property
    def shown(self) -> str:
        """Return it as one would type it."""
        if self.text is not None:
            return self.text.replace("\n", "\\n").replace("\t", "\\t")
        return f"sql: {' '.join((self.sql or '').split())}"


def column_text(*columns: str, why: str = "") -> TextChoice:
    """Return the text of one column, or of several with a blank line between them."""
    label = " + ".join(columns)
    # Braces and what Python's templates give a meaning to cannot be part of a name there.
    if any(mark in column for column in columns for mark in "{}!:"):
        joined = " || E'\\n\\n' || ".join(f"coalesce({quoted(column)}::text, '')" for column in columns)
        return TextChoice(label, sql=quoted(columns[0]) if len(columns) == 1 else joined, why=why)
    template = "\n\n".join(f"{{{column}}}" for column in columns)
    assert template_parts(template)
    return TextChoice(label, text=template, why=why)


def json_text(column: str, key: str, *, why: str = "") -> TextChoice:
    """Return the text under a key of a JSON column."""
    return TextChoice(f"{column}.{key}", sql=f"{quoted(column)}->>{literal(key)}", why=why)


def parse_text(given: str, survey: Survey) -> TextChoice:
    """Return the text that an operator typed: a template, or the name of a column. Raises ValueError.

    In a shell's quotes `\\n` stays as it is, so it is read as the line break that it means.
    """
    template = given.replace("\\n", "\n").replace("\\t", "\t")
    if "{" not in template and "}" not in template:
        if template not in survey.columns:
            raise ValueError(
                f"{template!r} is no column of {survey.table.quoted}; columns in braces: '{{content}}'"
            )
        return column_text(template)
    parts = [column for _, column in template_parts(template) if column is not None]
    unknown = [column for column in parts if column not in survey.columns]
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in survey.columns)
        raise ValueError(f"{survey.table.quoted} has no column {unknown[0]}; its columns: {known}")
    return TextChoice(template, text=template)


def text_columns(survey: Survey) -> list[ColumnSurvey]:
    """Return the columns that hold prose, the likeliest first."""
    found = [c for c in survey.columns.values() if c.is_text and c.may_read and _is_prose(c, survey)]
    return sorted(found, key=lambda c: (_rank(c.name), -c.average_length))


def _is_prose(column: ColumnSurvey, survey: Survey) -> bool:
    if survey.sampled == 0:
        return _rank(column.name) < len(TEXT_NAMES) or column.name.lower() in TITLE_NAMES
    if column.name in survey.key or column.average_length == 0:
        return False
    return column.average_length >= PROSE_LENGTH or " " in column.example.strip() or _rank(column.name) < 6


def _rank(name: str) -> int:
    """Return the place of a name among those that columns with texts usually have."""
    lower = name.lower()
    return TEXT_NAMES.index(lower) if lower in TEXT_NAMES else len(TEXT_NAMES)


def candidate_texts(survey: Survey) -> tuple[TextChoice, ...]:
    """Return the texts that may have been embedded, the likeliest first."""
    columns = text_columns(survey)
    found = [column_text(column.name, why=_describe(column)) for column in columns]
    for column in survey.columns.values():
        found += [
            json_text(column.name, key.name, why=f"{key.average_length:,.0f} characters on average")
            for key in column.keys
            if key.average_length >= PROSE_LENGTH or _rank(key.name) < len(TEXT_NAMES)
            if not key.name.startswith("_")
        ]
    order = list(survey.columns)
    for first in columns:
        for second in columns:
            if order.index(first.name) < order.index(second.name):
                found.append(column_text(first.name, second.name))
    return tuple(found[:MOST_CANDIDATES])


def likeliest_text(survey: Survey) -> TextChoice | None:
    """Return the text that names and lengths speak for; None where they do not decide."""
    columns = text_columns(survey)
    titles = [c for c in columns if c.name.lower() in TITLE_NAMES]
    bodies = [c for c in columns if c not in titles]
    if len(bodies) == 1 or (bodies and _stands_out(bodies)):
        best = bodies[0]
        doubt = f"; {titles[0].name} may be part of the text, too" if titles else ""
        reason = "the only column with prose" if len(columns) == 1 else "by its name and the length of its values"
        return column_text(best.name, why=f"{reason} ({_describe(best)}){doubt}")
    if not columns:
        found = [c for c in candidate_texts(survey) if c.sql is not None]
        if len(found) == 1:
            return found[0]
    return None


def _stands_out(columns: Sequence[ColumnSurvey]) -> bool:
    """Return whether the first of several columns is the only one with a usual name, and not a short one."""
    first, second = columns[0], columns[1]
    longest = max(column.average_length for column in columns)
    return _rank(first.name) < _rank(second.name) == len(TEXT_NAMES) and first.average_length >= longest / 2


def _describe(column: ColumnSurvey) -> str:
    parts = [f"{column.type}, {column.average_length:,.0f} characters on average"]
    if column.null_share >= 0.005:
        parts.append(f"{column.null_share:.0%} NULL")
    return ", ".join(parts)
