"""A long document is validated by some of its chunks."""

from __future__ import annotations

from workplace import Workplace


def test_a_damaged_chunk_of_a_long_document_still_shows(place: Workplace) -> None:
    (place.folder / "corpus" / "long.txt").write_text(" ".join(f"index row number {n}" for n in range(12_000)))
    assert place.reset("--new").code == 0
    count = place.value("SELECT max(n) FROM (SELECT count(*) n FROM document_chunks GROUP BY document_id) c")
    assert count > 100
    assert place.ragops("validate", "--json").code == 0
    # Its mean agrees with the chunks that are stored: it is these that have to be the model's.
    other = "SELECT embedding FROM documents WHERE file_path LIKE '%7.txt' LIMIT 1"
    place.execute(f"UPDATE document_chunks SET embedding = ({other})")
    assert place.ragops("validate", "--json").code == 3
