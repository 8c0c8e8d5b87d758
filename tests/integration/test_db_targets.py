"""Targets on real catalogs: what is read of them, and what keeps their vectors from being written."""

from __future__ import annotations

import psycopg
import pytest
import row_targets
from campaigns import execute
from facts_factory import model as model_facts

from ragops.campaign.plan import Plan
from ragops.campaign.planning import plan_campaign
from ragops.errors import PlanRefused
from ragops.findings import PlanProblem
from ragops.postgres.catalog import Rows
from ragops.postgres.connection import Target, connect
from ragops.postgres.targets import find_targets
from ragops.row_facts import TargetFacts
from ragops.session import Session

MODEL = model_facts(dimensions=32)
NOTES = "CREATE TABLE notes (id int PRIMARY KEY, body text, embedding vector(32))"
STRANGER = ("DO $$ BEGIN CREATE ROLE ragops_stranger; EXCEPTION WHEN duplicate_object THEN NULL; END $$",)
BESIDE = """steps:
  - step: add_column
  - step: capture_writes
  - step: select_rows
  - step: embed
"""


def target(more: str = "", *, text: str = "text: '{body}'", table: str = "notes") -> str:
    """Return the `targets:` of one table, with more keys in flow style."""
    return f"targets:\n  - {{table: {table}, {text}{', ' + more if more else ''}}}\n"


def facts_of(
    dsn: str, targets: str, *, rows: Rows = Rows.EXACT
) -> tuple[tuple[TargetFacts, ...], list[PlanProblem]]:
    with connect(Target(dsn, "the test database")) as connection:
        return find_targets(connection, row_targets.playbook(targets=targets).targets, rows=rows)


def plan(dsn: str, targets: str, *, steps: str = row_targets.STEPS, role: str | None = None) -> Plan:
    """Plan a campaign, as another role if one is named."""
    dsn = psycopg.conninfo.make_conninfo(dsn, options=f"-c role={role}") if role else dsn
    with connect(Target(dsn, "the test database")) as connection:
        playbook = row_targets.playbook(targets=targets, steps=steps)
        return plan_campaign(Session.on(connection, Target(dsn, "the test database"), playbook), model=MODEL)


def problems(
    dsn: str, targets: str, *, steps: str = row_targets.STEPS, role: str | None = None
) -> list[PlanProblem]:
    with pytest.raises(PlanRefused) as caught:
        plan(dsn, targets, steps=steps, role=role)
    return list(caught.value.problems)


ATTACHED = (
    "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(32), changed timestamptz,"
    " length real GENERATED ALWAYS AS (vector_norm(embedding)) STORED,"
    " CONSTRAINT whole CHECK (vector_dims(embedding) = 32)) PARTITION BY RANGE (id)",
    "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE docs_2 PARTITION OF docs FOR VALUES FROM (10) TO (20)",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.changed := now(); RETURN NEW; END $$",
    "CREATE TRIGGER docs_touch BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION touch()",
    "CREATE TRIGGER on_body AFTER UPDATE OF body ON docs FOR EACH ROW EXECUTE FUNCTION touch()",
    "CREATE TRIGGER on_vector AFTER UPDATE OF embedding ON docs_1 FOR EACH ROW EXECUTE FUNCTION touch()",
    "CREATE TRIGGER off BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION touch()",
    "ALTER TABLE docs DISABLE TRIGGER off",
    "CREATE VIEW found AS SELECT id, embedding FROM docs",
    "CREATE VIEW above AS SELECT embedding FROM found WHERE id > 1",
    "CREATE MATERIALIZED VIEW kept AS SELECT embedding FROM docs",
    "CREATE FUNCTION nearest(q vector) RETURNS SETOF int LANGUAGE sql"
    " AS $$ SELECT id FROM docs ORDER BY embedding <-> q LIMIT 3 $$",
    "CREATE FUNCTION atomic() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(embedding) FROM docs; END",
    "CREATE FUNCTION other() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM docs $$",
    "CREATE POLICY have ON docs FOR SELECT TO PUBLIC USING (embedding IS NOT NULL)",
    "CREATE STATISTICS both_of ON id, embedding FROM docs",
    "ALTER TABLE docs ALTER embedding SET STORAGE EXTERNAL, ALTER embedding SET STATISTICS 7",
    "COMMENT ON COLUMN docs.embedding IS 'of body'",
    "GRANT SELECT (embedding) ON docs TO PUBLIC",
    "CREATE PUBLICATION parts FOR TABLE docs (id, body) WHERE (id > 3) WITH (publish_via_partition_root)",
    "INSERT INTO docs VALUES (1, 'a'), (2, ' '), (3, NULL), (11, 'b')",
)


def test_everything_that_is_attached_to_a_vector_column_is_read(dsn: str) -> None:
    execute(dsn, *ATTACHED)
    (facts,), found = facts_of(dsn, target("triggers: fire", table="docs"))
    assert not found
    assert [column.name for column in facts.key] == ["id"]
    assert {(trigger.name, trigger.table, trigger.assigns) for trigger in facts.fired} == {
        ("docs_touch", "public.docs", ("changed",)),
        ("on_vector", "public.docs_1", ()),
    }
    kinds = {one.name.removeprefix("public."): one.kind for one in facts.dependents}
    assert kinds == {
        "found": "view",
        "above": "view",
        "kept": "materialized view",
        "nearest(vector)": "function by its text",
        "atomic()": "function",
        "have on public.docs": "policy",
        "docs.length": "generated column",
        "whole on public.docs": "constraint",
        "on_vector on public.docs_1": "trigger",
        "both_of": "statistics",
    }
    names = [one.name for one in facts.dependents]
    assert names.index("public.found") < names.index("public.above")
    assert (facts.column_storage, facts.column_statistics, facts.column_comment) == ("external", 7, "of body")
    assert facts.column_grants == {"PUBLIC": ("SELECT",)}
    assert (facts.table.rows, facts.selected, facts.without_text) == (4, 2, 2)
    assert not facts.is_row_security_active and facts.may_update and not facts.unreadable
    assert [one.split(" (")[0] for one in facts.partial_publications] == ["parts"]
    # What makes a dependent again does so: each is dropped and made again by its own definition.
    drops = {
        "view": "DROP VIEW {} CASCADE",
        "materialized view": "DROP MATERIALIZED VIEW {}",
        "function": "DROP FUNCTION {}",
        "policy": "DROP POLICY {}",
        "generated column": "ALTER TABLE public.docs DROP COLUMN length",
        "constraint": "ALTER TABLE public.docs DROP CONSTRAINT whole",
        "trigger": "DROP TRIGGER {}",
        "statistics": "DROP STATISTICS {}",
    }
    made = [one for one in facts.dependents if one.definition]
    assert {one.kind for one in made} == drops.keys()
    dropped = [drops[one.kind].format(one.name) for one in reversed(made)]
    execute(dsn, *dropped, *(one.definition for one in made))
    assert facts_of(dsn, target("triggers: fire", table="docs"))[0][0].dependents == facts.dependents


REFUSED: list[tuple[str, str, str, str]] = [
    # What is done to the table `notes`, the keys of its target, words of the problem, words of the cure.
    ("", "where: 'body = '", "targets[0].where: the server refuses it", ""),
    ("", "where: 'body'", "argument of IS TRUE must be type boolean", ""),
    ("", "where: 'random() < 0.5'", "targets[0].where: it calls a volatile function", ""),
    ("", "where: 'deleted_at IS NULL) OR (true'", "targets[0].where: the server refuses it as a condition", ""),
    ("", "where: 'count(*) > 1'", "targets[0].where: an aggregate depends on other rows", ""),
    ("", "where: 'true); DROP TABLE notes; SELECT (true'", "targets[0].where: the server refuses it", ""),
    (
        "",
        "embedding: embeding",
        "public.notes.embeding (targets[0].embedding) does not exist; the table has emb",
        "",
    ),
    ("", "key: [body]", "have a NULL in the key (body; targets[0].key)", ""),
    ("UPDATE notes SET body = 'same'", "key: [body]", "3 rows have 1 different keys", ""),
    (
        "ALTER TABLE notes ADD k json NOT NULL DEFAULT '{}'",
        "key: [k]",
        "has type json, whose text identifies no row",
        "",
    ),
    (
        "ALTER TABLE notes ADD k real NOT NULL DEFAULT 0",
        "key: [k]",
        "has type real, whose text identifies no row",
        "",
    ),
    ("ALTER TABLE notes DROP CONSTRAINT notes_pkey", "", "no primary key", "ADD PRIMARY KEY"),
    (
        "CREATE TABLE heir () INHERITS (notes)",
        "",
        "table public.heir inherits from public.notes",
        "ALTER TABLE public.heir NO INHERIT public.notes",
    ),
    (
        "CREATE RULE quiet AS ON UPDATE TO notes DO ALSO NOTIFY there",
        "",
        "rule quiet on public.notes rewrites every UPDATE",
        "ALTER TABLE public.notes DISABLE RULE quiet",
    ),
    (
        "CREATE PUBLICATION every FOR TABLE notes; ALTER TABLE notes REPLICA IDENTITY NOTHING",
        "",
        "publication every, which forbids UPDATE without a replica identity",
        "ALTER TABLE public.notes REPLICA IDENTITY FULL",
    ),
    (
        "ALTER TABLE notes ALTER embedding TYPE vector(64)",
        "",
        "holds 64 dimensions, the model makes 32: write `write: b",
        "",
    ),
    ("ALTER TABLE notes DROP embedding, ADD embedding bit(32)", "", "has type bit(32), a vector of bits", ""),
    (
        "ALTER TABLE notes DROP embedding, ADD embedding real[]",
        "",
        "has type real[]; ragops writes vector and half",
        "",
    ),
    (
        "ALTER TABLE notes DROP embedding, ADD embedding sparsevec(32)",
        "",
        "type sparsevec(32), a sparse vector",
        "",
    ),
    (
        "ALTER TABLE notes ADD CONSTRAINT bent CHECK (vector_norm(embedding) > 2)",
        "",
        "writing a vector into public.notes.embedding fails: new row for relation",
        "",
    ),
    (
        "ALTER TABLE notes ALTER embedding TYPE vector;"
        "CREATE INDEX cast_i ON notes USING hnsw ((embedding::vector(64)) vector_l2_ops)",
        "",
        "index public.cast_i casts public.notes.embedding to 64 dimensions",
        "DROP INDEX public.cast_i",
    ),
    (
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$;"
        "CREATE TRIGGER no BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION no()",
        "triggers: fire",
        "fails: not here",
        "",
    ),
    (
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := 'x'; RETURN NEW; END $$;"
        "CREATE TRIGGER touch BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch()",
        "",
        "fires trigger touch (BEFORE UPDATE) on public.notes, which sets body. If these may fire",
        "",
    ),
    (
        "CREATE TRIGGER always BEFORE UPDATE ON notes FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger();"
        "ALTER TABLE notes ENABLE ALWAYS TRIGGER always",
        "triggers: disable",
        "these fire for a replica, too",
        "ALTER TABLE public.notes ENABLE TRIGGER always",
    ),
]


@pytest.mark.parametrize("done, keys, what, cure", REFUSED, ids=[f"{place:02}" for place in range(len(REFUSED))])
def test_what_keeps_vectors_from_being_written_is_known_before(
    dsn18: str, done: str, keys: str, what: str, cure: str
) -> None:
    rows = "INSERT INTO notes (id, body) VALUES (1, 'one'), (2, 'two'), (3, NULL)"
    execute(
        dsn18,
        NOTES,
        rows,
        *filter(None, done.split(";") if "$$" not in done and "DROP TABLE" not in done else [done]),
    )
    found = problems(dsn18, target(keys))
    assert [one for one in found if what in one.what and cure in one.cure], found
    assert len(found) == 1, found


def test_columns_of_a_template_and_expressions_are_checked(dsn18: str) -> None:
    execute(dsn18, NOTES)
    wanted = {
        "text: '{titel} {bdy}'": ["public.notes.titel (targets[0].text) does not", "the table has body"],
        "sql: 'title || body'": [
            'targets[0].sql: the server refuses it as a text over public.notes: column "title"'
        ],
        "sql: 'generate_series(1, id)'": ["targets[0].sql: the server refuses it", "set-returning"],
        "sql: 'body || random()'": ["targets[0].sql: it calls a volatile function"],
        "sql: 'body || row_number() OVER ()'": ["targets[0].sql: a window function depends on other rows"],
    }
    for text, words in wanted.items():
        said = "\n".join(problem.what for problem in problems(dsn18, target(text=text)))
        assert all(word in said for word in words), (text, said)
    steps = row_targets.STEPS.replace("rows: [all]", "{}").replace(
        "select_rows", "select_rows\n    where: boddy > 'a'", 1
    )
    (found,) = problems(dsn18, target(), steps=steps.replace("    {}\n", ""))
    assert found.what.startswith("steps[0].where: the server refuses it")
    assert not facts_of(
        dsn18, target(text="sql: \"lower(body) || (SELECT string_agg(n, '') FROM (VALUES ('a')) v (n))\"")
    )[1]


def test_what_the_role_lacks_is_named_with_its_grant(dsn18: str) -> None:
    database = psycopg.conninfo.conninfo_to_dict(dsn18)["dbname"]
    execute(
        dsn18,
        *STRANGER,
        "CREATE SCHEMA app",
        "CREATE TABLE app.notes (id int PRIMARY KEY, body text, secret text, embedding vector(32))",
        "GRANT SELECT (body) ON app.notes TO ragops_stranger",
        "GRANT USAGE ON SCHEMA app TO ragops_stranger",
        "GRANT USAGE, CREATE ON SCHEMA ragops TO ragops_stranger",
        "GRANT ALL ON ALL TABLES IN SCHEMA ragops TO ragops_stranger",
        "CREATE FUNCTION app.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        "CREATE TRIGGER seen BEFORE UPDATE ON app.notes FOR EACH ROW EXECUTE FUNCTION app.no()",
        "ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY",
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
    )
    found = problems(dsn18, target("triggers: disable", table="app.notes"), role="ragops_stranger")
    cures = [problem.cure for problem in found]
    assert "GRANT SELECT (id, embedding) ON app.notes TO ragops_stranger" in cures
    assert "GRANT UPDATE (embedding) ON app.notes TO ragops_stranger" in cures
    assert f"GRANT TEMPORARY ON DATABASE {database} TO ragops_stranger" in cures
    assert "ALTER ROLE ragops_stranger BYPASSRLS" in cures
    assert "GRANT SET ON PARAMETER session_replication_role TO ragops_stranger" in cures
    beside = problems(dsn18, target("write: beside", table="app.notes"), steps=BESIDE, role="ragops_stranger")
    assert "ALTER TABLE app.notes OWNER TO ragops_stranger" in [problem.cure for problem in beside]


def test_a_plan_says_what_happens_and_what_is_not_touched(dsn18: str) -> None:
    execute(dsn18, *ATTACHED)
    notes = "\n".join(plan(dsn18, target("triggers: fire", table="docs")).notes)
    assert "public.docs (targets[0]): 4 rows, 2 with a text; 2 have none and are left alone" in notes
    assert "not touched: id, body, changed, length of public.docs; no row is inserted" in notes
    assert "trigger docs_touch (BEFORE UPDATE) on public.docs sets changed of up to 2 rows" in notes
    assert "materialized view public.kept shows the old vectors until REFRESH" in notes
    assert "goes to the subscribers of publication parts, too" in notes
    silent = "\n".join(plan(dsn18, target("triggers: disable", table="docs")).notes)
    assert "triggers of public.docs do not fire for what ragops writes" in silent


def test_a_plan_beside_says_what_has_to_follow_the_cutover(dsn18: str) -> None:
    execute(
        dsn18,
        NOTES,
        "CREATE VIEW found AS SELECT id, embedding FROM notes",
        "CREATE FUNCTION nearest(q vector) RETURNS SETOF int LANGUAGE sql"
        " AS $$ SELECT id FROM notes ORDER BY embedding <-> q LIMIT 3 $$",
    )
    notes = plan(dsn18, target("write: beside"), steps=BESIDE).notes
    assert "view public.found refers to public.notes.embedding, and has to follow the cutover" in notes
    assert any(note.startswith("function nearest(vector) names notes and embedding") for note in notes)


def test_a_wide_model_needs_halfvec_where_the_old_column_is_indexed(dsn18: str) -> None:
    execute(dsn18, NOTES, "CREATE INDEX ON notes USING hnsw (embedding vector_cosine_ops)")
    with connect(Target(dsn18, "the test database")) as connection:
        playbook = row_targets.playbook(targets=target("write: beside"), steps=BESIDE)
        session = Session.on(connection, Target(dsn18, "the test database"), playbook)
        with pytest.raises(PlanRefused) as caught:
            plan_campaign(session, model=model_facts(dimensions=2048))
    assert "write `type: halfvec` into targets[0] (4,000 at most)" in str(caught.value.problems)
