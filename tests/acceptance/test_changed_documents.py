"""A file that changes after it was queued: what it holds when it is read is stored, and all of it agrees."""

from __future__ import annotations

import hashlib
import os
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


def test_changed_files_are_named_and_those_that_were_retried_are_read_as_they_are(place: Workplace) -> None:
    corpus = Path(place.variables["RAGOPS_CORPUS"])
    same_size, touched, broken = sorted(corpus.rglob("*.txt"))[:3]
    assert place.ragops("queue", "reseed", "--json").json["seeded"] == DOCUMENTS
    same_size.write_bytes(same_size.read_bytes().swapcase())
    os.utime(touched)  # an edit that changed nothing looks like this, too
    broken.write_bytes(b"\xff\xfe\xfd")
    first = place.ragops("embed", "--json")
    names = [str(file.relative_to(corpus)) for file in (same_size, touched)]
    assert (first.code, first.json["completed"], first.json["failed"]) == (0, DOCUMENTS - 1, 1)
    assert first.json["changed"] == {"count": 2, "first": names}
    assert (
        f"2 files changed after they were queued, and were embedded as they are now: {', '.join(names)}"
        in first.err
    )
    # Its failure was told; what it holds now is taken for what was queued.
    broken.write_text("it can be read again", encoding="utf-8")
    assert place.ragops("queue", "retry").code == 0
    again = place.ragops("embed", "--json")
    assert (again.json["completed"], again.json["changed"]["count"]) == (1, 2)


def test_a_playbook_may_fail_changed_files(place: Workplace) -> None:
    corpus = Path(place.variables["RAGOPS_CORPUS"])
    playbook = place.folder / "own.yaml"
    playbook.write_text(
        "version: 1\nname: own\nmodel: {file: '${RAGOPS_MODEL}'}\nsource: {folder: corpus, changed: fail}\n"
        "steps: [{step: reseed_queue}]\n",
        encoding="utf-8",
    )
    own = ("--playbook", str(playbook), "--json")
    assert place.ragops("queue", "reseed", *own).json["seeded"] == DOCUMENTS
    (edited, *_) = sorted(corpus.rglob("*.txt"))
    edited.write_text("another text", encoding="utf-8")
    first = place.ragops("embed", *own)
    assert (first.json["completed"], first.json["failed"]) == (DOCUMENTS - 1, 1)
    (reason,) = place.rows("SELECT last_error FROM files_queue WHERE status = 'failed'")[0]
    assert reason.startswith("changed since it was queued (") and "; now 12 bytes of " in reason
    # Whoever retries it has been told.
    assert place.ragops("queue", "retry").code == 0
    assert place.ragops("embed", *own).json["completed"] == 1
    assert place.rows("SELECT content FROM documents WHERE content LIKE 'another%'") == [("another text",)]
