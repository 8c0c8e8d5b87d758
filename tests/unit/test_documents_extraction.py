"""Texts of files and rows, and the reason of every failure."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from ragops.documents import parser
from ragops.documents.errors import Stopped, Unreadable
from ragops.documents.extraction import Extracted, extract, extract_file, extract_text
from ragops.documents.opening import open_file
from ragops.documents.parser import ParserLimits
from ragops.errors import RagopsError

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"


def write(folder: Path, name: str, data: bytes) -> Path:
    file = folder / name
    file.write_bytes(data)
    return file


def docx(folder: Path, text: str) -> Path:
    file = folder / "a.docx"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" '
            f'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{OFFICE}.main+xml"/></Types>',
        )
        package.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" Type="{RELATION}" '
            f'Target="word/document.xml"/></Relationships>',
        )
        body = f"<w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body>"
        package.writestr("word/document.xml", f'<w:document xmlns:w="{W}">{body}</w:document>')
    return file


def reason_of(file: Path, *, max_bytes: int = 10_000) -> str:
    with pytest.raises(Unreadable) as error:
        extract_file(file, max_bytes=max_bytes)
    assert error.value.where == str(file)
    return error.value.reason


@pytest.mark.parametrize(
    ("name", "data", "text", "media_type"),
    [
        ("a.txt", b"one\r\ntwo\rthree\n", "one\ntwo\nthree\n", "text/plain"),
        ("A.TXT", "é".encode(), "é", "text/plain"),
        ("README", b"plain", "plain", "text/plain"),
        ("a.md", b"\xef\xbb\xbf# Head", "# Head", "text/markdown"),
        ("a.csv", "é;b".encode("utf-16"), "é;b", "text/plain"),
        ("a.json", b"\xfe\xff" + "{}".encode("utf-16-be"), "{}", "text/plain"),
    ],
)
def test_text_is_read_as_it_is(tmp_path: Path, name: str, data: bytes, text: str, media_type: str) -> None:
    expected = Extracted(text, hashlib.sha256(data).hexdigest(), len(text), media_type)
    assert extract_file(write(tmp_path, name, data)) == expected


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "empty document: 0 bytes"),
        ("a.txt", b" \r\n\t", "empty document: only whitespace"),
        ("a.txt", b"\xef\xbb\xbf", "empty document: no text in it"),
        ("a.txt", b"abc\0def", "NUL character at offset 3"),
        ("a.html", b"<p>a\0b</p>", "NUL character at offset 4"),
        (
            "a.xyz",
            b"x",
            "unsupported format: .xyz (its bytes are UTF-8 text: name the suffix in source.text_suffixes)",
        ),
    ],
)
def test_what_is_no_text_says_why(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    assert reason_of(write(tmp_path, name, data)) == reason


def test_size_is_bounded(tmp_path: Path) -> None:
    file = write(tmp_path, "a.txt", b"x" * 11)
    assert reason_of(file, max_bytes=10) == "file larger than 10 bytes"
    assert extract_file(file, max_bytes=11).characters == 11


def test_what_is_no_regular_file_is_refused_even_when_swapped_in(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "gone.txt") == "no such file"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo.txt")
        assert reason_of(tmp_path / "fifo.txt") == "not a regular file"
        assert reason_of(tmp_path) == "not a regular file"
        (tmp_path / "link.txt").symlink_to(write(tmp_path, "a.txt", b"x"))
        assert reason_of(tmp_path / "link.txt") == "symbolic link, not a regular file"


def test_rows_of_a_table_are_checked_alike() -> None:
    found = extract_text("one\r\ntwo é")
    assert found.text == "one\ntwo é"
    assert (found.characters, found.media_type) == (9, "text/plain")
    assert found.content_hash == hashlib.sha256("one\r\ntwo é".encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty document: no text in it"),
        ("\n \t", "empty document: only whitespace"),
        ("ab\0", "NUL character at offset 2"),
        ("ab\ud83d", "lone surrogate U+D83D at offset 2"),
    ],
)
def test_bad_rows_say_why(text: str, reason: str) -> None:
    with pytest.raises(Unreadable) as error:
        extract_text(text)
    assert error.value.reason == reason


def test_html_goes_through_the_parser(tmp_path: Path) -> None:
    data = b"<html><body><h1>Head</h1><p>Hello w\xc3\xb6rld</p><script>x()</script></body></html>"
    found = extract_file(write(tmp_path, "a.html", data))
    assert found.text.split() == ["Head", "Hello", "wörld"]
    assert found.media_type == "text/html"
    assert found.content_hash == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-16"])
def test_html_keeps_its_declared_encoding(tmp_path: Path, encoding: str) -> None:
    page = f'<html><head><meta charset="{encoding}"></head><body><p>café</p></body></html>'
    assert extract_file(write(tmp_path, "a.html", page.encode(encoding))).text.strip() == "café"


def test_docx_goes_through_the_parser(tmp_path: Path) -> None:
    found = extract_file(docx(tmp_path, "Grüße aus Word"))
    assert found.text.strip() == "Grüße aus Word"
    assert found.media_type == OFFICE


def test_any_exception_is_the_failure_of_its_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    monkeypatch.setattr("ragops.documents.extraction.decode_text", fail)
    reason = reason_of(write(tmp_path, "a.txt", b"x"))
    assert reason.startswith("cannot be read: UnicodeEncodeError: 'utf-8' codec can't encode character")


def test_a_docx_without_text_is_empty(tmp_path: Path) -> None:
    assert reason_of(docx(tmp_path, "")).startswith("empty document")


@pytest.mark.parametrize("name", ["bad.pdf", "bad.docx"])
def test_a_damaged_document_fails_alone(tmp_path: Path, name: str) -> None:
    assert reason_of(write(tmp_path, name, b"%PDF-1.4 rubbish")).startswith("damaged: no PDF that can be opened")


@pytest.mark.parametrize("name", ["a.xyz", "a.unknownformat"])
def test_unknown_formats_are_named(tmp_path: Path, name: str) -> None:
    reason = reason_of(write(tmp_path, name, b"\x01\x02\x03"))
    assert reason.startswith(f"unsupported format: {Path(name).suffix}")


def stub_child(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    monkeypatch.setattr(parser, "_CHILD", write(folder, "child.py", body.encode()))
    return write(folder, "a.pdf", b"%PDF")


def test_a_parser_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stub_child(tmp_path, monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(Unreadable, match="no result within -4 s"):
        extract_file(file, limits=ParserLimits(seconds=-4))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_parser_that_crashes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stub_child(tmp_path, monkeypatch, "import os; os.abort()")
    assert reason_of(file) == "parser failed: ended by SIGABRT (2048 MiB of memory allowed)"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("deaths", [1, 2])
def test_a_parser_that_is_killed_from_outside_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    body = f"""
import json, os, pathlib
marks = pathlib.Path({str(tmp_path)!r})
if len(list(marks.glob("*.mark"))) < {deaths}:
    (marks / f"{{os.getpid()}}.mark").touch()
    os.kill(os.getpid(), 9)
print(json.dumps({{"text": "parsed", "media_type": "application/pdf"}}))
"""
    file = stub_child(tmp_path, monkeypatch, body)
    if deaths == 1:
        assert extract_file(file).text == "parsed"
    else:
        assert reason_of(file) == "parser failed: ended by SIGKILL twice (2048 MiB of memory allowed)"


def test_a_stop_ends_the_parser_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()

    def check_stop() -> None:
        if time.monotonic() > began + 0.3:
            raise Stopped

    file = stub_child(tmp_path, monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(Stopped), open_file(file) as opened:
        extract(opened, file, check_stop=check_stop)
    assert time.monotonic() - began < 30
    assert [child for child in psutil.Process().children() if "child.py" in " ".join(child.cmdline())] == []


@pytest.mark.skipif(sys.platform != "linux", reason="memory is capped on Linux only")
def test_a_parser_that_eats_memory_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = parser._CHILD
    body = (
        f"import sys; sys.path.insert(0, {str(real.parent)!r}); import parse_child;"
        "parse_child.limit_memory(int(sys.argv[2])); x = bytearray(512 * 1024**2)"
    )
    file = stub_child(tmp_path, monkeypatch, body)
    with pytest.raises(Unreadable, match=r"parser failed: ended with code 1 \(256 MiB"):
        extract_file(file, limits=ParserLimits(memory_bytes=256 * 1024**2))


@pytest.mark.skipif(sys.platform != "linux", reason="user namespaces are Linux's")
def test_a_parser_reaches_no_server_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel lets an unprivileged process leave the network; elsewhere parsing goes on with it."""
    try_it = [sys.executable, "-c", "import ctypes; raise SystemExit(-ctypes.CDLL(None).unshare(0x50000000))"]
    can_leave = subprocess.run(try_it, check=False).returncode == 0
    real = parser._CHILD
    with socket.create_server(("127.0.0.1", 0)) as server:
        body = (
            f"import sys, json, socket; sys.path.insert(0, {str(real.parent)!r}); import parse_child\n"
            "parse_child.leave_the_network()\n"
            f"try: text = repr(socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5))\n"
            "except OSError as error: text = 'unreachable'\n"
            "print(json.dumps({'text': text, 'media_type': open(sys.argv[1]).read()}))"
        )
        found = extract_file(stub_child(tmp_path, monkeypatch, body))
    assert (found.text == "unreachable") is can_leave
    assert found.media_type == "%PDF"  # it still reads its file


def test_a_missing_parser_is_no_documents_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = '{"kind": "missing", "error": "No module named kreuzberg"}'
    file = stub_child(tmp_path, monkeypatch, f"print({answer!r})")
    with pytest.raises(RagopsError, match="cannot be loaded") as error:
        extract_file(file)
    assert not isinstance(error.value, Unreadable)
