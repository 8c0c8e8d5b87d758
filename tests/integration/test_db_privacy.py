"""What ragops stores is its owner's alone, whatever the default privileges are."""

from __future__ import annotations

import psycopg
import pytest
from conftest import Server, fresh_database
from workplace import Workplace

from ragops.postgres.connection import Target, connect
from ragops.postgres.ownership import check_owners
from ragops.postgres.setup import ensure_ragops_schema

GENEROUS = (
    "CREATE ROLE reader LOGIN",
    'CREATE ROLE "an ""app""" LOGIN',
    'ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO reader, "an ""app""" WITH GRANT OPTION',
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC, reader",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC, reader",
)
CLEAN = ('DROP OWNED BY reader, "an ""app"""', 'DROP ROLE reader, "an ""app"""')
OTHERS = """
SELECT c.relname, a.grantee FROM pg_class c, aclexplode(c.relacl) a
 WHERE c.relnamespace = 'ragops'::regnamespace AND a.grantee <> c.relowner
UNION ALL
SELECT 'schema', a.grantee FROM pg_namespace n, aclexplode(n.nspacl) a
 WHERE n.nspname = 'ragops' AND a.grantee <> n.nspowner
"""


def test_archives_of_a_campaign_are_private(place: Workplace) -> None:
    try:
        place.execute(*GENEROUS)
        place.execute(
            "ALTER TABLE documents ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY p ON documents TO reader USING (false)",
            "INSERT INTO documents (content) VALUES ('for the owner alone')",
            "INSERT INTO parsed_files (file_id) VALUES (1)",
        )
        done = place.ragops("tables", "empty", "documents", "document_chunks", "parsed_files", "--yes")
        assert done.code == 0, done.err
        archives = place.rows("SELECT relname, relrowsecurity FROM pg_class WHERE relname ~ '^archive_[0-9]+_'")
        assert {(name.split("_", 2)[2], rls) for name, rls in archives if not name.endswith("pkey")} == {
            ("documents", True),
            ("document_chunks", False),
            ("parsed_files", False),
        }
        assert [row for row in place.rows(OTHERS) if row[0].startswith("archive_")] == []
        with psycopg.connect(place.dsn.replace("user=postgres", "user=reader")) as reader:
            name = next(name for name, rls in archives if rls)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"SELECT * FROM ragops.{name}")
        assert place.ragops("undo", "--yes").code == 0
        assert place.value("SELECT content FROM documents") == "for the owner alone"
    finally:
        place.execute(*CLEAN)


def test_a_new_schema_is_private(server: Server) -> None:
    with fresh_database(server, template="template1") as dsn, connect(Target(dsn, "x"), with_vector=False) as own:
        try:
            for statement in GENEROUS:
                own.execute(statement.encode())
            ensure_ragops_schema(own)
            assert own.execute(OTHERS.encode()).fetchall() == []
            check_owners(own)
        finally:
            for statement in CLEAN:
                own.execute(statement.encode())
