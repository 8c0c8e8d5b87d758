"""Answers of an operator to a gate: recorded once, whatever happens to the COMMIT; excluded items and back."""

from __future__ import annotations

from campaigns import Recorder, append, claim, execute, make_playbook, open_session, queue_of, rows, seed, value

from ragops.campaign.answers import Answers, apply_answers, include_again, planned_exclusions
from ragops.postgres.connection import Connection
from ragops.postgres.failures import Failures
from ragops.postgres.ledger import CampaignRow, Ledger, campaign_changes, latest_campaign
from ragops.session import Session

ANSWERS = Answers(max_failed_share=0.3, exclude=("2.txt", "*.png"))


def open_campaign(session: Session) -> tuple[Ledger, CampaignRow]:
    playbook = session.playbook
    ledger = Ledger.open_new(
        session.connection,
        name="test",
        playbook=playbook.ledger_copy(),
        plan={},
        steps=[(1, "embed")],
        tables=playbook.tables,
    )
    row = latest_campaign(session.connection, playbook.tables)
    assert row is not None
    return ledger, row


def test_answers_are_recorded_once_even_if_they_are_applied_twice(dsn18: str) -> None:
    with open_session(dsn18, make_playbook()) as session:
        seed(session.connection, 3)
        append(session.connection, ["a.png"], phase=2)
        held = claim(session.connection, 2)
        queue_of(session.connection).fail(held, [(item.id, "not UTF-8") for item in held.items])
        ledger, row = open_campaign(session)
        assert [(e.pattern, e.failed, e.pending) for e in planned_exclusions(session, ANSWERS)] == [
            ("2.txt", 1, 0),
            ("*.png", 0, 1),
        ]
        for _ in range(2):
            apply_answers(session, ledger, row, ANSWERS)
        changes = [(c.setting, c.before, c.after) for c in campaign_changes(session.connection, row.id)]
        assert changes == [
            ("validation.max_failed_share", 0.05, 0.3),
            ("exclude", None, {"pattern": "2.txt", "failed": 1, "pending": 0}),
            ("exclude", None, {"pattern": "*.png", "failed": 0, "pending": 1}),
        ]
        assert value(dsn18, "SELECT changed_by FROM ragops.change LIMIT 1").startswith("postgres from ")
        assert rows(dsn18, "SELECT file_path, status, last_error FROM files_queue ORDER BY id") == [
            ("1.txt", "failed", "not UTF-8"),
            ("2.txt", "failed", "excluded (2.txt): failed, not UTF-8"),
            ("3.txt", "pending", None),
            ("a.png", "failed", "excluded (*.png): pending"),
        ]
        # The same line typed again is no error, although nothing matches any more.
        assert planned_exclusions(session, ANSWERS) == []
        assert isinstance(session.reporter, Recorder)
        said = session.reporter.notices
        assert "validation.max_failed_share: 0.05 before, 0.3 from now on" in said
        assert "excluded: 1 failed and 0 pending items match '2.txt': 2.txt" in said

        assert include_again(session) == 2
        assert campaign_changes(session.connection, row.id)[-1].before == {"items": 2}
        assert queue_of(session.connection).counts() == {
            "pending": 3,
            "processing": 0,
            "completed": 0,
            "failed": 1,
        }


def test_a_short_column_for_reasons_keeps_the_mark(connection: Connection, dsn: str) -> None:
    execute(dsn, "ALTER TABLE files_queue ALTER last_error TYPE varchar(20)")
    seed(connection, 1)
    with connection.transaction():
        Failures(connection, make_playbook().tables).exclude("*.txt", lambda _: True, limit=20)
    assert value(dsn, "SELECT last_error FROM files_queue") == "excluded (*.txt): pe"
    assert queue_of(connection).counts()["excluded"] == 1
