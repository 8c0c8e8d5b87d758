"""Parse and check DSNs: TLS for other machines, and messages that never repeat a password."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ragops.errors import UsageError
from ragops.postgres.dsn_dialects import Translated, translate

# libpq's default sslmode, `prefer`, falls back to plaintext without an error, so only these count as encrypted:
# https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
_ENCRYPTED = {"require", "verify-ca", "verify-full"}
ALLOW = (
    "where the network is trusted (a Compose network, a tunnel): RAGOPS_ALLOW_PLAINTEXT=true with the playbook "
    "`realign`, or database.allow_plaintext: true in your own"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A database to connect to. `conninfo` may hold a password and is never printed; `label` is."""

    conninfo: str
    label: str
    is_embedded: bool = False
    asks_tls: bool = False
    """The DSN says nothing about TLS, and ragops added sslmode=require."""
    schema: str | None = None
    """The schema of tables that the playbook names without one; None: the search path decides."""
    notes: tuple[str, ...] = ()
    """What the DSN said in another program's words, and how ragops reads it."""

    def __repr__(self) -> str:
        return f"Target({self.label})"


def parse_dsn(dsn: str, *, allow_plaintext: bool = False) -> Target:
    """Parse and check a DSN (URI or key=value form), also as other programs write it.

    Raises UsageError if it is malformed or would reach another machine without TLS. The message never repeats
    the DSN: libpq's own message does, with the password.
    """
    translated = translate(dsn)
    parts: dict[str, str] | None
    try:
        parts = {k: str(value) for k, value in conninfo_to_dict(translated.dsn).items() if value is not None}
    except (psycopg.ProgrammingError, UnicodeError):
        parts = None
    # Raised outside of the except clause, so that no traceback chains libpq's message, which holds the password.
    if parts is None or _is_misread(translated.dsn, parts):
        raise UsageError(
            "the DSN is malformed",
            actual=_fault(translated.dsn),
            expected="postgresql://USER@HOST:PORT/DATABASE or host=… dbname=… user=…",
            hint="check --dsn, RAGOPS_DSN or the playbook's database.dsn; percent-encode special characters",
        )
    label = _label(parts)
    schema = _schema(translated, label)
    notes = translated.notes
    if schema is not None:
        notes = (*notes, f"schema={schema} is read as the schema of tables that the playbook names without one")
    asks_tls = False
    if not _is_on_this_machine(parts) and not allow_plaintext:
        mode = parts.get("sslmode")
        if mode is None:
            # PGSSLMODE or the service file may ask for more than `require` does.
            default = _defaults(parts).get("sslmode", "")
            asks_tls = default not in _ENCRYPTED
            parts["sslmode"] = "require" if asks_tls else default
        elif mode not in _ENCRYPTED:
            raise UsageError(
                "this DSN permits an unencrypted connection to another machine",
                where=label,
                actual=f"sslmode={mode}",
                expected="sslmode=require, verify-ca or verify-full",
                hint=f"drop sslmode from the DSN, or {ALLOW}",
            )
    return Target(make_conninfo(**parts), label, asks_tls=asks_tls, schema=schema, notes=notes)


def _schema(translated: Translated, label: str) -> str | None:
    """Return the DSN's schema. Raises UsageError for a search path of several, which is a session's state."""
    if translated.schema_is_list:
        raise UsageError(
            "the DSN names a search path, and ragops keeps no session state",
            where=label,
            expected="one schema, or none in the DSN",
            hint="leave it out of the DSN and write schema.table in the playbook's tables:",
        )
    return translated.schema


def _is_misread(dsn: str, parts: Mapping[str, str]) -> bool:
    """Return whether libpq took a part of the password for host, port or database.

    It happens with an `@`, `/` or NUL that is not percent-encoded. libpq then reports an unknown host, and its
    message prints the rest of the password.
    """
    address = dsn.split("://", 1)[1].split("?", 1)[0] if "://" in dsn.split("=", 1)[0] else ""
    before, at, after = address.partition("@")
    return (
        "\x00" in dsn
        or bool(at and "/" in before)
        or "@" in after
        # A leading @ is an abstract Unix socket, not a misread password.
        or any("@" in host[1:] for host in parts.get("host", "").split(","))
        or re.fullmatch(r"[0-9,]*", parts.get("port", "")) is None
    )


def _fault(dsn: str) -> str | None:
    """Return which part of a malformed DSN is at fault, without repeating what may be secret."""
    scheme, mark, rest = dsn.partition("://")
    if not mark or "=" in scheme:
        return _key_value_fault(dsn)
    if scheme not in ("postgresql", "postgres"):
        # A word that is no known scheme may be anything, a password included.
        known = scheme.lower() if scheme.lower() in _OTHERS else "an unknown scheme"
        return f"{known} in front of ://, needed: postgresql"
    address, _, query = rest.partition("?")
    login, at, place = address.partition("@")
    if "@" in place or ("@" in query and not at) or (at and "/" in login) or "\x00" in rest:
        return "the user or the password holds an @, / or ? that is not percent-encoded (%40, %2F, %3F)"
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", address):
        return (
            "a % in user, password, host or database that is not followed by two hexadecimal digits (%25 is a %)"
        )
    hosts = (place if at else login).partition("/")[0]
    if "[" in hosts and "]" not in hosts:
        return "the host: a [ without its ]"
    one = r"(?:\[[^\]]*\]|[^:\[\],]*)(?::[0-9]*)?"
    if not re.fullmatch(f"{one}(?:,{one})*", hosts):
        return "the port is not a number"
    for pair in query.split("&"):
        name = pair.partition("=")[0]
        if name not in _keywords():
            return f"the parameter {name}{_similar(name)}" if _is_harmless(name, pair) else "a parameter"
    return None


def _key_value_fault(dsn: str) -> str | None:
    """Return the word that is no keyword of libpq, if it is like one: any other may be a part of a password."""
    for name in re.findall(r"(\w+)\s*=", dsn):
        if name not in _keywords() and (similar := _similar(name)):
            return f"the keyword {name}{similar}"
    return None if "=" in dsn else "neither a URL nor keyword=value"


def _is_harmless(name: str, pair: str) -> bool:
    return "=" in pair and re.fullmatch(r"[A-Za-z_][A-Za-z_0-9.-]{0,40}", name) is not None


def _similar(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), _keywords(), n=1, cutoff=0.75)
    return f" (did you mean {near[0]}?)" if near else ""


def _keywords() -> list[str]:
    return [option.keyword.decode() for option in pq.Conninfo.get_defaults()]


# Databases and protocols that people have URLs of.
_OTHERS = ("http", "https", "mysql", "mariadb", "sqlite", "mongodb", "redis", "mssql", "oracle", "file", "ssh")


def _defaults(parts: Mapping[str, str]) -> dict[str, str]:
    """Return what libpq takes from the service file and from variables such as PGHOST."""
    with _service_variable(parts.get("service")):
        found = pq.Conninfo.get_defaults()
    return {option.keyword.decode(): option.val.decode() for option in found if option.val}


@contextmanager
def _service_variable(name: str | None) -> Iterator[None]:
    """Set PGSERVICE for a moment: libpq reads the service file of its defaults from nowhere else."""
    before = os.environ.get("PGSERVICE")
    if name is not None:
        os.environ["PGSERVICE"] = name
    try:
        yield
    finally:
        if name is not None:
            if before is None:
                del os.environ["PGSERVICE"]
            else:
                os.environ["PGSERVICE"] = before


def _is_on_this_machine(parts: Mapping[str, str]) -> bool:
    """Return whether every host of the DSN is this machine."""
    # libpq connects to `hostaddr` if it is given; `host` is then only the name to verify.
    hosts = parts.get("hostaddr") or parts.get("host")
    if not hosts:
        defaults = _defaults(parts)
        hosts = defaults.get("hostaddr") or defaults.get("host") or ""
        if not hosts and "service" in parts:
            # No such service is known here, so it may name any host.
            return False
    for host in hosts.split(","):
        # An absolute path or a leading @ is a Unix socket, and an empty name libpq's default socket.
        if not host or host.startswith(("/", "@")) or host == "localhost":
            continue
        try:
            if not ipaddress.ip_address(host).is_loopback:
                return False
        except ValueError:
            return False
    return True


def _label(parts: Mapping[str, str]) -> str:
    """Return the DSN's user, host, port and database as a URI; no password, no other parameter.

    What the DSN leaves open is shown as libpq completes it, from the service file or PGHOST, PGPORT and others.
    """
    known = {k: v for k, v in _defaults(parts).items() if k in ("host", "hostaddr", "port", "dbname", "user")}
    if "hostaddr" in parts or "host" in parts:
        # PGHOSTADDR of the environment does count beside a host of the DSN: libpq connects to the address.
        known.pop("host", None)
    shown = {**{k: v for k, v in known.items() if k in ("host", "hostaddr")}, **parts}
    for name, variable in (("port", "PGPORT"), ("dbname", "PGDATABASE"), ("user", "PGUSER")):
        if name not in parts and name in known and (os.environ.get(variable) or "service" in parts):
            shown[name] = known[name]
    if "service" in parts and not (shown.get("host") or shown.get("hostaddr")):
        return f"postgresql:///{parts.get('dbname', '')}?service={quote(parts['service'])}"
    user = f"{quote(shown['user'])}@" if "user" in shown else ""
    host = shown.get("host") or shown.get("hostaddr") or "localhost"
    host = f"[{host}]" if ":" in host else host
    port = f":{shown['port']}" if "port" in shown else ""
    return f"postgresql://{user}{host}{port}/{shown.get('dbname', '')}"
