"""Which way a plan recommends: the index in place, or dropped and built again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facts_factory import column, table

from ragops.campaign.index_choice import about, choice
from ragops.postgres.index_rates import IndexRates
from ragops.row_facts import TargetFacts


def target(rows: int) -> TargetFacts:
    facts = replace(table("documents"), rows=rows)
    return TargetFacts(1, facts, (column("id", "bigint"),), "embedding", "embedding")


def test_few_rows_are_updated_with_the_index_in_place() -> None:
    line = choice(target(1_100_000), 9_300, IndexRates(38.0, 1_700.0), embedding_s=None, drops=False)
    assert "updating 9,300 rows with the index in place: about 4 min (measured: 38 rows/s)" in line
    assert "dropping and rebuilding: about 11 min without index" in line
    assert line.endswith("recommended: as planned")


def test_many_rows_are_worth_a_rebuild() -> None:
    rates = IndexRates(38.0, 1_700.0, is_recorded=True)
    line = choice(target(1_100_000), 1_000_000, rates, embedding_s=600.0, drops=False)
    assert "about 7.3 h" in line
    assert "about 21 min without index (11 min of it the build of 1,100,000 rows, of the last build)" in line
    assert line.endswith("faster: drop_indexes before embed and rebuild_indexes after it")
    assert choice(target(1_100_000), 1_000_000, rates, embedding_s=600.0, drops=True).endswith("as planned")


def test_where_embedding_takes_longer_than_writing_the_index_stays() -> None:
    line = choice(target(100_000), 100_000, IndexRates(400.0, 2_000.0), embedding_s=10_000.0, drops=True)
    assert line.endswith("recommended: no drop_indexes")


@pytest.mark.parametrize("rates", [IndexRates(None, 5.0, reason="why"), IndexRates(5.0, None, reason="why")])
def test_what_was_not_measured_is_said(rates: IndexRates) -> None:
    line = choice(target(100), 10, rates, embedding_s=None, drops=False)
    assert "was not measured (why)" in line
    assert "recommended" not in line


def test_times_are_in_the_unit_that_one_plans_in() -> None:
    assert [about(s) for s in (0.2, 80, 240, 5_000, 20_000)] == ["1 s", "80 s", "4 min", "83 min", "5.6 h"]
