"""DSNs as other programs write them: known ones are translated and said, the part at fault is named."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from ragops.errors import UsageError
from ragops.postgres.dsn import parse_dsn

SECRET = "s3cret-canary"
PLAIN = "postgresql://u:pw@localhost:5433/rag"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE", "PGPORT", "PGUSER", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)


# The DSN, what it adds to PLAIN's parameters, and words of the notes.
KNOWN: list[tuple[str, dict[str, str], list[str]]] = [
    (PLAIN, {}, []),
    (PLAIN.replace("postgresql", "postgres"), {}, []),
    (PLAIN.replace("postgresql", "postgresql+psycopg"), {}, ["postgresql+psycopg:// is read as postgresql://"]),
    (PLAIN.replace("postgresql", "postgresql+asyncpg"), {}, ["postgresql+asyncpg://"]),
    (PLAIN.replace("postgresql", "postgresql+psycopg2"), {}, ["postgresql+psycopg2://"]),
    (PLAIN.replace("postgresql", "postgis"), {}, ["postgis://"]),
    (PLAIN.replace("postgresql", "PostgreSQL"), {}, []),
    ("jdbc:postgresql://localhost:5433/rag?user=u&password=pw", {}, ["jdbc:postgresql://"]),
    (f"  {PLAIN}\n", {}, []),
    (f"'{PLAIN}'", {}, ["the quotes around"]),
    (f'"{PLAIN}"', {}, ["the quotes around"]),
    (f"DATABASE_URL={PLAIN}", {}, ["the name of a variable"]),
    (f"export DATABASE_URL='{PLAIN}';", {}, ["the name of a variable", "the quotes around"]),
    (f'RAGOPS_DSN: "{PLAIN}"', {}, ["the name of a variable", "the quotes around"]),
    (f"{PLAIN}?pgbouncer=true&connection_limit=1", {}, ["pgbouncer is not for ragops", "connection_limit"]),
    (f"{PLAIN}?statement_cache_size=0&pool_timeout=20", {}, ["statement_cache_size", "pool_timeout"]),
    (f"{PLAIN}?sslmode=no-verify", {"sslmode": "require"}, ["sslmode=no-verify is read as sslmode=require"]),
    (f"{PLAIN}?ssl=true", {"sslmode": "require"}, ["ssl=true is read as sslmode=require"]),
    (f"{PLAIN}?ssl=verify-full", {"sslmode": "verify-full"}, []),
    (f"{PLAIN}?ssl=false", {"sslmode": "disable"}, ["ssl=false is read as sslmode=disable"]),
    (f"{PLAIN}?sslaccept=strict", {"sslmode": "verify-full"}, ["sslaccept=strict"]),
    (f"{PLAIN}?sslmode=verify-full", {"sslmode": "verify-full"}, []),
    (f"{PLAIN}?pgbouncer=true&sslmode=require&supa=base", {"sslmode": "require"}, ["pgbouncer", "supa"]),
    ("host=localhost port=5433 user=u password=pw dbname=rag", {}, []),
]


@pytest.mark.parametrize(("dsn", "more", "notes"), KNOWN)
def test_what_other_programs_write_is_translated(dsn: str, more: dict[str, str], notes: list[str]) -> None:
    target = parse_dsn(dsn)
    assert conninfo_to_dict(target.conninfo) == {**conninfo_to_dict(PLAIN), **more}
    assert target.label == "postgresql://u@localhost:5433/rag"
    said = "\n".join(target.notes)
    assert all(note in said for note in notes)
    assert bool(said) == bool(notes) or "verify-full" in dsn
    assert "pw" not in said


@pytest.mark.parametrize(
    ("dsn", "schema"),
    [
        (f"{PLAIN}?schema=kb", "kb"),
        (f"{PLAIN}?currentSchema=kb", "kb"),
        (f"{PLAIN}?search_path=My%20Schema", "My Schema"),
        (f"{PLAIN}?schema=public&pgbouncer=true", "public"),
        (PLAIN, None),
    ],
)
def test_a_schema_is_kept_apart(dsn: str, schema: str | None) -> None:
    target = parse_dsn(dsn)
    assert target.schema == schema
    assert conninfo_to_dict(target.conninfo) == conninfo_to_dict(PLAIN)
    assert any("schema" in note for note in target.notes) == (schema is not None)


def test_a_search_path_of_several_schemas_is_refused() -> None:
    with pytest.raises(UsageError, match="search path") as caught:
        parse_dsn(f"{PLAIN}?search_path=kb,public")
    assert caught.value.hint is not None and "schema.table" in caught.value.hint


def test_a_password_with_a_question_mark_stays_whole() -> None:
    dsn = "postgresql://u:a?ssl=true&pgbouncer=x@localhost/db"
    assert conninfo_to_dict(parse_dsn(dsn).conninfo)["password"] == "a?ssl=true&pgbouncer=x"


FAULTS = [
    (f"mysql://u:{SECRET}@h/db", "mysql in front of ://"),
    (f"https://u:{SECRET}@h/db", "https in front of ://"),
    (f"{SECRET}://u:pw@h/db", "an unknown scheme"),
    (f"postgresql://u:{SECRET}@h:port/db", "the port is not a number"),
    (f"postgresql://u:{SECRET}@[::1/db", "[ without its ]"),
    (f"postgresql://u:{SECRET}%zz@h/db", "two hexadecimal digits"),
    (f"postgresql://u:a@{SECRET}@h/db", "not percent-encoded"),
    (f"postgresql://u:{SECRET}/a@h/db", "not percent-encoded"),
    (f"postgresql://u:a?{SECRET}@b@h/db", "not percent-encoded"),
    (f"postgresql://u:{SECRET}@h/db?sslmod=require", "the parameter sslmod (did you mean sslmode?)"),
    (f"postgresql://u:{SECRET}@h/db?nothing=1", "the parameter nothing"),
    (f"host=h pasword={SECRET}", "the keyword pasword (did you mean password?)"),
    (SECRET, "neither a URL nor keyword=value"),
    (f"host=h password=a {SECRET}=b", None),
]


@pytest.mark.parametrize(("dsn", "part"), FAULTS)
def test_the_part_at_fault_is_named_and_no_secret(dsn: str, part: str | None) -> None:
    with pytest.raises(UsageError, match="the DSN is malformed") as caught:
        parse_dsn(dsn, allow_plaintext=True)
    assert part in (caught.value.actual or "") if part is not None else caught.value.actual is None
    shown = "".join(traceback.format_exception(caught.value)) + json.dumps(caught.value.as_dict())
    assert SECRET not in shown


def test_a_service_is_shown_as_libpq_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "services"
    file.write_text(
        "[far]\nhost=db.example.com\nport=6543\ndbname=rag\nuser=reader\nsslmode=verify-full\n"
        f"[near]\nhost=localhost\npassword={SECRET}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    far = parse_dsn("service=far")
    assert far.label == "postgresql://reader@db.example.com:6543/rag"
    # What the service asks for is more than `require`, and stays.
    assert conninfo_to_dict(far.conninfo)["sslmode"] == "verify-full"
    assert not far.asks_tls
    near = parse_dsn("service=near")
    assert "localhost" in near.label and SECRET not in near.label
    assert "sslmode" not in conninfo_to_dict(near.conninfo)
    unknown = parse_dsn("service=elsewhere")
    assert unknown.label == "postgresql:///?service=elsewhere"
    assert unknown.asks_tls


@pytest.mark.parametrize("variable", ["PGHOST", "PGHOSTADDR"])
def test_the_label_names_the_host_of_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "10.0.0.5")
    monkeypatch.setenv("PGPORT", "6543")
    assert parse_dsn("dbname=rag").label == "postgresql://10.0.0.5:6543/rag"
    assert parse_dsn("dbname=rag host=/tmp").label.endswith("/tmp:6543/rag")


def test_sslmode_of_the_environment_is_not_weakened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    assert conninfo_to_dict(parse_dsn("host=db.example.com").conninfo)["sslmode"] == "verify-ca"
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert conninfo_to_dict(parse_dsn("host=db.example.com").conninfo)["sslmode"] == "require"
