"""Hostile archives, pictures, names and sizes."""

from __future__ import annotations

import bz2
import gzip
import lzma

from zoo import Exact, Reads, Refused, hostile
from zoo_files import docx, p, pdf, tarred, zipped

_ARCHIVE = Refused("(?i)archive|unsupported format")
_PICTURE = Refused("(?i)picture|image|unsupported format|OCR")
_MIXED = {
    "b.txt": b"two",
    "a.md": b"one",
    "c.docx": docx(p("three")),
    "d.png": b"\x89PNG\r\n\x1a\n",
    "e.txt": b"caf\xe9",
}
_PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\0\0\0\0:~\x9bU\0\0\0\nIDATx\x9cc`\0\0\0\2\0\1H\xaf\xa4q"
    b"\0\0\0\0IEND\xaeB`\x82"
)
_JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xd9"
_CODE = b"object Main extends App { println(1) }\n"


def _many() -> bytes:
    return zipped({f"{n}.txt": b"x" for n in range(5000)})


_ARCHIVES = (
    hostile("mixed.zip", "members of all kinds", zipped(_MIXED), _ARCHIVE),
    hostile("one.zip", "a single text", zipped({"a.txt": "one"}), _ARCHIVE, Reads("one")),
    hostile("nested.zip", "an archive in an archive", zipped({"a.zip": zipped({"a.txt": "one"})}), _ARCHIVE),
    hostile("empty.zip", "no member", zipped({}), _ARCHIVE, Refused("empty")),
    hostile("many.zip", "5,000 members", _many, _ARCHIVE),
    hostile("slip.zip", "a member outside", zipped({"../../evil.txt": "no"}), _ARCHIVE),
    hostile("bomb.zip", "100 MB of zeros", lambda: zipped({"a.txt": bytes(100_000_000)}), _ARCHIVE),
    hostile("mixed.tar", "members of all kinds", tarred(_MIXED), _ARCHIVE),
    hostile("mixed.tar.gz", "a packed archive", tarred(_MIXED, "w:gz"), _ARCHIVE),
    hostile("mixed.tgz", "a packed archive", tarred(_MIXED, "w:gz"), _ARCHIVE),
    hostile("mixed.tar.xz", "a packed archive", tarred(_MIXED, "w:xz"), _ARCHIVE),
    hostile("seven.7z", "7-Zip", b"7z\xbc\xaf\x27\x1c" + bytes(64), _ARCHIVE, Refused("parser failed")),
    hostile("rar.rar", "RAR", b"Rar!\x1a\x07\x01\0" + bytes(64), _ARCHIVE, Refused("parser failed")),
    hostile("jar.jar", "Java", zipped({"A.class": b"\xca\xfe\xba\xbe"}), _ARCHIVE, Refused("unsupported")),
    hostile(
        "ls.1.gz",
        "a page of the manual",
        gzip.compress(b".TH LS 1\nlist files\n", mtime=0),
        Exact(".TH LS 1\nlist files"),
        Reads("TH LS 1 list files"),
    ),
    hostile("note.txt.gz", "a packed text", gzip.compress(b"one two", mtime=0), Exact("one two")),
    hostile(
        "page.html.gz", "a packed page", gzip.compress(b"<h1>one</h1><div>two</div>", mtime=0), Reads("one two")
    ),
    hostile("latin1.txt.gz", "a packed Latin-1", gzip.compress(b"caf\xe9", mtime=0), Refused("not UTF-8")),
    hostile(
        "two_members.txt.gz",
        "two streams after each other",
        gzip.compress(b"one ") + gzip.compress(b"two"),
        Exact("one two"),
    ),
    hostile(
        "truncated.txt.gz",
        "ends early",
        gzip.compress(b"".join(b"%d " % (n * 7919) for n in range(999)))[:-300],
        Refused("(?i)gzip|damaged|parser failed|ends|compressed"),
    ),
    hostile(
        "checksum.txt.gz",
        "its checksum is wrong",
        gzip.compress(b"one two")[:-8] + bytes(8),
        Refused("(?i)gzip|damaged|crc|parser failed|compressed|check"),
    ),
    hostile(
        "trailing.txt.gz",
        "zeros after its end",
        gzip.compress(b"one two") + bytes(512),
        Exact("one two"),
        Refused("(?i)gzip|damaged|compressed"),
    ),
    hostile(
        "bomb.txt.gz",
        "100 MB of spaces",
        lambda: gzip.compress(b" " * 100_000_000, 1),
        Refused("(?i)larger|bytes|bomb|memory|MiB|parser failed|characters"),
    ),
    hostile(
        "note.txt.bz2",
        "bzip2",
        bz2.compress(b"one two"),
        Exact("one two"),
        Refused("unsupported|compressed|archive"),
    ),
    hostile(
        "note.txt.xz", "xz", lzma.compress(b"one two"), Exact("one two"), Refused("unsupported|compressed|archive")
    ),
)

_PICTURES = (
    hostile("picture.png", "a picture", _PNG, _PICTURE),
    hostile("picture.jpg", "a picture", _JPEG, _PICTURE),
    hostile(
        "picture.gif",
        "a picture",
        b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
        _PICTURE,
    ),
    hostile("picture.tiff", "a picture", b"II*\0\x08\0\0\0\0\0", _PICTURE),
    hostile(
        "picture.webp",
        "a picture",
        b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0",
        _PICTURE,
    ),
    hostile("picture.bmp", "a picture", b"BM" + bytes(60), _PICTURE),
    hostile("sound.mp3", "a sound", b"ID3\x03" + bytes(64), Refused("unsupported format|sound|audio")),
    hostile("program.exe", "a program", b"MZ" + bytes(64), Refused("binary file|unsupported format")),
    hostile("data.bin", "bytes", bytes(range(256)), Refused("binary file|unsupported format")),
    hostile(
        "store.sqlite", "a database", b"SQLite format 3\0" + bytes(84), Refused("binary file|unsupported format")
    ),
    hostile("table.parquet", "a table", b"PAR1" + bytes(64) + b"PAR1", Refused("binary file|unsupported format")),
)

_NAMES = (
    *(
        hostile(
            f"code{suffix}",
            "source code is text, and no grammar is fetched for it",
            _CODE,
            Exact(_CODE.decode().strip()),
        )
        for suffix in (".scala", ".vue", ".hs", ".ex", ".dart", ".proto", ".tf", ".clj", ".jl", ".zig", ".gradle")
    ),
    hostile(
        "feature.feature", "a test in words", b"Feature: one\n  Scenario: two\n", Reads("Feature one Scenario two")
    ),
    hostile("README", "no suffix", b"one", Exact("one")),
    hostile("UPPER.TXT", "capitals", b"one", Exact("one")),
    hostile("a.b c", "a blank in the suffix", b"one two", Refused("unsupported format"), Exact("one two")),
    hostile("dot. txt", "a blank before the suffix", b"one two", Refused("unsupported format"), Exact("one two")),
    hostile("v1.2 notes", "a version in the name", b"one two", Refused("unsupported format"), Exact("one two")),
    hostile("x.unheard", "an unknown suffix", b"one two", Refused("unsupported format"), Exact("one two")),
    hostile("pdf_named.txt", "a PDF named .txt", pdf("one"), Reads("one"), Refused("PDF|NUL|not UTF-8|suffix")),
    hostile("docx_named.txt", "a DOCX named .txt", docx(p("one")), Reads("one"), Refused("NUL|not UTF-8|ZIP|zip")),
    hostile("html_named.txt", "HTML named .txt is what its name says", b"<p>one</p>", Exact("<p>one</p>")),
    hostile("docx_named.pdf", "a DOCX named .pdf", docx(p("one")), Reads("one"), Refused("(?i)pdf|parser failed")),
    hostile(
        "pdf_named.docx", "a PDF named .docx", pdf("one"), Reads("one"), Refused("(?i)zip|docx|parser|package|pdf")
    ),
    hostile(
        "html_named.docx",
        "HTML named .docx",
        b"<html><body><p>one</p><div>two</div></body></html>",
        Reads("one two"),
        Refused("(?i)zip|docx|parser|package|html"),
    ),
    hostile(
        "rtf_named.doc",
        "RTF named .doc",
        rb"{\rtf1\ansi one two\par}",
        Reads("one two"),
        Refused("(?i)parser|ole|rtf|doc"),
    ),
    hostile("pdf_bare", "a PDF without a suffix", pdf("one"), Reads("one"), Refused("PDF|suffix|not UTF-8|NUL")),
)

_SIZES = (
    hostile("too_large.txt", "one byte too many", b"x" * 11, Refused("larger than 10 bytes"), max_bytes=10),
    hostile("just_fits.txt", "the last that fits", b"x" * 10, Exact("x" * 10), max_bytes=10),
    hostile(
        "one_line.json", "4 MB on one line", lambda: b'{"a": "b c"}' * 350_000, Exact('{"a": "b c"}' * 350_000)
    ),
    hostile(
        "many_lines.csv", "a million lines", lambda: b"a,b\n" * 1_000_000, Exact(("a,b\n" * 1_000_000).strip())
    ),
    hostile(
        "large.html",
        "1 MB of HTML",
        lambda: b"<h1>x</h1>" + b"<p>one <b>two</b></p>" * 50_000,
        Reads("x " + "one two " * 50_000),
    ),
    hostile("large.docx", "20,000 paragraphs", lambda: docx(p("one two") * 20_000), Reads("one two " * 20_000)),
    hostile(
        "expands.txt.gz",
        "larger than allowed once it is unpacked",
        gzip.compress(b"x" * 5000),
        Refused("larger|bytes"),
        max_bytes=1000,
    ),
)

ENTRIES = (*_ARCHIVES, *_PICTURES, *_NAMES, *_SIZES)
