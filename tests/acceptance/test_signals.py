"""Ctrl-C and SIGTERM: what is at hand is finished or given back, and the next command goes on."""

from __future__ import annotations

import json
import signal
import subprocess

import psycopg
import pytest
from conftest import wait_for
from workplace import Workplace, stored_documents

DOCUMENTS = 120


@pytest.fixture
def embedding(place: Workplace) -> subprocess.Popen[str]:
    """`ragops embed` with some documents stored and most still to do."""
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == DOCUMENTS
    place.slow_down(0.05)
    process = place.start("embed", "--workers", "2", "--batch-size", "10", "--json")
    wait_for(lambda: place.completed() >= 10, what="the first batch")
    return process


def finish(place: Workplace) -> None:
    done = place.ragops("embed", "--workers", "3", "--json")
    assert done.code == 0, done.err
    assert place.queue() == {"completed": DOCUMENTS}
    assert len(stored_documents(place)) == DOCUMENTS


def assert_consistent(place: Workplace) -> None:
    queue = place.queue()
    assert "processing" not in queue
    assert 0 < queue["completed"] < DOCUMENTS
    assert place.value("SELECT count(*) FROM documents") == queue["completed"]


@pytest.mark.fault(41)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_lets_the_batch_finish(
    place: Workplace, embedding: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    embedding.send_signal(number)
    out, err = embedding.communicate(timeout=60)
    assert embedding.returncode == code, err
    assert "what was embedded is stored" in err
    assert '"status": "error"' in out
    assert_consistent(place)
    place.speed_up()
    finish(place)


@pytest.mark.fault(41)
def test_a_second_signal_gives_the_batch_back_at_once(place: Workplace) -> None:
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == DOCUMENTS
    blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'documents'::regclass"
    with psycopg.connect(place.dsn) as reader:
        # What is embedded cannot be stored for as long as this transaction lives.
        reader.execute("LOCK TABLE documents IN SHARE MODE")
        embedding = place.start("embed", "--workers", "2", "--batch-size", "15")
        wait_for(lambda: place.value(blocked) == 1, what="documents that wait to be stored")
        assert embedding.stderr is not None
        embedding.send_signal(signal.SIGINT)
        next(line for line in embedding.stderr if "once more stops at once" in line)
        embedding.send_signal(signal.SIGINT)
        _, err = embedding.communicate(timeout=30)
    assert embedding.returncode == 130, err
    assert "given back" in err
    assert place.queue() == {"pending": DOCUMENTS}
    assert place.value("SELECT count(*) FROM documents") == 0
    finish(place)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_campaign_is_resumed(place: Workplace, number: signal.Signals, code: int) -> None:
    place.slow_down(0.02)
    controller = place.start("reset", "--playbook", "realign.yaml", "--batch-size", "5", "--yes", "--json")
    wait_for(lambda: place.completed() >= 45, what="45 documents")
    controller.send_signal(number)
    _, err = controller.communicate(timeout=60)
    assert controller.returncode == code, err
    assert "ragops reset --resume" in err
    assert_consistent(place)
    assert place.value("SELECT status FROM ragops.campaign") == "stopped"
    place.speed_up()
    resumed = place.ragops("reset", "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert (resumed.json["completed"], resumed.json["verdict"]) == (DOCUMENTS, "pass")


@pytest.mark.parametrize("command", [("verify",), ("fingerprint", "capture")], ids=["verify", "capture"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_without_a_session_logs_its_end(
    place: Workplace, command: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    log = place.folder / "ended.log"
    started, interpreter = place.folder / "started", place.folder / "hang"
    interpreter.write_text(f"#!/bin/sh\ntouch '{started}'\nexec sleep 60\n", encoding="utf-8")
    interpreter.chmod(0o755)
    (place.folder / "hang.yaml").write_text(
        f"version: 1\nname: hang\nmodel: {{file: '{place.variables['RAGOPS_MODEL']}'}}\n"
        f"workers: {{python: '{interpreter}'}}\nsteps: [{{step: verify_build}}]\n",
        encoding="utf-8",
    )
    process = place.start(*command, "-p", "hang.yaml", "--log-file", str(log), "--log-format", "json")
    wait_for(started.exists, what="an interpreter that hangs")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "stopped" in err
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [event["event"] for event in events][-2:] == ["error", "command_end"]
    assert events[-1]["fields"]["exit_code"] == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_waiting_for_documents_can_be_stopped(place: Workplace, number: signal.Signals, code: int) -> None:
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == DOCUMENTS
    waiting = place.start("validate", "--after", "50")
    wait_for(
        lambda: place.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'ragops%'") > 0
    )
    assert waiting.stderr is not None
    waiting.send_signal(number)
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == code, err
    assert "Traceback" not in err
