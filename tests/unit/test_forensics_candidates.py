"""The texts that are tried for a table, and the columns that tell writers apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ragops.facts import ColumnFacts, TableFacts
from ragops.forensics.candidates import candidates_of
from ragops.forensics.findings import Group
from ragops.forensics.groups import condition_for, groups_of
from ragops.forensics.sample import PER_GROUP, Row, groupings, spread
from ragops.forensics.search import distance, structure
from ragops.playbook.targets import RowTarget
from ragops.postgres.stored_texts import Place


def table(**columns: str) -> TableFacts:
    facts = {
        name: ColumnFacts(name, kind, True, False, is_identity=False, is_generated=False)
        for name, kind in columns.items()
    }
    return TableFacts("public", "docs", 1, facts, rows=10, bytes=0, is_unlogged=False)


PROSE = "a text of several words"


def test_columns_come_first_then_pairs_in_their_order() -> None:
    facts = table(id="uuid", title="text", body="text", url="text", tenant_id="text", embedding="vector(8)")
    samples = [{"title": "Two words", "body": PROSE * 9, "url": "https://a.example/x", "tenant_id": "t1"}]
    found = candidates_of(facts, samples)
    assert [one.text for one in found] == [
        *("{body}", "{title}"),
        *("{title}\n\n{body}", "{title}\n{body}", "{title} {body}", "{title}: {body}"),
    ]


def test_a_column_without_prose_is_tried_alone() -> None:
    found = candidates_of(table(code="character varying(20)", body="text"), [{"code": "X-12", "body": PROSE}])
    assert [one.text for one in found] == ["{body}", "{code}"]


def test_every_candidate_is_a_target_s_text() -> None:
    facts = table(**{"Doc Text": "text", "title": "text", "meta": "jsonb", "embedding": "vector(8)"})
    samples = [
        {"Doc Text": PROSE, "title": PROSE, "meta": '{"heading": "two words", "page": "4", "_node_content": "{}"}'}
    ]
    found = candidates_of(facts, samples)
    for one in found:
        RowTarget(table="docs", text=one.text, sql=one.sql)
    by_label = {one.label: one for one in found}
    assert by_label["Doc Text"].sql == '"Doc Text"'
    assert by_label["meta heading"].sql == "meta->>'heading'"
    assert "LlamaIndex's metadata and title" in by_label and "lines of meta and title" in by_label
    joined = by_label['meta heading "\\n\\n" title'].sql
    assert joined == "coalesce((meta->>'heading')::text, '') || E'\\n\\n' || coalesce((title)::text, '')"
    # A % would have to be doubled wherever a statement with parameters is made of it.
    assert not any("%" in (one.sql or "") for one in found)
    assert len(found) == len(set(found))


def test_only_a_few_columns_are_paired() -> None:
    facts = table(**{f"c{i}": "text" for i in range(9)})
    samples = [{f"c{i}": PROSE * (i + 1) for i in range(9)}]
    found = candidates_of(facts, samples)
    assert len(found) == 9 + 4 * 6
    assert found[9].text == "{c5}\n\n{c6}"


def row(number: int, weight: int = 1) -> Row:
    return Row(Place(1, f"(0,{number})"), np.zeros(4, np.float32), {}, weight, is_extra=False)


def test_few_values_group_and_unique_ones_do_not() -> None:
    labels = [{"id": str(i), "kind": "ab"[i % 2], "same": "x", "tenant": "pqrs"[i % 4]} for i in range(40)]
    assert groupings(labels) == ["kind", "tenant"]
    assert groupings([{"long": "ab"[i % 2] * 99} for i in range(40)]) == []
    assert PER_GROUP >= 3


def test_the_sample_is_spread_and_leaves_out_the_shortest_and_the_longest() -> None:
    rows = [row(i, weight=i % 8) for i in range(96)]
    chosen = spread(rows, 12)
    assert [int(one.place.ctid[3:-1]) // 8 for one in chosen] == list(range(12))
    assert {one.weight for one in chosen} == {2}
    assert spread(rows[:3], 12) == rows[:3]


def conditions(writers: Sequence[int], **labels: Sequence[str | None]) -> list[str | None]:
    """For two writers and nobody (2)."""
    of_rows = [{name: values[i] for name, values in labels.items()} for i in range(len(writers))]
    rows = [replace(row(i), labels=own) for i, own in enumerate(of_rows)]
    groups = groups_of(rows, writers, 2)
    found = [condition_for(groups, writer) for writer in range(3)]
    return [one[1] if one else None for one in found]


def test_a_column_that_tells_writers_apart_becomes_a_condition() -> None:
    tenant = ["a"] * 4 + ["b"] * 4 + [None] * 4
    noise = [*"xyxyxyxyxyxy"]
    assert conditions([0] * 4 + [1] * 8, tenant=tenant, noise=noise) == [
        "tenant = 'a'",
        "tenant = 'b' OR tenant IS NULL",
        None,
    ]
    assert conditions([0] * 8 + [1] * 4, tenant=tenant)[0] == "tenant IN ('a', 'b')"
    # Half of b is of another writer.
    assert conditions([0] * 6 + [1] * 6, tenant=tenant) == [None, None, None]
    # Two rows prove nothing.
    assert conditions([0] * 2 + [1] * 4, tenant=["a"] * 2 + ["b"] * 4) == [None, None, None]


def test_a_value_is_quoted() -> None:
    assert conditions([0] * 3 + [1] * 3, c=["it's"] * 3 + ["b"] * 3)[0] == "c = 'it''s'"
    assert Group("c", None, 1, (4,), (1,)).to_json()["writers"] == [1]


def test_distances_of_shorter_and_longer_vectors() -> None:
    own = np.array([1, 0, 5, 5], np.float32)
    assert distance(np.array([2, 0], np.float32), own) == 0.0
    assert np.isnan(distance(np.ones(5, np.float32), own))
    assert np.isnan(distance(np.zeros(4, np.float32), own))
    assert np.isnan(distance(own, None))


def test_similarities_correlate_whatever_the_space() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 6)).astype(np.float32)
    turned = vectors @ np.linalg.qr(rng.normal(size=(6, 6)))[0].astype(np.float32)
    assert structure(list(vectors), list(turned)) > 0.999
    assert abs(structure(list(vectors), list(rng.normal(size=(20, 9)).astype(np.float32)))) < 0.3
    assert structure(list(vectors[:3]), list(turned[:3])) == -1.0
