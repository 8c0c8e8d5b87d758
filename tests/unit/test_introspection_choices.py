"""What is certain, what is a guess and what has to be asked, from the facts of a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ragops.errors import UsageError
from ragops.facts import TableFacts
from ragops.introspection.choices import (
    choose_campaign,
    choose_key,
    choose_text,
    choose_where,
    group_columns,
    matching,
)
from ragops.introspection.clients import node_text, recognise
from ragops.introspection.gathering import Gathered
from ragops.introspection.realigning import map_documents
from ragops.introspection.texts import candidate_texts, column_text, parse_text
from ragops.survey_facts import (
    ColumnSurvey,
    Group,
    JsonKey,
    KeySurvey,
    NodeSurvey,
    Survey,
    VectorColumn,
    VectorizerSurvey,
    VectorSurvey,
)

TABLE = TableFacts("public", "docs", 1, {}, rows=100, bytes=0, is_unlogged=False)
VECTOR = VectorColumn("public", "docs", "table", "embedding", "vector(3)", "vector", 3, 100)


def text(name: str, length: float = 80.0, *, base: str = "text", distinct: int = 100) -> ColumnSurvey:
    return ColumnSurvey(name, base, base, is_text=base != "bytea", average_length=length, distinct=distinct)


def survey(*columns: ColumnSurvey, name: str = "docs", key: str = "id", **changes: object) -> Survey:
    known = {column.name: column for column in columns}
    table = replace(TABLE, name=name)
    keys = (KeySurvey((key,), True, True),) if key else ()
    return Survey(table, (VECTOR,), known, sampled=100, keys=keys, **changes)  # type: ignore[arg-type]


def test_encrypted_texts_of_open_webui_are_asked_for() -> None:
    found = survey(text("collection_name", 8), text("text", base="bytea"), text("vmetadata", base="bytea"))
    recognised = recognise(found)
    assert recognised is not None and recognised.client == "Open WebUI"
    chosen = choose_text(found, recognised)
    assert chosen.certainty == "unknown" and "encrypted" in chosen.why


@pytest.mark.parametrize(
    ("vectorizer", "certainty", "said"),
    [
        (VectorizerSurvey("m", "$chunk", "public.blog"), "sure", "pgai embeds it"),
        (VectorizerSurvey("m", "$title: $chunk", "public.blog", ("id",)), "guess", "$title: $chunk"),
        (VectorizerSurvey("m", "$title: $chunk", "public.blog"), "unknown", "$title: $chunk"),
        (VectorizerSurvey("m", "$ chunk", "public.blog", ("id",)), "unknown", "$ chunk"),
        (None, "guess", "formatting is unknown"),
    ],
    ids=["as it is", "formatted", "no key", "no template", "not known"],
)
def test_the_formatting_of_a_vectorizer_decides(
    vectorizer: VectorizerSurvey | None, certainty: str, said: str
) -> None:
    columns = (text("embedding_uuid", 36), text("chunk_seq", 1), text("chunk"))
    found = survey(*columns, vectorizer=vectorizer)
    chosen = choose_text(found, recognise(found))
    assert chosen.certainty == certainty and said in chosen.why


def test_a_template_of_llama_index_that_nobody_knows_is_asked_for() -> None:
    node = NodeSurvey(text_template="{metadata_str} {title}")
    found = survey(text("node_id", 36), text("metadata_", base="json"), text("text"), node=node)
    assert choose_text(found, recognise(found)).certainty == "unknown"
    with pytest.raises(ValueError, match="'title'"):
        node_text(node)


def test_one_column_with_prose_is_a_guess_and_two_are_a_question() -> None:
    slug = text("slug", 9)
    only = choose_text(survey(slug, text("words")), None)
    assert (only.certainty, only.value and only.value.text) == ("guess", "{words}")
    named = choose_text(survey(text("remarks"), text("body")), None)
    assert named.value is not None and named.value.text == "{body}"
    titled = choose_text(survey(text("title", 40), text("body")), None)
    assert titled.certainty == "guess" and "title may be part of the text" in titled.why
    short = choose_text(survey(text("body", 30), text("remarks", 300)), None)
    assert short.certainty == "unknown"
    assert choose_text(survey(text("content"), text("text")), None).certainty == "unknown"


def test_a_text_in_json_is_proposed() -> None:
    column = replace(text("metadata", base="jsonb"), is_text=False, keys=(JsonKey("text", 1.0, 90.0),))
    chosen = choose_text(survey(column), None)
    assert chosen.value is not None and chosen.value.sql == "metadata->>'text'"


def test_a_name_that_a_template_cannot_hold_is_sql() -> None:
    assert column_text("a!b").sql == '"a!b"'
    assert column_text("Doc: x", "y").sql == "coalesce(\"Doc: x\"::text, '') || E'\\n\\n' || coalesce(y::text, '')"
    assert column_text("Content %", "y").text == "{Content %}\n\n{y}"


def test_what_is_typed_is_a_template_or_a_column() -> None:
    found = survey(text("title"), text("body"))
    assert parse_text("body", found).text == "{body}"
    assert parse_text(r"{title}\n\n{body}", found).text == "{title}\n\n{body}"
    assert [one.shown for one in candidate_texts(found)] == ["{body}", "{title}", r"{title}\n\n{body}"]
    for wrong in ("bdy", "{bdy}", "{body"):
        with pytest.raises(ValueError, match=r"bdy|body"):
            parse_text(wrong, found)


def test_a_key_comes_from_the_catalog_or_has_to_be_named() -> None:
    keys = (KeySurvey(("a", "b"), False, True), KeySurvey(("c",), False, False))
    assert choose_key(replace(survey(key=""), keys=keys)).value == ("a", "b")
    assert choose_key(survey(key="")).certainty == "unknown"


def test_several_models_in_one_column_need_a_condition() -> None:
    seen = VectorSurvey(sampled=9, dimensions={3: 9})
    groups = [Group("model", "a", 5, "a", "model = 'a'"), Group("model", "b", 4, "b", "model = 'b'")]
    chosen = choose_where(VECTOR, seen, groups, None, "repair")
    assert chosen.certainty == "unknown" and "model = 'a'" in chosen.why
    tenants = [replace(group, column="tenant_id") for group in groups]
    every = choose_where(VECTOR, seen, tenants, None, "repair")
    assert every.value == () and "tenant_id would divide them: a (5 rows)" in every.why
    found = survey(text("tenant_id", 1, distinct=3), text("Model", 4, distinct=2), text("id_hash", distinct=100))
    assert group_columns(found, None) == ("Model", "tenant_id")


@pytest.mark.parametrize(
    ("vectors", "dimensions", "campaign"),
    [
        (VectorSurvey(sampled=9, missing=1, dimensions={3: 8}), 3, "repair"),
        (VectorSurvey(sampled=9, dimensions={3: 9}), 4, "reembed"),
        (VectorSurvey(), 4, "reembed"),
        (VectorSurvey(sampled=9, dimensions={3: 9}), None, "repair"),
    ],
)
def test_the_campaign_follows_from_what_is_stored(
    vectors: VectorSurvey, dimensions: int | None, campaign: str
) -> None:
    chosen = choose_campaign(vectors, VECTOR, dimensions)
    assert (chosen.value, chosen.certainty) == (campaign, "guess")


def test_a_table_is_found_by_its_name_in_any_schema() -> None:
    other = replace(VECTOR, schema="Other")
    assert matching([VECTOR, other], "docs", None) == [VECTOR, other]
    assert matching([VECTOR, other], '"Other".docs', "embedding") == [other]
    assert matching([VECTOR, other], "Docs", None) == []


def test_emptying_and_refilling_is_refused_where_a_client_would_lose_its_rows() -> None:
    def gathered(found: Survey) -> Gathered:
        return Gathered(found, VECTOR, VectorSurvey(), (), (), recognise(found))

    client = survey(text("langchain_id", 36), text("content"), key="langchain_id")
    with pytest.raises(UsageError, match="realign empties the table"):
        map_documents(gathered(client))
    own = survey(text("id", 36), text("path"), text("content"), text("tenant"))
    mapped = dict(map_documents(gathered(own)).columns)
    assert mapped == {
        "id": "id",
        "file_id": "",
        "file_path": "path",
        "metadata": "",
        "content": "content",
        "embedding": "embedding",
    }
    assert any("tenant" in note for note in map_documents(gathered(own)).notes)
    with pytest.raises(UsageError, match="realign needs another table"):
        map_documents(gathered(survey(text("id", 36), text("content"), key="")))
