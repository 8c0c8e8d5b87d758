"""Gates that can be answered: failures by reason, other limits, excluded documents, partial documents, undo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import write_corpus
from workplace import Workplace, open_workplace

from ragops.playbook.loading import shipped_playbooks

GOOD, EMPTY, BROKEN = 24, 5, 3


@pytest.fixture
def unprepared(dsn18: str, tiny_model: Path, tmp_path: Path) -> Any:
    """A corpus that nobody has prepared: a quarter of its files cannot be read. The gate lies at all of them."""
    corpus = write_corpus(tmp_path / "corpus", GOOD)
    for number in range(EMPTY):
        (corpus / f"a{number}.log").write_bytes(b"")
    for number in range(BROKEN):
        (corpus / f"b{number}.txt").write_bytes(b"words" * (number + 1) + b"\0 and a NUL")
    with open_workplace(
        tmp_path, dsn=dsn18, corpus=corpus, model=tiny_model, gate=GOOD + EMPTY + BROKEN, index_after=40
    ) as opened:
        yield opened


def write_partial(file: Path) -> None:
    """A notebook with two cells, of which one is damaged."""
    cells = [{"cell_type": "markdown", "source": [f"note {file.stem} of tables"]}, {"cell_type": "markdown"}]
    file.write_text(json.dumps({"nbformat": 4, "cells": cells}), encoding="utf-8")


def stopped_at_the_gate(place: Workplace) -> str:
    """Run the campaign into its gate; return what it says to type next."""
    stopped = place.reset()
    assert stopped.code == 3, stopped.err
    assert "failed_items: 8 failed items, 25.0%" in stopped.json["error"]["found"]
    return str(stopped.json["error"]["hint"])


def changes(place: Workplace) -> list[tuple[Any, ...]]:
    return place.rows("SELECT setting, before, after FROM ragops.change ORDER BY id")


def test_failures_are_grouped_and_the_campaign_goes_on_with_another_limit(unprepared: Workplace) -> None:
    place = unprepared
    hint = stopped_at_the_gate(place)
    assert hint.splitlines()[2:] == [
        'ragops reset --resume --exclude "*.log"   (5 that do not count then)',
        "ragops reset --resume --max-failed-share 0.26",
    ]
    # Whoever comes later is told the same.
    refused = place.reset()
    assert (refused.code, refused.json["error"]["hint"].splitlines()[-1]) == (1, hint.splitlines()[-1])

    found = place.ragops("queue", "status", "--json").json
    assert [(group["reason"], group["items"]) for group in found["reasons"]] == [
        ("empty document: 0 bytes", EMPTY),
        ("NUL character at offset N", BROKEN),
    ]
    assert found["reasons"][1]["example"] == {"location": "b1.txt", "reason": "NUL character at offset 10"}
    assert len(found["failures"]) == EMPTY + BROKEN

    narrow = place.ragops("queue", "status", COLUMNS="80").out
    assert max(map(len, narrow.splitlines())) <= 80
    assert "a4.log" not in narrow and "ragops queue status --all" in narrow
    listed = place.ragops("queue", "status", "--all").out
    assert "  a4.log: empty document: 0 bytes" in listed

    done = place.ragops("reset", "--resume", "--max-failed-share", "0.26", "--json")
    assert done.code == 0, done.err
    assert (done.json["status"], done.json["failed"]) == ("done", EMPTY + BROKEN)
    assert changes(place) == [("validation.max_failed_share", 0.05, 0.26)]
    assert place.value("SELECT playbook->'validation'->>'max_failed_share' FROM ragops.campaign") == "0.26"
    assert "validation.max_failed_share: 0.05 before, 0.26 since" in place.ragops("status").out
    assert place.ragops("status", "--json").json["campaign"]["changes"][0]["after"] == 0.26


@pytest.mark.slow
def test_a_campaign_goes_on_without_some_documents(unprepared: Workplace) -> None:
    place = unprepared
    stopped_at_the_gate(place)
    assert place.ragops("reset", "--resume", "--max-failed-share", "2").code == 2
    assert place.rows("SELECT * FROM ragops.change") == []
    asked = place.ragops("reset", "--resume", "--exclude", "*.log")
    assert asked.code == 2 and "confirmation" in asked.err
    unknown = place.ragops("reset", "--resume", "--exclude", "*.nothing", "--yes")
    assert unknown.code == 2 and "no failed or pending item matches" in unknown.err
    assert place.queue()["failed"] == EMPTY + BROKEN

    still = place.ragops("reset", "--resume", "--exclude", "*.log", "--yes", "--json")
    assert still.code == 3, still.err
    assert "failed_items: 3 failed items, 11.1%" in still.json["error"]["found"]
    # What was known of them is not lost, and they are no failures any more.
    assert place.rows("SELECT DISTINCT last_error FROM files_queue WHERE file_path LIKE '%.log'") == [
        ("excluded (*.log): failed, empty document: 0 bytes",)
    ]
    assert place.ragops("queue", "retry", "--json").json["retried"] == BROKEN

    done = place.ragops("reset", "--resume", "--exclude", "b?.txt", "--exclude", "*.log", "--yes", "--json")
    assert done.code == 0, done.err
    assert (done.json["status"], done.json["failed"], done.json["excluded"]) == ("done", 0, EMPTY + BROKEN)
    # Retried before, they were pending when they were excluded.
    assert changes(place) == [
        ("exclude", None, {"pattern": "*.log", "failed": EMPTY, "pending": 0}),
        ("exclude", None, {"pattern": "b?.txt", "failed": 0, "pending": BROKEN}),
    ]
    assert "excluded: 5 failed, 0 pending (*.log)" in place.ragops("status").out
    shown = place.ragops("queue", "status", "--json").json
    assert (shown["queue"]["excluded"], shown["queue"]["failed"]) == (EMPTY + BROKEN, 0)
    assert len(shown["excluded"]) == EMPTY + BROKEN
    assert place.ragops("validate", "--json").json["verdict"] == "pass"

    assert place.ragops("queue", "retry", "--excluded", "--json").json["retried"] == EMPTY + BROKEN
    assert place.queue() == {"completed": GOOD, "pending": EMPTY + BROKEN}


@pytest.mark.slow
def test_partial_documents_are_recorded_shown_and_answered_and_an_undo_knows_them(
    unprepared: Workplace,
) -> None:
    place = unprepared
    corpus = place.folder / "corpus"
    for file in (*corpus.glob("*.log"), *corpus.glob("b*.txt")):
        file.unlink()
    for number in range(4):
        write_partial(corpus / f"p{number}.ipynb")
    stopped = place.reset()
    assert stopped.code == 3, stopped.err
    assert "partial_documents: 4 documents lack text, 14.3%" in stopped.json["error"]["found"]
    hint = stopped.json["error"]["hint"]
    assert hint.splitlines()[-1] == "ragops reset --resume --max-partial-share 0.15"
    done = place.ragops("reset", "--resume", "--max-partial-share", "0.15", "--json")
    assert done.code == 0, done.err
    assert changes(place) == [("validation.max_partial_share", 0.05, 0.15)]

    partial = place.ragops("queue", "status", "--json").json["partial"]
    assert (partial["documents"], partial["share"], len(partial["list"])) == (4, 0.1429, 4)
    assert partial["list"][0]["found"] < partial["list"][0]["expected"] and partial["list"][0]["missing"]
    assert place.value("SELECT count(*) FROM parsed_files WHERE partial IS NOT NULL") == 4
    for command in (("status",), ("queue", "status"), ("validate",)):
        shown = " ".join(place.ragops(*command, COLUMNS="80").out.split())
        assert "partial: 4 documents of 28 stored, 14.29%, lack text" in shown

    # A second campaign over whole documents, and back.
    whole = write_corpus(place.folder / "whole", 30)
    second = place.reset("--force", RAGOPS_CORPUS=str(whole))
    assert second.code == 0, second.err
    assert place.ragops("queue", "status", "--json").json["partial"]["documents"] == 0
    assert place.ragops("undo", "--yes", "--json").code == 0
    assert place.ragops("queue", "status", "--json").json["partial"] == partial


def test_partial_documents_fail_where_the_playbook_says_so(place: Workplace) -> None:
    corpus = place.folder / "few"
    corpus.mkdir()
    write_partial(corpus / "p.ipynb")
    (corpus / "thai.txt").write_text("ภาษาไทย " * 5, encoding="utf-8")
    text = (shipped_playbooks() / "realign.yaml").read_text(encoding="utf-8")
    choice = place.folder / "choice.yaml"
    choice.write_text(text.replace("incomplete: partial", "incomplete: fail"), encoding="utf-8")
    playbook = ("--playbook", str(choice))
    variables = {"RAGOPS_CORPUS": str(corpus)}
    assert place.ragops("queue", "reseed", *playbook, **variables).code == 0
    assert place.ragops("embed", *playbook, "--json", **variables).json["failed"] == 1
    reason = "incomplete: 1 of 2 cells; missing: cell 2"
    assert place.rows("SELECT last_error FROM files_queue ORDER BY id") == [(reason,), (None,)]
    assert place.rows("SELECT file_path FROM documents") == [("thai.txt",)]
    # What the model cannot read at all is stored, and said.
    warned = place.ragops("queue", "status", *playbook, **variables).out
    assert "the model does not know the script of these documents: 100.0% of" in warned

    # The other choice holds for what is read from now on.
    choice.write_text(text, encoding="utf-8")
    assert place.ragops("queue", "retry", *playbook, **variables).code == 0
    embedded = place.ragops("embed", *playbook, "--json", **variables)
    assert embedded.json["completed"] == 1
    assert "1 stored documents lack text; which: ragops queue status" in embedded.err
    assert "the model does not know the script of this corpus" in embedded.err
    partial = place.rows("SELECT partial->'missing' FROM parsed_files ORDER BY partial IS NULL")
    assert partial == [(["cell 2"],), (None,)]
