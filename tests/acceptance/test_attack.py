"""What operators run into: texts of other tools, roles without rights, broken pipes, variables that are unset."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from workplace import Workplace

LONG_WORD = "x" * 600
FOREIGN_CHUNK = (
    "WITH d AS (INSERT INTO documents (file_path, content, embedding) SELECT 'foreign', repeat('fire road ', 900),"
    " embedding FROM documents LIMIT 1 RETURNING id, content, embedding) INSERT INTO document_chunks"
    " (document_id, chunk_index, content, embedding) SELECT id, 0, content, embedding FROM d"
)


def test_a_text_without_spaces_is_no_reason_to_fail(place: Workplace) -> None:
    for number in range(120):
        (place.folder / "corpus" / f"part{number % 7}" / f"doc{number:05}.txt").write_text(LONG_WORD[number:])
    done = place.reset()
    assert done.code == 0, done.err
    assert done.json["verdict"] == "pass"


def test_stored_chunks_that_no_model_embeds_whole_disagree(place: Workplace) -> None:
    assert place.reset().code == 0
    place.execute(FOREIGN_CHUNK)
    found = place.ragops("validate", "--sample", "500", "--json")
    assert found.code == 3, found.err
    assert "1 of 121 stored texts are longer" in found.err
    decisive = next(check for check in found.json["checks"] if check["id"] == "stored_vectors_agree")
    assert decisive["status"] == "fail"
    assert found.json["agreement"]["not_a_number"] == 2
    # What another tool stored is a reason to reset, not one that forbids it.
    again = place.reset()
    assert again.code == 0, again.err
    assert again.json["completed"] == 120


GRANTS = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"


@pytest.fixture
def role(place: Workplace) -> Iterator[str]:
    """A role that may read and write the five tables and ragops' own, and owns none of them."""
    name = f"r_{uuid.uuid4().hex[:8]}"
    place.execute(
        f"CREATE ROLE {name} LOGIN",
        GRANTS.format(role=name),
        f"GRANT USAGE ON SCHEMA ragops TO {name}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA ragops TO {name}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public, ragops TO {name}",
    )
    yield name
    place.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def as_role(place: Workplace, role: str) -> str:
    return psycopg.conninfo.make_conninfo(place.dsn, user=role)


def test_rights_that_are_missing_are_known_before_anything_is_wiped(place: Workplace, role: str) -> None:
    place.execute("INSERT INTO documents (file_path, content) VALUES ('a', 'b')")
    before = place.snapshot()
    refused = place.reset(RAGOPS_DSN=as_role(place, role))
    assert refused.code == 1
    assert refused.json["error"]["found"].splitlines() == [
        f"role {role} may make no table in the schema ragops, where rows are archived: "
        f"GRANT USAGE, CREATE ON SCHEMA ragops TO {role}, or --no-archive",
        *(
            f"role {role} may not TRUNCATE on public.{table}: GRANT TRUNCATE ON public.{table} TO {role}, "
            "or run ragops as its owner"
            for table in ("documents", "document_chunks", "files_queue")
        ),
        *(
            line
            for table in ("documents", "document_chunks")
            for line in (
                f"role {role} does not own public.{table}, so it can neither drop nor build its indexes: "
                f"ALTER TABLE public.{table} OWNER TO {role}, or run ragops as its owner",
            )
        ),
        f"role {role} may make no index in the schema public: GRANT CREATE ON SCHEMA public TO {role}",
    ]
    assert place.snapshot() == before


def test_row_level_security_is_known_before_anything_is_wiped(place: Workplace, role: str) -> None:
    place.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    refused = place.reset(RAGOPS_DSN=as_role(place, role))
    assert refused.code == 1
    assert f"row-level security of public.documents applies to role {role}" in refused.json["error"]["found"]


def test_reading_without_the_right_says_which(place: Workplace, role: str) -> None:
    place.execute(f"REVOKE ALL ON documents, ingestion_metrics FROM {role}")
    refused = place.ragops("status", "--json", RAGOPS_DSN=as_role(place, role))
    assert refused.code == 1
    assert [line.partition(":")[0] for line in refused.json["error"]["found"].splitlines()] == [
        f"role {role} may not SELECT on public.documents",
        f"role {role} may not SELECT on public.ingestion_metrics",
    ]


def test_a_right_that_only_the_server_knows_of(place: Workplace, role: str) -> None:
    place.execute(f"REVOKE ALL ON SCHEMA ragops FROM {role}")
    refused = place.ragops("embed", RAGOPS_DSN=as_role(place, role))
    assert refused.code == 1
    assert "this role may not do that in this database" in refused.err
    assert "permission denied for schema ragops" in refused.err
    assert "GRANT" in refused.err
    assert "--debug" not in refused.err
