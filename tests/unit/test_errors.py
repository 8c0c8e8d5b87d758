"""The first line of an error: servers send many lines, and some errors have no message at all."""

from __future__ import annotations

import pytest

from ragops.errors import first_line


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("one\nDETAIL: two"), "one"),
        (ValueError("\n\nafter empty lines"), "after empty lines"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, text: str) -> None:
    assert first_line(error) == text
