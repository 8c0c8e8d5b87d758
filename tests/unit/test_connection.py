"""DSNs: malformed ones are refused without repeating the password, other machines need TLS."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping

import pytest
from psycopg.conninfo import conninfo_to_dict

from ragops.errors import UsageError
from ragops.postgres.connection import Target, parse_dsn

SECRET = "s3cret-canary"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)


LOCAL = [
    "",
    "dbname=rag",
    "postgresql:///rag",
    "postgres://localhost/rag",
    "postgresql://u@localhost:5433/rag",
    "postgresql://127.0.0.1/rag",
    "postgresql://127.9.9.9/rag",
    "postgresql://[::1]:5432/rag",
    "host=::1",
    "postgresql:///rag?host=/var/run/postgresql",
    "postgresql://%2Fvar%2Frun/rag",
    "host=/tmp,localhost",
    "host=@abstract",
    "hostaddr=127.0.0.1",
]
REMOTE = [
    "postgresql://db.example.com/rag",
    "postgresql://u@10.0.0.5:5432/rag",
    "postgresql://u@[2001:db8::1]:5432/rag",
    "postgresql://0.0.0.0/rag",
    "host=localhost.example.com",
    "host=localhost,db.example.com",
    "host=/tmp,db.example.com",
    "hostaddr=10.0.0.5",
    "host=db.example.com hostaddr=10.0.0.5",
    # libpq connects to hostaddr and takes host as its name only.
    "host=localhost hostaddr=10.0.0.5",
    "postgresql:///rag?host=db.example.com",
    "service=elsewhere",
]


@pytest.mark.parametrize("dsn", LOCAL)
def test_this_machine_needs_no_tls(dsn: str) -> None:
    assert "sslmode" not in conninfo_to_dict(parse_dsn(dsn).conninfo)


@pytest.mark.parametrize("dsn", ["host=localhost sslmode=disable", "postgresql:///rag?sslmode=prefer"])
def test_this_machine_may_go_without_tls(dsn: str) -> None:
    assert conninfo_to_dict(parse_dsn(dsn).conninfo) == conninfo_to_dict(dsn)


@pytest.mark.parametrize("dsn", REMOTE)
def test_another_machine_gets_tls(dsn: str) -> None:
    assert conninfo_to_dict(parse_dsn(dsn).conninfo) == {**conninfo_to_dict(dsn), "sslmode": "require"}


@pytest.mark.parametrize("dsn", REMOTE)
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_another_machine_with_tls_is_left_as_it_is(dsn: str, mode: str) -> None:
    asked = {**conninfo_to_dict(dsn), "sslmode": mode}
    assert conninfo_to_dict(parse_dsn(_joined(asked)).conninfo) == asked


@pytest.mark.parametrize("dsn", REMOTE)
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "bogus"])
def test_another_machine_without_tls_is_refused(dsn: str, mode: str) -> None:
    asked = _joined({**conninfo_to_dict(dsn), "sslmode": mode, "password": SECRET})
    with pytest.raises(UsageError, match="unencrypted") as caught:
        parse_dsn(asked)
    assert caught.value.actual == f"sslmode={mode}"
    assert caught.value.exit_code == 2
    assert SECRET not in _shown(caught.value)
    assert conninfo_to_dict(parse_dsn(asked, allow_plaintext=True).conninfo) == conninfo_to_dict(asked)


@pytest.mark.parametrize("variable", ["PGHOST", "PGHOSTADDR"])
def test_a_host_from_the_environment_needs_tls_too(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "10.0.0.5")
    assert conninfo_to_dict(parse_dsn("dbname=rag").conninfo)["sslmode"] == "require"
    assert "sslmode" not in conninfo_to_dict(parse_dsn("dbname=rag host=localhost hostaddr=127.0.0.1").conninfo)


MALFORMED = [
    f"postgres//u:{SECRET}@h/db",
    f"postgresql:/u:{SECRET}@h/db",
    f"http://u:{SECRET}@h/db",
    f"postgresql://u:{SECRET}%et@h/db",
    f"postgresql://u:{SECRET}%zz@h/db",
    f"postgresql://u:{SECRET}%00@h/db",
    f"postgresql://u:{SECRET}@[::1/db",
    f"postgresql://u:{SECRET}@h/db?nothing=1",
    f"postgresql://u:{SECRET}@h:port/db",
    f"host=h password='{SECRET}",
    f"host=h pasword={SECRET}",
    f"host=h password={SECRET} {SECRET}",
    f"{SECRET}",
    f"postgresql://u:{SECRET}\ud800@h/db",
    # libpq would take the rest of such a password for a host, a port or a database.
    f"postgresql://u:a@{SECRET}@h/db",
    f"postgresql://u:{SECRET}/a@h/db",
    f"postgresql://u:12/{SECRET}@h/db",
    f"postgresql://u:a?{SECRET}@b@h/db",
    f"postgresql://u:a\0{SECRET}@h/db",
]


@pytest.mark.parametrize("dsn", MALFORMED)
def test_malformed_is_refused_and_not_repeated(dsn: str) -> None:
    with pytest.raises(UsageError, match="the DSN is malformed") as caught:
        parse_dsn(dsn, allow_plaintext=True)
    shown = _shown(caught.value)
    assert SECRET not in shown
    assert "percent-encode" in shown


def test_percent_encoded_password_arrives_whole() -> None:
    target = parse_dsn("postgresql://u:p%40ss%2Fw%25rd@localhost/db")
    assert conninfo_to_dict(target.conninfo)["password"] == "p@ss/w%rd"
    assert target.label == "postgresql://u@localhost/db"


LABELS = [
    ("postgresql://u:s3cret-canary@localhost:5433/rag", "postgresql://u@localhost:5433/rag"),
    ("host=h user=u password=s3cret-canary dbname=rag", "postgresql://u@h/rag"),
    ("postgresql://h/rag?user=u&password=s3cret-canary&sslpassword=s3cret-canary", "postgresql://u@h/rag"),
    ("postgresql://u%40corp:s3cret-canary@h/rag", "postgresql://u%40corp@h/rag"),
    ("hostaddr=127.0.0.1 dbname=rag", "postgresql://127.0.0.1/rag"),
    ("postgresql://u@[2001:db8::1]:5432/rag", "postgresql://u@[2001:db8::1]:5432/rag"),
    ("dbname=rag", "postgresql://localhost/rag"),
]


@pytest.mark.parametrize(("dsn", "label"), LABELS)
def test_label_shows_where_and_no_password(dsn: str, label: str) -> None:
    target = parse_dsn(dsn)
    assert target.label == label
    assert repr(target) == str(target) == f"Target({label})"


def test_embedded_target_is_shown_by_its_label() -> None:
    target = Target(f"password={SECRET}", "the embedded server", is_embedded=True)
    assert f"{target}" == "Target(the embedded server)"


def _joined(parts: Mapping[str, object]) -> str:
    return " ".join(f"{key}='{value}'" for key, value in parts.items())


def _shown(error: UsageError) -> str:
    return "".join(traceback.format_exception(error)) + json.dumps(error.as_dict())
