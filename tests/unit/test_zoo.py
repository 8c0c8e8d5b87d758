"""Hostile files: each gives its exact text, a measured part, or a failure with the right reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import zoo_archives
import zoo_encodings
import zoo_html
import zoo_mails
import zoo_office
import zoo_rtf_odf
import zoo_word
import zoo_xml
from zoo import Hostile, Verdict, judge

_MODULES = (zoo_encodings, zoo_html, zoo_xml, zoo_word, zoo_rtf_odf, zoo_office, zoo_mails, zoo_archives)
ENTRIES: list[Hostile] = [entry for module in _MODULES for entry in module.ENTRIES]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_no_hostile_file_is_silently_wrong(entry: Hostile, record_property: Callable[[str, object], None]) -> None:
    verdict, found = judge(entry)
    record_property("zoo", str(verdict))
    assert verdict is Verdict.RIGHT, f"{entry.about}: {verdict}: {found}"


def test_the_zoo_is_large_and_every_file_has_one_name() -> None:
    assert [name for name, count in Counter(entry.name for entry in ENTRIES).items() if count > 1] == []
    assert len(ENTRIES) >= 180
