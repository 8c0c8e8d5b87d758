"""What follows for a playbook from what was measured."""

from __future__ import annotations

import pytest

from ragops.forensics.candidates import Candidate
from ragops.forensics.findings import Findings, Ranked, Recipe, Writer
from ragops.introspection.measuring import (
    measured_campaign,
    measured_text,
    misfit,
    repaired_as,
    rows_to_repair,
)
from ragops.introspection.texts import TextChoice

BODY = Candidate("body", text="{body}")
SQL = Candidate("body as SQL", sql="body")
TITLE = Candidate("title", text="{title}")


def writer(candidate: Candidate, rows: int, *, is_exact: bool = True, same: tuple[str, ...] = ()) -> Writer:
    recipe = Recipe(candidate, "passage: ", "cls")
    return Writer(recipe, is_exact, rows=rows, agreeing=rows, near=rows, median=0.0, same=same)


def findings(*writers: Writer, sampled: int = 50, unexplained: int = 0) -> Findings:
    ranking = tuple(Ranked(Recipe(one, "passage: ", "cls"), 12, 12, 12, 0.0) for one in (BODY, SQL, TITLE))
    return Findings(
        table="docs",
        column="embedding",
        model="m",
        total=sampled,
        sampled=sampled,
        writers=writers,
        unexplained=unexplained,
        zero=0,
        dimensions=(3,),
        model_dimensions=3,
        is_normalised=True,
        ranking=ranking,
        groups=(),
    )


@pytest.mark.parametrize(
    ("found", "text", "campaign", "rows"),
    [
        (findings(writer(BODY, 50)), "measured", "repair", 2),
        (findings(writer(BODY, 30), unexplained=20), "measured", "repair", 3),
        (findings(writer(BODY, 20), writer(TITLE, 15), unexplained=15), "guess", "repair", 3),
        (findings(writer(BODY, 50, is_exact=False)), "guess", "repair", 2),
        (findings(unexplained=50), None, "reembed", 3),
        (findings(sampled=0), None, None, 2),
    ],
    ids=["one writer", "a part", "several writers", "near", "another model", "no vector"],
)
def test_text_campaign_and_rows_follow(found: Findings, text: str | None, campaign: str | None, rows: int) -> None:
    chosen, proposed = measured_text(found), measured_campaign(found)
    assert (chosen and chosen.certainty) == text
    assert (proposed and proposed.value) == campaign
    assert len(rows_to_repair(found)) == rows


def test_the_settings_count_for_texts_with_the_same_vectors_alone() -> None:
    found = findings(writer(BODY, 50, same=("body as SQL",)))
    body, same, other = (
        TextChoice("x", text="{body}"),
        TextChoice("x", sql="body"),
        TextChoice("x", text="{title}"),
    )
    assert [bool(repaired_as(found, text)) for text in (body, same, other)] == [True, True, False]
    assert (misfit(found, body), misfit(found, same)) == (None, None)
    assert "new ones of {title} will not fit" in (misfit(found, other) or "")
    assert "vectors of two spaces" in (misfit(findings(unexplained=50), body) or "")
    assert "near this model's, not equal" in (misfit(findings(writer(BODY, 50, is_exact=False)), body) or "")
    assert misfit(None, body) is None
    assert misfit(findings(sampled=0), body) is None
