"""A password in the DSN opens the database and appears nowhere else."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import wait_for
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from workplace import Workplace

from ragops.playbook.loading import shipped_playbooks

CANARY = "c4n4ry-pa55word"


@pytest.fixture(params=["url", "words"])
def secret(request: pytest.FixtureRequest, place: Workplace) -> Workplace:
    """The same database, by a DSN with a password that the server does not ask for."""
    parts = conninfo_to_dict(place.dsn)
    url = f"postgresql://{parts['user']}:{CANARY}@/{parts['dbname']}?host={parts['host']}"
    dsn = url if request.param == "url" else make_conninfo(place.dsn, password=CANARY)
    place.variables["RAGOPS_DSN"] = dsn
    return place


def ledger(place: Workplace) -> str:
    tables = [
        name
        for (name,) in place.rows(
            "SELECT relname FROM pg_class WHERE relnamespace = 'ragops'::regnamespace AND relkind = 'r'"
        )
    ]
    assert {"campaign", "step", "fingerprint"} <= set(tables)
    return json.dumps({name: place.rows(f"SELECT t::text FROM ragops.{name} t") for name in tables})


def look_at_embedders(process: psutil.Process, seen: dict[int, tuple[str, dict[str, str]]]) -> int:
    """Arguments and environment of the embedder children that run now are added to `seen`; how many there are."""
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            command, environment = " ".join(child.cmdline()), child.environ()
            if "child.py" in command and environment:
                seen[child.pid] = (command, environment)
    return len(seen)


def test_a_campaign_repeats_the_password_nowhere(secret: Workplace) -> None:
    controller = secret.start("reset", "--playbook", "realign.yaml", "--yes", "--json")
    process = psutil.Process(controller.pid)
    seen: dict[int, tuple[str, dict[str, str]]] = {}
    wait_for(lambda: look_at_embedders(process, seen) >= 2, what="two embedder children")
    for command, environment in seen.values():
        assert CANARY not in command
        assert CANARY not in json.dumps(environment)
        assert "RAGOPS_DSN" not in environment
    assert CANARY not in " ".join(process.cmdline())
    out, err = controller.communicate(timeout=120)
    assert controller.returncode == 0, err
    assert CANARY not in out + err
    assert CANARY not in ledger(secret)
    for arguments in (("status", "--json"), ("status",), ("verify", "--json"), ("reset", "--dry-run", "--json")):
        done = secret.ragops(*arguments)
        assert done.code == 0, done.err
        assert CANARY not in done.out + done.err


def test_failures_repeat_the_password_nowhere(secret: Workplace) -> None:
    """A statement that the server refuses, a damaged model and a lost database, each with a traceback too."""
    secret.execute(
        "ALTER TABLE files_queue DROP CONSTRAINT files_queue_status_check", "DROP TABLE ragops.step CASCADE"
    )
    (secret.folder / "damaged.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    gone = {
        "RAGOPS_DSN": secret.variables["RAGOPS_DSN"].replace("dbname=", "dbname=gone_").replace("@/", "@/gone_")
    }
    for arguments, variables in (
        (("reset", "--playbook", "realign.yaml", "--yes"), {}),
        (("search", "x"), {"RAGOPS_MODEL": "damaged.gguf"}),
        (("status",), gone),
    ):
        for first in ((), ("--debug",)):
            done = secret.ragops(*first, *arguments, **variables)
            assert done.code == 1, done.err
            assert ("Traceback" in done.err) == bool(first)
            assert CANARY not in done.out + done.err


def test_a_playbook_s_own_dsn_is_not_stored(secret: Workplace, tmp_path: Path) -> None:
    shipped = (shipped_playbooks() / "realign.yaml").read_text(encoding="utf-8")
    dsn = secret.variables.pop("RAGOPS_DSN")
    mine = tmp_path / "mine.yaml"
    mine.write_text(shipped.replace("dsn: ${RAGOPS_DSN:-}", f"dsn: {json.dumps(dsn)}"), encoding="utf-8")
    done = secret.ragops("reset", "--playbook", str(mine), "--yes", "--json")
    assert done.code == 0, done.err
    assert CANARY not in done.out + done.err + ledger(secret)
