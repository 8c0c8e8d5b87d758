"""Relevance judgments: both formats, composite keys, and every wrong line named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragops.campaign.judgments import key_text, read_judgments
from ragops.errors import UsageError

GOOD = """\
# query, key, relevance
lock a table\t42\t2
lock a table\t43
über\t["7", "2026-01-01"]\t0.5
{"query": "lock a table", "key": 44, "relevance": 3}
{"query": "keys", "key": ["7", "é"]}

"""


def write(folder: Path, text: str) -> Path:
    (folder / "judged.tsv").write_text(text, encoding="utf-8")
    return folder / "judged.tsv"


def test_both_formats_and_keys(tmp_path: Path) -> None:
    found = {one.query: one.relevance for one in read_judgments(write(tmp_path, GOOD))}
    assert found == {
        "lock a table": {'["42"]': 2, '["43"]': 1, '["44"]': 3},
        "über": {'["7", "2026-01-01"]': 0.5},
        "keys": {'["7", "é"]': 1},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tb\tc\td", "line 1: 4 columns"),
        ("a\tb\tmuch", "line 1: the relevance 'much' is no number"),
        ("a\tb\tnan", "line 1: the relevance nan"),
        ("a\tb\t-1", "line 1: the relevance -1"),
        (" \t5", "line 1: the query is empty"),
        ('a\t["5"', "is no JSON array"),
        ('{"query": "a"}', "query (a text) and key are needed"),
        ('{"query": "a", "key": 1, "rel": 2}', "unknown: rel"),
        ('{"query": "a", "key": {}}', "is no key"),
        ('{"query"', "not valid JSON"),
        ("# nothing\n", "no line"),
        ("ok\t1\n" + "\n".join(["bad"] * 9), "and 4 more"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_judgments(write(tmp_path, text))
    assert expected in (caught.value.actual or "")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_judgments(tmp_path / "none.tsv")


def test_keys_read_as_ragops_writes_them() -> None:
    assert (key_text(5), key_text("é"), key_text(["a", 1])) == ('["5"]', '["é"]', '["a", "1"]')
