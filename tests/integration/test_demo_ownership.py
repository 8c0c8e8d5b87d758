"""The demo wipes only what a demo made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from campaigns import Recorder, execute, rows, value

from ragops.demo.run import run_demo
from ragops.errors import RagopsError
from ragops.postgres.connection import Target
from ragops.workers.state import Stop

# What a user did since the demo, what the demo says of it, and how to take it back.
FOREIGN = (
    (
        "INSERT INTO documents (file_path, content) VALUES ('mine.txt', 'mine')",
        "1 documents whose file is none of the demo's corpus",
        "DELETE FROM documents WHERE file_path = 'mine.txt'",
    ),
    (
        "INSERT INTO ragops.archive (logical, schema_name, table_name, archive_table, rows)"
        " VALUES ('documents', 'public', 'documents', 'archive_of_mine', 7)",
        "an archive of 7 rows of documents",
        "DELETE FROM ragops.archive WHERE campaign_id IS NULL",
    ),
    (
        "INSERT INTO ragops.campaign (name, playbook, plan, status) VALUES ('mine', '{}', '{}', 'stopped')",
        "campaign 3 (mine) is unfinished: stopped",
        "DELETE FROM ragops.campaign WHERE name = 'mine'",
    ),
    (
        'UPDATE ragops.source SET source = source || \'{"folder": "/home/me/mine"}\'',
        "from /home/me/mine",
        "DELETE FROM ragops.source",
    ),
    ("SELECT 1", "20 rows of public.documents", "SELECT 1"),
)


@pytest.mark.slow
def test_the_demo_wipes_only_its_own(
    dsn18: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGOPS_DATA_DIR", str(tmp_path))
    target = Target(dsn18, "the test database")

    def demo(documents: int) -> int:
        result = run_demo(
            target, reporter=Recorder(), stop=Stop(), documents=documents, model=tiny_model, workers=1
        )
        return result.documents

    # Told again, with another number of documents; the first one's archives go.
    assert demo(22) == 22
    assert demo(20) == 20
    assert rows(dsn18, "SELECT DISTINCT campaign_id FROM ragops.archive") == [(2,)]
    archived = rows(dsn18, "SELECT archive_table FROM ragops.archive")
    for act, said, back in FOREIGN:
        execute(dsn18, act)
        _refused(lambda: demo(20), said)
        execute(dsn18, back)
        assert value(dsn18, "SELECT count(*) FROM documents") == 20
    assert rows(dsn18, "SELECT archive_table FROM ragops.archive") == archived


def _refused(demo: Callable[[], int], said: str) -> None:
    with pytest.raises(RagopsError, match="did not create") as caught:
        demo()
    assert said in str(caught.value.actual)
