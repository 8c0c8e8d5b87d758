"""A password in the DSN opens the database and appears nowhere else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from child_spy import ChildSpy
from conftest import wait_for
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from workplace import Finished, Workplace

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


@pytest.mark.fault(38)
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


@pytest.mark.fault(38)
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


@contextmanager
def watched_children() -> Iterator[set[str]]:
    """Everything in `/proc` that the children of the running programs show, but for those programs themselves."""
    seen: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    command = child.cmdline()
                    own = command[1:3] == ["-m", "ragops"]
                    seen.add(" ".join(command) + ("" if own else json.dumps(child.environ())))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.fault(38)
@pytest.mark.skipif(sys.platform != "linux", reason="what /proc shows")
def test_no_secret_of_any_place_is_repeated_anywhere(place: Workplace, tmp_path: Path) -> None:
    """Secrets in DSN, environment and URL; campaigns, checks and failures; every place that could tell."""
    corpus = Path(place.variables["RAGOPS_CORPUS"])
    (corpus / "page.html").write_text("<p>A page on indexes</p>", encoding="utf-8")
    parts = conninfo_to_dict(place.dsn)
    words = make_conninfo(place.dsn, password=CANARY)
    spy, log = ChildSpy.at(tmp_path / "spy"), tmp_path / "ragops.log"
    place.variables |= spy.variables | {
        "RAGOPS_DSN": f"postgresql://{parts['user']}:{CANARY}@/{parts['dbname']}?host={parts['host']}",
        "PGPASSWORD": CANARY,
        "BACKEND_API_KEY": CANARY,
        "PROBE_TOKEN": CANARY,
        "PROD_DSN": f"host=db password={CANARY}",
    }
    told: list[str] = []

    def run(*arguments: str, code: int, **variables: str) -> Finished:
        done = place.ragops(*arguments, "--log-file", str(log), **variables)
        assert done.code == code, done.out + done.err
        told.append(done.out + done.err)
        return done

    with watched_children() as seen:
        run("reset", "--playbook", "realign.yaml", "--yes", "--json", code=0, RAGOPS_DSN=words)
        probe = place.start("probe", "serve", "--port", "0", "--token-env", "PROBE_TOKEN")
        url = address_of(probe)
        shipped = (shipped_playbooks() / "realign.yaml").read_text(encoding="utf-8")
        mine = tmp_path / "mine.yaml"
        reference = (
            f"\nreference:\n  debug: {{url: '{url}?query={{query}}&token={CANARY}', token_env: PROBE_TOKEN}}\n"
        )
        mine.write_text(shipped + reference, encoding="utf-8")
        with_reference = ("--playbook", str(mine))
        verified = run("verify", "--json", *with_reference, code=0)
        assert verified.json["reference"] == f"{url}?query={{query}}&token=***"
        run("reset", "--force", "--yes", "--json", *with_reference, code=0)
        run("validate", *with_reference, code=0)
        run("--debug", "embed", "--json", *with_reference, code=0)
        probe.terminate()
        out, err = probe.communicate(timeout=60)
        told.append(out + err)
        run("--debug", "verify", *with_reference, code=1)  # the endpoint has gone
        mine.write_text(shipped + reference.replace("//", f"//bob:{CANARY}@"), encoding="utf-8")
        run("reset", "--dry-run", *with_reference, code=2)
        for dsn in (
            f"postgresql://u:{CANARY}/x@h/d",
            f"host=h password={CANARY} nonsense",
            f"postgresql://u:{CANARY}@h:99999/d",
        ):
            done = place.ragops("--debug", "status", "--dsn", dsn, "--log-file", str(log))
            assert done.code != 0
            told.append(done.out + done.err)
    children = [child for child in spy.seen() if "-m ragops" not in child.command]
    assert {"parse_child.py", "child.py"} <= {
        Path(word).name for child in children for word in child.command.split()
    }
    assert len(seen) > len(told)
    shown = {
        "outputs": "".join(told),
        "ledger": ledger(place),
        "log": log.read_text(encoding="utf-8"),
        "started children": "".join(child.command + json.dumps(child.environment) for child in children),
        "/proc": "".join(sorted(one for one in seen if "--dsn" not in one)),
        "data folder": "".join(
            file.read_bytes().decode("latin-1") for file in (tmp_path / "data").rglob("*") if file.is_file()
        ),
    }
    assert [where for where, text in shown.items() if CANARY in text] == []


def address_of(probe: subprocess.Popen[str]) -> str:
    assert probe.stderr is not None
    for line in probe.stderr:
        if found := re.search(r"listening on (http://[^?\s]+)", line):
            return found[1]
    pytest.fail("the probe ended")
