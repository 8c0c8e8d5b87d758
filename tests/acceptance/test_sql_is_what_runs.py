"""What a plan prints is what the server executes and what the ledger keeps, proven with the server's own log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import Server, fresh_database, write_corpus
from server_log import ServerLog, one_line
from workplace import Workplace, open_workplace

DOCUMENTS = 60
# Statements that change structure or remove rows of a table that is not a temporary one. A plan rehearses deleting
# with a condition that no row meets.
DESTRUCTIVE = re.compile(
    r"(TRUNCATE|DELETE FROM \"public\"(?!.* WHERE false$)|VACUUM|DROP INDEX"
    r"|CREATE (INDEX|TABLE \"ragops\"\.\"archive))"
)


def is_in_order(wanted: list[str], seen: list[str]) -> bool:
    """Whether `wanted` is a subsequence of `seen`."""
    rest = iter(seen)
    return all(statement in rest for statement in wanted)


@pytest.fixture(scope="module")
def place(pg18: Server, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A database after a campaign, whose server logs every statement."""
    folder = tmp_path_factory.mktemp("logged")
    corpus = write_corpus(folder / "corpus", DOCUMENTS)
    with (
        fresh_database(pg18, template="ragops_template") as dsn,
        open_workplace(folder, dsn=dsn, corpus=corpus, model=tiny_model, gate=10, index_after=20) as opened,
    ):
        opened.reset()
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {admin.info.dbname} SET log_statement = 'all'")
        yield opened


@pytest.fixture
def log(place: Workplace) -> ServerLog:
    return ServerLog(place.dsn)


def test_a_campaign_executes_and_records_what_its_plan_prints(place: Workplace, log: ServerLog) -> None:
    dry = place.ragops("reset", "--force", "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert [statement for statement in log.statements() if DESTRUCTIVE.match(statement)] == []
    planned = {step["verb"]: [one_line(s) for s in step["sql"]] for step in dry.json["steps"] if step["sql"]}
    assert planned.keys() == {"drop_indexes", "empty_tables", "reseed_queue", "rebuild_indexes"}
    assert sum("archive_" in statement for statement in planned["empty_tables"]) == 5

    done = place.ragops("reset", "--force", "--yes", "--json")
    assert done.code == 0, done.err
    seen = log.statements()
    for verb, statements in planned.items():
        assert is_in_order(statements, seen), f"{verb}: {statements}"
    everything = [statement for statements in planned.values() for statement in statements]
    executed = [statement for statement in seen if DESTRUCTIVE.match(statement)]
    assert sorted(executed) == sorted(s for s in everything if DESTRUCTIVE.match(s))

    recorded = {step["name"]: step["effect"] for step in done.json["steps"]}
    for verb in ("drop_indexes", "empty_tables", "reseed_queue"):
        assert [one_line(statement) for statement in recorded[verb]["sql"]] == planned[verb]
    built = [one_line(index["sql"]) for index in recorded["rebuild_indexes"]["indexes"]]
    assert built == [statement for statement in planned["rebuild_indexes"] if statement.startswith("CREATE")]


@pytest.mark.parametrize("how", [(), ("--concurrently",)], ids=["plain", "concurrently"])
def test_an_index_rebuild_executes_what_its_dry_run_prints(
    place: Workplace, log: ServerLog, how: tuple[str, ...]
) -> None:
    assert place.ragops("index", "drop", "--yes").code == 0
    options = ("--maintenance-work-mem", "77MB", "--parallel-workers", "1", *how)
    dry = place.ragops("index", "rebuild", "--dry-run", "--json", *options)
    assert dry.code == 0, dry.err
    planned = [one_line(statement) for build in dry.json["plan"] for statement in build["sql"]]
    assert sum("77MB" in statement for statement in planned) == 2
    log.statements()
    done = place.ragops("index", "rebuild", "--json", *options)
    assert done.code == 0, done.err
    assert is_in_order(planned, log.statements())
    built = [one_line(index["sql"]) for index in done.json["indexes"]]
    assert built == [statement for statement in planned if statement.startswith("CREATE INDEX")]


def test_a_table_that_is_named_twice_is_archived_and_counted_once(place: Workplace) -> None:
    before = place.value("SELECT count(*) FROM ingestion_metrics")
    assert before > 0
    done = place.ragops("tables", "empty", "ingestion_metrics", "ingestion_metrics", "--yes", "--json")
    assert done.code == 0, done.err
    assert (done.json["rows"], done.json["archived"], len(done.json["tables"])) == (before, before, 1)
    assert place.ragops("undo", "--yes").code == 0
    assert place.value("SELECT count(*) FROM ingestion_metrics") == before


def test_tables_emptied_by_a_single_command_record_what_ran(place: Workplace, log: ServerLog) -> None:
    done = place.ragops("tables", "empty", "parsed_files", "--yes", "--json")
    assert done.code == 0, done.err
    executed = [statement for statement in log.statements() if DESTRUCTIVE.match(statement)]
    assert [one_line(statement) for statement in done.json["sql"]] == executed
    assert len(executed) == 3  # archive, delete, vacuum
