"""By its name and its first bytes, a file is read as what it is, or refused with a plain reason."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_file
from ragops.documents.formats import Kind, format_of, kind_of, suffix_of

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.txt", ".txt"),
        ("A.TXT", ".txt"),
        ("trail .txt ", ".txt"),
        ("README.Debian", ".debian"),
        ("Makefile.am", ".am"),
        ("README", ""),
        (".bashrc", ""),
        ("v1.2 notes", ""),
        ("dot. txt", ""),
        ("ls.1", ""),
        ("perl.3pm", ""),
        ("1700.M1P2.host:2,S", ""),
        ("a.", ""),
        ("a.7z", ".7z"),
        ("foo.xyz", ".xyz"),
    ],
)
def test_a_suffix_that_names_no_format_is_left_out(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


CODE = """
    .scala .vue .hs .ex .dart .proto .tf .clj .jl .nim .cmake .gradle .groovy .m .svelte .graphql .nix .feature
    .vim .el .ml .glsl .cu .json5 .pyx .cjs .less .j2 .awk .zsh .po .d .cxx .hxx .pm .srt .vtt .ics .vcf .service
    .am .lock
"""


@pytest.mark.parametrize("suffix", CODE.split())
def test_source_code_and_plain_texts_are_read_as_text(suffix: str) -> None:
    assert kind_of(suffix) is Kind.TEXT


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        for name, data in members.items():
            package.writestr(name, data)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    return file.getvalue()


ARCHIVE = "an archive ({}): unpack it into the corpus, where each member is one document"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.png", PNG, "a picture (.png): it has no text to read, and ragops does no OCR"),
        ("a.txt", PNG, "a picture (.png): it has no text to read, and ragops does no OCR"),
        ("scan", b"II*\0\x08", "a picture (.tif): it has no text to read, and ragops does no OCR"),
        ("a.docx", PNG, "a picture (.png): it has no text to read, and ragops does no OCR"),
        (
            "a.eps",
            b"%!PS-Adobe-3.0",
            "PostScript (.eps): it draws pages and has no text to read; convert it to PDF",
        ),
        ("a.zip", zipped(a=b"x"), ARCHIVE.format(".zip")),
        ("a.tar", tarred(), ARCHIVE.format(".tar")),
        ("a.tar.gz", gzip.compress(tarred()), ARCHIVE.format(".tar")),
        ("a.gz", gzip.compress(tarred()), ARCHIVE.format(".tar")),
        ("a.tgz", gzip.compress(tarred()), ARCHIVE.format(".tgz")),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", ARCHIVE.format(".7z")),
        ("a.mp3", b"ID3\x04\0", "sound or film (.mp3): it has no text to read"),
        ("tool", b"\x7fELF\x02", "unsupported format: .elf (a program or data, with no text to read)"),
        ("a.txt", b"SQLite format 3\0", "unsupported format: .sqlite (a program or data, with no text to read)"),
        ("a.txt.gz", b"plain", "named .gz, but it is not compressed with gzip"),
        ("a.txt.gz", gzip.compress(b"some text")[:-9], "damaged gzip data: it ends early"),
        ("a.txt.gz", gzip.compress(bytes(20_000)), "decompressed, larger than 10000 bytes"),
        ("a.gz", gzip.compress(gzip.compress(b"x")), "compressed twice: decompress it once"),
        ("a.txt.gz", gzip.compress(b""), "empty document: no text in it"),
        ("a.xyz", b"\x01\x02", "unsupported format: .xyz"),
    ],
)
def test_what_is_not_read_says_why(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(Unreadable) as error:
        extract_file(file, max_bytes=10_240)
    assert error.value.reason == reason.replace("10000", "10240")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("ls.1.gz", gzip.compress(b"the text")),
        ("ls.1.bz2", bz2.compress(b"the text")),
        ("notes.md.xz", lzma.compress(b"the text")),
        ("two.gz", gzip.compress(b"the ") + gzip.compress(b"text") + b"\0\0"),
        ("notes", gzip.compress(b"the text")),
        ("v1.2 notes", b"the text"),
    ],
)
def test_a_compressed_file_is_read_as_its_member(tmp_path: Path, name: str, data: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    found = extract_file(file)
    assert found.text == "the text"
    assert found.media_type == ("text/markdown" if ".md" in name else "text/plain")


MAIL = b"Received: from a\nFrom: a@b.example\nTo: c@d.example\nSubject: x\n\nbody\n"


@pytest.mark.parametrize(
    ("name", "data", "suffix", "kind"),
    [
        ("a.txt", b"%PDF-1.7\n", ".pdf", Kind.PARSED),
        ("a", b"PK\x03\x04", ".zip", Kind.PARSED),
        ("a.docx", b"PK\x03\x04", ".docx", Kind.PARSED),
        ("a.md", b"{\\rtf1 x}", ".rtf", Kind.PARSED),
        ("1700.M1P2.host:2,S", MAIL, ".eml", Kind.PARSED),
        ("inbox", b"From a@b.example Mon\n" + MAIL, ".mbox", Kind.PARSED),
        ("0001-fix.patch", b"From 5e17ce3 Mon\n" + MAIL, ".patch", Kind.TEXT),
        ("a.txt", b"From: here\nTo: there\n\nit is far\n", ".txt", Kind.TEXT),
        ("a.txt", b"BZh is how bzip2 begins", ".txt", Kind.TEXT),
        ("a.zip", b"PK\x03\x04", ".zip", Kind.ARCHIVE),
        ("drawing.ai", b"%PDF-1.5\n", ".pdf", Kind.PARSED),
    ],
)
def test_the_first_bytes_decide_where_the_name_is_wrong(name: str, data: bytes, suffix: str, kind: Kind) -> None:
    assert format_of(name, data) == (suffix, kind)
