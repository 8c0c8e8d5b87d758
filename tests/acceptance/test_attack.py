"""What operators run into: texts of other tools, roles without rights, broken pipes, variables that are unset."""

from __future__ import annotations

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
