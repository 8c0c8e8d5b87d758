"""The value of `--against`: a file, an endpoint, a debug endpoint, or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragops.cli.references import parse_reference
from ragops.errors import UsageError


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "backend.json"
    file.touch()
    assert parse_reference(str(file)).fingerprint == file
    with pytest.raises(UsageError, match="no such reference") as caught:
        parse_reference(str(tmp_path / "missing.json"))
    assert "fingerprint capture" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["http://h:8080/v1", "http://h:8080/v1/", "http://h:8080/v1/embeddings"])
def test_an_endpoint(text: str) -> None:
    reference = parse_reference(text)
    assert reference.openai is not None
    assert reference.openai.url == "http://h:8080/v1"


def test_a_debug_endpoint() -> None:
    reference = parse_reference("https://h/debug?query={query}")
    assert reference.debug is not None
    assert reference.debug.url == "https://h/debug?query={query}"


def test_a_malformed_url() -> None:
    with pytest.raises(UsageError, match="malformed") as caught:
        parse_reference("http:///")
    assert caught.value.where == "--against"


def test_an_unknown_scheme_is_a_file_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="no such reference"):
        parse_reference("ftp://h/v1")
