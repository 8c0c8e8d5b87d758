"""Failures in groups: what differs from document to document does not make another reason."""

from __future__ import annotations

import pytest

from ragops.documents.reasons import MOST_GROUPS, OTHER, grouped, normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("not UTF-8 text (byte 0xdf at offset 4)", "not UTF-8 text (byte 0xe9 at offset 17)"),
        ("lone surrogate U+D800 at offset 3", "lone surrogate U+DC80 at offset 1,024"),
        ("symbolic link: a b.txt", "symbolic link: c"),
        ("cannot read 'one.txt' in it", "cannot read 'another one.txt' in it"),
        ("member docs/a.docx is damaged", "member b.pdf is damaged"),
        (
            "incomplete: 1 of 3 pages; missing: page 2 (a scan)",
            "incomplete: 9 of 30 pages; missing: page 1, page 2",
        ),
        (
            'the database refused this document: violates unique constraint "one"\nKey (id)=(5)',
            'the database refused this document: violates unique constraint "one"\nKey (id)=(77)',
        ),
        ("object 3fa9c2d1b0 is not there", "object 00aa11bb22cc is not there"),
        ("parser failed: ended with code 1 (2048 MiB)", "parser failed: ended with code 137 (1,024 MiB)"),
    ],
)
def test_numbers_and_names_make_no_other_reason(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("not UTF-8 text (byte 0xdf at offset 4)", "not UTF-16 text (byte 0xdf at offset 4)"),
        ("unsupported format: .png", "unsupported format: .bin"),
        (
            "not iso-8859-1 text, although the document declares it",
            "not iso-8859-15 text, although the document declares it",
        ),
        ('violates check constraint "one"', 'violates check constraint "two"'),
        ("no parser for image/png", "no parser for image/jpeg"),
        ("empty document: 0 bytes", "empty document: only whitespace"),
    ],
)
def test_different_reasons_stay_apart(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize(
    "reason",
    [
        "the model's child can't read it",
        "empty document: no text in it",
        "no such file",
        "unsupported format: .txt ",
    ],
)
def test_plain_words_stay_as_they_are(reason: str) -> None:
    assert normalised(reason) == reason


def test_groups_have_counts_an_example_and_the_words_where_all_are_the_same() -> None:
    groups = grouped(
        [
            ("no such file", 7, "a.txt"),
            ("not UTF-8 text (byte 0xdf at offset 4)", 5, "b.txt"),
            ("not UTF-8 text (byte 0xe9 at offset 9)", 4, "c.txt"),
            (None, 1, "d.txt"),
        ]
    )
    assert [(g.reason, g.items, g.location) for g in groups] == [
        ("not UTF-8 text (byte … at offset N)", 9, "b.txt"),
        ("no such file", 7, "a.txt"),
        ("no reason was recorded", 1, "d.txt"),
    ]
    assert groups[0].example == "not UTF-8 text (byte 0xdf at offset 4)"


def test_a_million_different_reasons_make_a_bounded_number_of_groups() -> None:
    words = ("".join(chr(97 + (n // 26**i) % 26) for i in range(4)) for n in range(MOST_GROUPS + 100))
    groups = grouped((f"reason {word}", 1, "a") for word in words)
    assert len(groups) == MOST_GROUPS + 1
    assert next(group.items for group in groups if group.reason == OTHER) == 100
