"""The demo with the real model, and every command without a DSN afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from workplace import Finished, clean_environment, run_program

DOCUMENTS = 60


@dataclass(frozen=True, slots=True)
class Home:
    """A user's machine: the embedded server in a data folder of its own, no variable set."""

    folder: Path

    def ragops(self, *arguments: str, **variables: str) -> Finished:
        environment = clean_environment(self.folder) | variables
        return run_program(arguments, environment=environment, cwd=self.folder, timeout_s=900)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    # Not below pytest's own folder, which other users, such as the server's, may not enter.
    with tempfile.TemporaryDirectory(prefix="ragops-tests-") as folder:
        opened = Home(Path(folder))
        yield opened
        opened.ragops("db", "stop")


@pytest.fixture(scope="module")
def demo(home: Home) -> Finished:
    return home.ragops("demo", "--docs", str(DOCUMENTS), "--json")


def test_the_demo_is_broken_found_out_and_realigned(demo: Finished) -> None:
    assert demo.code == 0, demo.err
    told = demo.json
    assert (told["before_verdict"], told["verdict"], told["status"]) == ("fail", "pass", "done")
    assert (told["documents"], told["seeded"], told["completed"], told["failed"]) == (
        DOCUMENTS,
        DOCUMENTS,
        DOCUMENTS,
        0,
    )
    assert told["before"]["rows_under"]["0.5"] < told["after"]["rows_under"]["0.5"]
    assert {step["status"] for step in told["steps"]} == {"done"}
    assert "staging the incident" in demo.err


@pytest.mark.slow
def test_every_command_works_without_a_dsn(demo: Finished, home: Home) -> None:
    assert demo.code == 0, demo.err
    status = home.ragops("status", "--json")
    assert status.json["documents"]["with_embedding"] == DOCUMENTS
    for arguments in (
        ("status",),
        ("search", "open a file"),
        ("validate", "--after", "4"),
        ("embed", "--workers", "3"),
        ("index", "rebuild"),
    ):
        done = home.ragops(*arguments)
        assert done.code == 0, (arguments, done.err)
        assert done.out.strip(), arguments
    again = home.ragops("reset", "--playbook", "realign.yaml", "--json")
    assert again.code == 0, again.err
    assert (again.json["campaign"], again.json["completed"], again.json["verdict"]) == (2, DOCUMENTS, "pass")


def test_the_data_survive_a_stop_of_the_server(demo: Finished, home: Home) -> None:
    assert demo.code == 0, demo.err
    assert home.ragops("db", "stop", "--json").json == {"stopped": True}
    assert home.ragops("db", "stop", "--json").json == {"stopped": False}
    status = home.ragops("status", "--json")
    assert status.code == 0, status.err
    assert status.json["documents"]["total"] == DOCUMENTS
    assert home.ragops("db", "url").out.startswith("postgresql://")


@pytest.mark.slow
def test_the_demo_can_be_told_again_and_spares_a_user_s_own_corpus(demo: Finished, home: Home) -> None:
    assert demo.code == 0, demo.err
    own = home.folder / "own"
    own.mkdir()
    (own / "mine.txt").write_text("a document that the demo did not make", encoding="utf-8")
    # Without a campaign, too: the queue knows what it was filled from.
    assert home.ragops("tables", "empty", "--yes", "--no-archive").code == 0
    assert home.ragops("queue", "reseed", "--folder", str(own), "--json").json["seeded"] == 1
    assert home.ragops("embed", "--json").json["completed"] == 1
    refused = home.ragops("demo", "--docs", "20", "--json")
    assert refused.code == 1 and str(own) in refused.json["error"]["found"], refused.out
    mine = home.ragops("reset", "--yes", "--json", RAGOPS_CORPUS=str(own), RAGOPS_VALIDATE_AFTER="1")
    assert mine.code == 0, mine.err
    refused = home.ragops("demo", "--docs", "20", "--json")
    assert refused.code == 1
    assert "that the demo did not create" in refused.json["error"]["what"]
    assert home.ragops("status", "--json").json["documents"]["total"] == 1


def test_without_a_demo_the_commands_say_what_to_type(home: Home) -> None:
    with tempfile.TemporaryDirectory(prefix="ragops-tests-") as folder:
        try:
            done = home.ragops("status", "--json", RAGOPS_DATA_DIR=folder)
            assert done.code == 2
            assert "the embedded database is empty" in done.json["error"]["what"]
            assert "ragops demo" in done.json["error"]["hint"]
        finally:
            home.ragops("db", "stop", RAGOPS_DATA_DIR=folder)
            assert not (Path(folder) / "postgres" / "postmaster.pid").exists()


@pytest.mark.slow
def test_the_application_answers_while_every_vector_changes(home: Home, tiny_model: Path) -> None:
    done = home.ragops("demo", "--story", "reembed", "--docs", "60", "--model", str(tiny_model), "--json")
    assert done.code == 0, done.err
    told = done.json
    assert (told["status"], told["verdict"], told["documents"], told["completed"]) == ("done", "pass", 60, 60)
    # 20 a second for longer than four seconds, all of them answered.
    assert told["answers"] > 20 and told["errors"] == []
    assert "answers so far, 0 errors" in done.err and "the columns are exchanged" in done.err
    # Again: the table of the story before is its own.
    again = home.ragops("demo", "--story", "reembed", "--docs", "40", "--model", str(tiny_model))
    assert again.code == 0, again.err
    assert "answers, and 0 errors" in again.out
