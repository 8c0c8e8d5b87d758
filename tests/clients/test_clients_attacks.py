"""What an application, an administrator and the world do to a table while its vectors are made right."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from conftest import wait_for
from pooler import PROGRAM, running_pooler
from psycopg.conninfo import make_conninfo
from tcp_proxy import running_proxy

from clients.layout import Store
from clients.stage import Stage, named, wrong_rows

ALL = ("{step: select_rows, rows: [all]}", "{step: embed}")
HALFWAY = ("{step: select_rows, rows: [all]}", "{step: embed, until: 10}", "{step: validate}", "{step: embed}")


@contextmanager
def _held(store: Store, *statements: str) -> Iterator[Callable[[], None]]:
    """Run the application's statements in a transaction that stays open until the yielded function is called."""
    with psycopg.connect(store.dsn) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection.commit


def _ended(process: subprocess.Popen[str], *, timeout_s: float = 240) -> tuple[int, str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, f"{out}\n{err}"


def _items(store: Store) -> dict[str, int]:
    """Return the items of ragops by status; none before there is a queue."""
    if store.place.value("SELECT to_regclass('ragops.work') IS NULL"):
        return {}
    return dict(store.place.rows("SELECT status, count(*) FROM ragops.work GROUP BY 1"))


@pytest.mark.parametrize("layout", named("tenants"))
def test_the_application_writes_while_vectors_are_repaired(stage: Stage) -> None:
    """An edit, a deletion, a text that is gone and a vector of its own, all between reading and writing."""
    store = stage.store
    edited, deleted, emptied, own, added = range(5)
    vector = str(store.shifted.query("boil water on a fire"))
    playbook = store.write_playbook("repair", ALL)
    with _held(
        store,
        f"UPDATE kb SET content = 'the cat jumped over the dog' WHERE number = {edited}",
        f"DELETE FROM citations c USING kb WHERE kb.number = {deleted} AND c.doc_id = kb.doc_id",
        f"DELETE FROM kb WHERE number = {deleted}",
        f"UPDATE kb SET content = NULL WHERE number = {emptied}",
        f"UPDATE kb SET embedding = '{vector}', content = 'boil water on a fire' WHERE number = {own}",
        f"INSERT INTO kb VALUES ('new', 'row', {100 + added}, 'topic', 'a red fox', '{vector}')",
    ) as commit:
        process = store.place.start("reset", "--playbook", str(playbook), "--yes", "--json")
        # Everything that the application does not hold is written; what it holds is tried again, not waited for.
        wait_for(lambda: _items(store).get("completed", 0) == 36, what="the rows that nobody holds")
        commit()
    code, said = _ended(process)
    assert code == 0, said
    others = {row[0]: row[1] for row in store.place.rows("SELECT number, embedding::text FROM kb")}
    assert deleted not in others
    assert others[100 + added] == store.place.value(f"SELECT '{vector}'::vector::text")
    left = {text for text, _ in wrong_rows(store)}
    assert left == {None, "a red fox"}
    assert set(_items(store)) == {"completed"}


@pytest.mark.parametrize("layout", named("partitioned"))
def test_another_time_zone_finds_the_same_rows(stage: Stage) -> None:
    """A key with a time is the same row, whatever the role's settings are when it is read, written and undone."""
    store = stage.store
    columns, vectors = store.columns(), store.vectors()
    playbook = store.write_playbook("repair", ALL)
    database = store.place.value("SELECT current_database()")
    for setting in ("timezone = 'Asia/Kolkata'", "datestyle = 'German, DMY'", "extra_float_digits = -5"):
        store.place.execute(f"ALTER DATABASE {database} SET {setting}")
    store.ragops("reset", "--playbook", str(playbook), "--yes", "--json")
    assert wrong_rows(store) == []
    for setting in ("timezone = 'America/St_Johns'", "datestyle = 'SQL, MDY'"):
        store.place.execute(f"ALTER DATABASE {database} SET {setting}")
    store.ragops("undo", "--playbook", str(playbook), "--yes", "--json")
    for setting in ("timezone", "datestyle", "extra_float_digits"):
        store.place.execute(f"ALTER DATABASE {database} RESET {setting}")
    assert store.vectors() == vectors
    assert store.columns() == columns


@pytest.mark.parametrize("layout", named("halfvec"))
def test_a_renamed_table_is_still_undone(stage: Stage) -> None:
    """Undo finds the table by what it is, not by the name that it had."""
    store = stage.store
    vectors = store.vectors()
    playbook = store.write_playbook("repair", ALL)
    store.ragops("reset", "--playbook", str(playbook), "--yes", "--json")
    store.place.execute("ALTER TABLE notes RENAME TO remarks", "CREATE TABLE notes (id bigint)")
    store.ragops("undo", "--playbook", str(playbook), "--yes", "--json")
    store.place.execute("DROP TABLE notes", "ALTER TABLE remarks RENAME TO notes")
    assert store.vectors() == vectors


@pytest.mark.parametrize("layout", named("halfvec"))
def test_a_table_that_is_renamed_in_the_middle_stops_the_campaign(stage: Stage) -> None:
    """Nothing is written into another table that has the name now, and the message says what is missing."""
    store = stage.store
    playbook = store.write_playbook("repair", ALL)
    with _held(store, "SELECT FROM notes WHERE number = 5 FOR UPDATE") as commit:
        process = store.place.start("reset", "--playbook", str(playbook), "--yes", "--json")
        wait_for(lambda: _items(store).get("completed", 0) == 39, what="the rows that nobody holds")
        commit()
        store.place.execute(
            "BEGIN; ALTER TABLE notes RENAME TO remarks;"
            " CREATE TABLE notes (LIKE remarks INCLUDING ALL);"
            " INSERT INTO notes OVERRIDING SYSTEM VALUE SELECT id, number, topic, 'other' FROM remarks; COMMIT"
        )
    code, said = _ended(process)
    assert "internal error" not in said
    assert store.place.value("SELECT count(*) FROM notes WHERE embedding IS NOT NULL") == 0
    assert code == 0 or "notes" in said


@pytest.fixture
def clerk(stage: Stage) -> Iterator[str]:
    """A role that may read the table and write its vector column alone, and has a schema for ragops."""
    store = stage.store
    name = f"clerk_{store.place.value('SELECT current_database()')}"
    table, column = store.layout.vectors[0]
    store.place.execute(
        f"CREATE ROLE {name} LOGIN",
        f"GRANT CREATE ON DATABASE {store.place.value('SELECT current_database()')} TO {name}",
        f"GRANT SELECT, UPDATE ({column}) ON {table} TO {name}",
    )
    yield make_conninfo(store.dsn, user=name)
    store.place.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.mark.parametrize("layout", named("tenants"))
def test_a_role_that_may_only_write_the_vectors_suffices(stage: Stage, clerk: str) -> None:
    store = stage.store
    columns, vectors = store.columns(), store.vectors()
    playbook = store.write_playbook("repair", ALL)
    for command in ("reset", "undo"):
        done = store.place.ragops(command, "--playbook", str(playbook), "--yes", "--json", RAGOPS_DSN=clerk)
        assert done.code == 0, done.err
        if command == "reset":
            assert wrong_rows(store) == []
            store.assert_right(stage.application)
    assert store.vectors() == vectors
    assert store.columns() == columns


@pytest.mark.parametrize("layout", named("tenants"))
def test_rows_that_a_policy_hides_from_updates_do_not_hang(stage: Stage, clerk: str) -> None:
    """A role that sees all rows and may update some of them: the plan says it, or the rows fail; nothing loops."""
    store = stage.store
    name = psycopg.conninfo.conninfo_to_dict(clerk)["user"]
    store.place.execute(
        "ALTER TABLE kb ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY reads ON kb FOR SELECT TO {name} USING (true)",
        f"CREATE POLICY writes ON kb FOR UPDATE TO {name} USING (number >= 10)",
    )
    playbook = store.write_playbook("repair", ALL)
    done = store.place.ragops("reset", "--playbook", str(playbook), "--yes", "--json", RAGOPS_DSN=clerk)
    assert done.code != 0, done.out
    assert "row-level security" in done.err.lower() or "policy" in done.err.lower(), done.err


@pytest.mark.parametrize("layout", named("halfvec"))
def test_a_trigger_that_swallows_updates_does_not_hang(stage: Stage) -> None:
    store = stage.store
    store.place.execute(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.number < 3 THEN RETURN NULL; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER swallow BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    target = {**store.layout.targets[0], "triggers": "fire"}
    playbook = store.write_playbook("repair", ALL, targets=(target,))
    done = store.place.ragops("reset", "--playbook", str(playbook), "--yes", "--json")
    assert len(wrong_rows(store)) == 3
    assert done.code != 0 or _items(store).get("failed") == 3, done.err


@pytest.mark.parametrize("layout", named("halfvec"))
def test_a_text_that_is_never_the_same_does_not_hang(stage: Stage) -> None:
    store = stage.store
    before = store.vectors()
    target = {"table": "notes", "sql": "content || now()", "where": "number < 4"}
    playbook = store.write_playbook("repair", ALL, targets=(target,))
    done = store.place.ragops("reset", "--playbook", str(playbook), "--yes", "--json")
    assert _items(store) == {"failed": 4}, done.err
    assert "now()" in store.place.value("SELECT min(last_error) FROM ragops.work")
    assert store.vectors() == before


@pytest.mark.parametrize("layout", named("halfvec"))
def test_sql_of_the_operator_may_hold_anything(stage: Stage) -> None:
    """Percent signs, quotes, braces, comments and line breaks are the server's business alone."""
    store = stage.store
    target = {
        "table": "notes",
        "sql": "content -- the text, 100 %s",
        "where": "topic NOT LIKE '%z' AND content <> '{x}' AND '%%' <> '%s' -- all {of} them",
    }
    playbook = store.write_playbook("repair", ALL, targets=(target,))
    done = store.place.ragops("reset", "--playbook", str(playbook), "--yes", "--json")
    assert done.code == 0, done.err
    assert wrong_rows(store) == []


KEYS = {
    "numeric": "(number::numeric / 100)::numeric(10, 4)",
    "char(9)": "'k' || number",
    "date": "date '2024-02-28' + number",
    "bytea": "convert_to('k\\' || number, 'UTF8')",
    "interval": "make_interval(mins => number)",
    "mood": "CASE WHEN number % 2 = 0 THEN 'fine' ELSE 'so, \"so\"' END",
    "boolean": "number % 2 = 0",
    "inet": "inet '10.0.0.0' + number",
    "jsonb": "jsonb_build_object('a', number)",
    "text[]": "ARRAY['a,b', number::text, NULL]",
    "timestamp": "timestamp 'infinity'",
    "smallint": "number",
    "names.word": "'w' || number",
}


@pytest.mark.parametrize("layout", named("halfvec"))
def test_a_key_of_any_type_finds_its_row(stage: Stage) -> None:
    """One key of many columns: each type goes to text and back."""
    store = stage.store
    columns = [f'"k {place}"' for place, _ in enumerate(KEYS)]
    typed = ", ".join(f"{column} {kind}" for column, kind in zip(columns, KEYS, strict=True))
    values = ", ".join(f"({value})::{kind}" for kind, value in KEYS.items())
    store.place.execute(
        "CREATE SCHEMA names",
        "CREATE TYPE mood AS ENUM ('fine', 'so, \"so\"')",
        "CREATE DOMAIN names.word AS varchar(10)",
        f"CREATE TABLE keyed ({typed}, number int, content text, embedding vector(32))",
        f"ALTER TABLE keyed ADD PRIMARY KEY ({', '.join(columns)})",
        f"INSERT INTO keyed SELECT {values}, number, content, embedding::vector FROM notes",
    )
    targets = ({"table": "keyed", "text": "{content}"},)
    playbook = store.write_playbook("repair", ALL, targets=targets)
    texts = "SELECT md5(string_agg(k::text, '' ORDER BY number)) FROM (SELECT * FROM keyed) k"
    before = store.place.value(texts)
    store.ragops("reset", "--playbook", str(playbook), "--yes", "--json")
    assert wrong_rows(store, targets) == []
    store.ragops("undo", "--playbook", str(playbook), "--yes", "--json")
    assert store.place.value(texts) == before


@pytest.mark.skipif(PROGRAM is None, reason="needs pgbouncer")
@pytest.mark.parametrize("layout", named("tenants"))
def test_a_transaction_pooler_is_no_obstacle(stage: Stage) -> None:
    """PgBouncer gives every transaction another server session."""
    store = stage.store
    vectors = store.vectors()
    playbook = store.write_playbook("repair", ALL)
    with running_proxy(store.dsn) as upstream, running_pooler(upstream.dsn(), pool_size=2) as pooler:
        for command in ("reset", "undo"):
            dsn = pooler.dsn(store.dsn)
            done = store.place.ragops(command, "--playbook", str(playbook), "--yes", "--json", RAGOPS_DSN=dsn)
            assert done.code == 0, done.err
            if command == "reset":
                assert wrong_rows(store) == []
    assert store.vectors() == vectors
