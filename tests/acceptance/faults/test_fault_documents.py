"""Documents that cannot be read, must not be read, or break their reader: each fails alone, with its reason."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from conftest import write_corpus
from fault_fixtures import assert_consistent, fill_queue
from workplace import Workplace, stored_documents

GOOD = 30
LONG = " ".join(f"word{number} of a long text about vector and index" for number in range(900))
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
# Content by file name, and what the reason says.
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty.txt": (b"", "empty document: 0 bytes"),
    "blank.txt": (b" \n\t\n", "only whitespace"),
    "nul.txt": (b"a\0b", "NUL character at offset 1"),
    "surrogate.txt": (b"a \xed\xa0\x80 b", "not UTF-8 text"),
    "utf16.txt": (b"\xff\xfe\x00\xd8a\x00", "not UTF-16LE text"),
    "binary.txt": (bytes(range(128, 256)), "not UTF-8 text"),
    "program.exe": (b"MZ\x90\x00" + bytes(200), "unsupported format"),
}
# Far more markup than text, and elements that nest half a million times.
EXHAUSTING = {"bomb.docx": "more than 67108864 characters of text", "deep.xml": "empty document"}


def reasons(place: Workplace) -> dict[str, str]:
    return dict(place.rows("SELECT file_path, last_error FROM files_queue WHERE status = 'failed'"))


def corpus_of(place: Workplace) -> Path:
    corpus = write_corpus(place.folder / "hostile", GOOD)
    place.variables["RAGOPS_CORPUS"] = str(corpus)
    return corpus


def write_bomb(file: Path) -> None:
    """A text document of 200 MiB that is compressed to less than one."""
    paragraph = b"<w:p><w:r><w:t>" + b"a b c d " * 64 + b"</w:t></w:r></w:p>"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="xml" ContentType="application/vnd.openxmlformats-officedocument'
            '.wordprocessingml.document.main+xml"/></Types>',
        )
        with archive.open("word/document.xml", "w") as out:
            out.write(f'<?xml version="1.0"?><w:document xmlns:w="{WORD}"><w:body>'.encode())
            for _ in range(200):
                out.write(paragraph * (1024 * 1024 // len(paragraph)))
            out.write(b"</w:body></w:document>")


@pytest.mark.fault(26, 30, 31, 33)
def test_every_document_that_cannot_be_read_fails_alone(place: Workplace) -> None:
    corpus = corpus_of(place)
    for name, (content, _) in UNREADABLE.items():
        (corpus / name).write_bytes(content)
    write_bomb(corpus / "bomb.docx")
    (corpus / "deep.xml").write_bytes(b"<a>" * 500_000)
    (corpus / "long.txt").write_text(LONG, encoding="utf-8")
    for name in ("gone.txt", "edited.txt"):
        (corpus / name).write_text("as it was when it was queued", encoding="utf-8")
    bad = len(UNREADABLE) + len(EXHAUSTING) + 1
    fill_queue(place, documents=GOOD + bad + 2)
    (corpus / "gone.txt").unlink()
    (corpus / "edited.txt").write_text("as it is when it is embedded", encoding="utf-8")

    done = place.ragops("embed", "--json")
    assert done.code == 0, done.err
    assert (done.json["completed"], done.json["failed"], done.json["pending"]) == (GOOD + 2, bad, 0)
    expected = {name: reason for name, (_, reason) in UNREADABLE.items()} | EXHAUSTING
    expected["gone.txt"] = "no such file"
    found = reasons(place)
    assert found.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in found[name], (name, found[name])
    assert_consistent(place)
    stored = stored_documents(place)
    # Not cut anywhere: the chunks are the whole text, and none is longer than the model's context.
    chunks = [text for _, text in stored["long.txt"].chunks]
    assert len(chunks) > 5
    assert " ".join(" ".join(chunks).split()) == LONG
    # Text and vector belong together: an edited file is embedded as it is now.
    assert stored["edited.txt"].content == "as it is when it is embedded"
    # Text and vector are embedded again and compared; the verdict itself fails for the share of failed items.
    checks = place.ragops("validate", "--json", "--sample", "100").json["checks"]
    assert {check["status"] for check in checks if check["id"] == "stored_vectors_agree"} == {"pass"}


@pytest.mark.fault(32)
def test_only_regular_files_below_the_corpus_are_read(place: Workplace) -> None:
    corpus = corpus_of(place)
    outside = place.folder / "outside.txt"
    outside.write_text("a secret outside of the corpus", encoding="utf-8")
    inside = ["../outside.txt", str(outside), "part0/../../outside.txt"]
    (corpus / "link.txt").symlink_to(outside)
    (corpus / "folder").symlink_to(place.folder, target_is_directory=True)
    inside += ["link.txt", "folder/outside.txt", "part0"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(corpus / "pipe.txt")
        (corpus / "device").symlink_to("/dev/zero")
        inside += ["pipe.txt", "device", "/dev/zero"]
    # Listing the folder takes none of them; whoever can write the queue names them all the same.
    fill_queue(place, documents=GOOD)
    place.execute(f"INSERT INTO files_queue (file_path) SELECT unnest(ARRAY{inside!r})")
    done = place.ragops("embed", "--json")
    assert done.code == 0, done.err
    assert (done.json["completed"], done.json["failed"], done.json["pending"]) == (GOOD, len(inside), 0)
    found = reasons(place)
    assert found.keys() == set(inside)
    assert all(found.values())
    assert place.value("SELECT count(*) FROM documents WHERE content LIKE '%secret%'") == 0
    assert "secret" not in done.out + done.err + str(found)
    assert_consistent(place)
