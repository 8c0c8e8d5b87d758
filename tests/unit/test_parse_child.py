"""The parser's process: whatever a document does to it is that document's failure, with its words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from documents_made import SCAN, docx, paragraph, pdf, text_page

from ragops.documents import parse_child
from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_file
from ragops.documents.readers import registry


class PanicException(BaseException):
    """What pyo3 raises for a panic in Rust: no Exception."""


class ValidationError(Exception):
    """What kreuzberg raises for a format that it does not know."""


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            PanicException("byte index 114 is not a char boundary"),
            "failed",
            "byte index 114 is not a char boundary",
        ),
        (MemoryError(), "failed", "out of memory"),
        (RecursionError("maximum recursion depth"), "failed", "its parts are nested too deeply"),
        (KeyError("x"), "failed", "'x'"),
        (AssertionError(), "failed", "AssertionError"),
        (SystemExit(3), "failed", "3"),
        (Unreadable("damaged: no head"), "refused", "damaged: no head"),
        (ValidationError("unknown type"), "unsupported", "unknown type"),
        (ImportError("No module named x"), "missing", "No module named x"),
        (OSError(28, "No space left on device"), "system", "[Errno 28] No space left on device"),
        (PermissionError(13, "Permission denied"), "failed", "[Errno 13] Permission denied"),
    ],
)
def test_every_exception_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, kind: str, words: str
) -> None:
    def fail(data: bytes, suffix: str) -> None:
        raise error

    monkeypatch.setattr(registry, "read_document", fail)
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "a.pdf"
    file.write_bytes(b"%PDF")
    assert parse_child.parse(str(file), 10) == {"kind": kind, "error": words}


@pytest.mark.parametrize("body", [docx(paragraph("One") * 3), pdf([text_page("One"), SCAN])])
def test_the_same_bytes_give_the_same_answer(tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "a"
    file.write_bytes(body)
    command = [sys.executable, "-P", parse_child.__file__, str(file), str(1024**3), "30"]
    first, second = (subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2))
    assert first == second
    assert json.loads(first)["text"]


def test_what_is_missing_reaches_the_caller(tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(pdf([text_page("One"), SCAN]))
    found = extract_file(file)
    assert found.text == "One"
    assert str(found.partial) == "1 of 2 pages; missing: page 2 (probably a scan)"


@pytest.mark.parametrize("suffix", [".scala", ".py", ".png", ".unknown", ""])
def test_kreuzberg_is_not_asked_for_a_format_that_it_would_download_something_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """By the suffix of a programming language it fetches a grammar, whatever its configuration says."""
    monkeypatch.setitem(sys.modules, "kreuzberg", None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b"object Main { val x = 1 }")
    answer = parse_child.parse(str(file), 10)
    assert answer == {"kind": "refused", "error": f"unsupported format: {suffix or 'no suffix'}"}
