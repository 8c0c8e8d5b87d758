"""A file that changes after it was queued: what it holds when it is read is stored, and all of it agrees."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from conftest import WORDS, wait_for
from workplace import Workplace

DOCUMENTS = 120
STORED = (
    "SELECT d.file_path, d.content, p.content_hash, p.characters FROM documents d"
    " JOIN parsed_files p ON p.file_id = d.file_id ORDER BY 1"
)
CHUNKS = "SELECT d.file_path, c.content FROM document_chunks c JOIN documents d ON d.id = c.document_id"


def assert_text_hash_and_vectors_agree(place: Workplace) -> dict[str, str]:
    """Return what is stored by file path; each text has its own hash, chunks and vectors."""
    found = place.rows(STORED)
    for path, content, content_hash, characters in found:
        assert hashlib.sha256(content.encode()).hexdigest() == content_hash, path
        assert len(content) == characters
    texts = {path: content for path, content, *_ in found}
    chunks = place.rows(CHUNKS)
    assert {path for path, _ in chunks} == set(texts)
    assert all(chunk in texts[path] for path, chunk in chunks)
    # Embeds every stored text again, and compares it with the stored vector.
    validated = place.ragops("validate", "--sample", str(DOCUMENTS), "--json")
    assert validated.code == 0, validated.out
    return texts


@pytest.mark.fault(31)
def test_a_file_that_was_edited_after_it_was_queued(place: Workplace) -> None:
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == DOCUMENTS
    corpus = Path(place.variables["RAGOPS_CORPUS"])
    edited = sorted(corpus.rglob("*.txt"))[::3]
    for number, file in enumerate(edited):
        file.write_text(f"edited {number} after seeding: " + " ".join(WORDS[number % 5 :]))
    assert place.ragops("embed", "--json").code == 0
    texts = assert_text_hash_and_vectors_agree(place)
    assert texts == {str(file.relative_to(corpus)): file.read_text() for file in corpus.rglob("*.txt")}


def test_files_that_are_edited_while_they_are_read(place: Workplace) -> None:
    """In place and in two halves, without a pause: a reader may see a mixture, and stores exactly that."""
    corpus = place.folder / "edited"
    corpus.mkdir()
    files = [corpus / f"{number}.txt" for number in range(DOCUMENTS // 4)]
    # Of the same length, and longer than one block of the file system.
    versions = [" ".join(word * (1 if first else 2) for word in WORDS[:8]) for first in (True, False)]
    length = 12_000
    bodies = [(version + "\n\n").encode() * (length // len(version) + 1) for version in versions]
    bodies = [body[:length] for body in bodies]
    for file in files:
        file.write_bytes(bodies[0])
    place.variables["RAGOPS_CORPUS"] = str(corpus)
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == len(files)
    ended = threading.Event()

    def edit() -> None:
        turn = 0
        while not ended.is_set():
            turn += 1
            for file in files:
                with file.open("r+b") as handle:
                    handle.write(bodies[turn % 2][: length // 2])
                    handle.flush()
                    handle.write(bodies[turn % 2][length // 2 :])

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        process = place.start("embed", "--json")
        wait_for(lambda: process.poll() is not None, timeout_s=120, what="the end of embed")
    finally:
        ended.set()
        editor.join()
    assert process.returncode == 0, process.communicate()[1]
    texts = assert_text_hash_and_vectors_agree(place)
    assert len(texts) == len(files)
    # Both versions were read, or mixtures of them: the files did change meanwhile.
    assert len(set(texts.values())) > 1
