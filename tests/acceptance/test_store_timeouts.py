"""A store waits for locks whatever the role's timeouts are, and keeps none when its process is suspended."""

from __future__ import annotations

from workplace import Workplace

WITNESS = """
CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO witnessed SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),
                               current_setting('idle_in_transaction_session_timeout');
  RETURN NULL;
END $$
"""


def test_the_timeouts_of_a_store(place: Workplace) -> None:
    place.execute(
        "CREATE TABLE witnessed (statement text, lock text, idle text)",
        WITNESS,
        "CREATE TRIGGER witness AFTER INSERT ON document_chunks FOR EACH STATEMENT EXECUTE FUNCTION witness()",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''50s''', current_database());"
        " EXECUTE format('ALTER DATABASE %I SET lock_timeout = ''10s''', current_database()); END $$",
    )
    assert place.ragops("queue", "reseed").code == 0
    done = place.ragops("embed", "--json")
    assert done.code == 0, done.err
    assert place.completed() == 120
    assert place.rows("SELECT DISTINCT * FROM witnessed") == [("0", "0", "1min")]
