"""Every fault has a test through the program, and the table for operators names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from fault_table import FAULTS, marked_tests

DOCUMENT = Path(__file__).parents[2] / "docs/reliability.md"
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")


def test_every_fault_has_a_test_through_the_program() -> None:
    through_the_program = {
        number for test in marked_tests() if test.file.startswith("tests/acceptance/") for number in test.faults
    }
    missing = {number: fault for number, fault in FAULTS.items() if number not in through_the_program}
    assert missing == {}


def test_marks_name_faults_of_the_table() -> None:
    unknown = {test.id: test.faults for test in marked_tests() if not set(test.faults) <= FAULTS.keys()}
    assert unknown == {}


def test_the_table_for_operators_has_every_fault_with_its_tests() -> None:
    rows = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert {int(number): fault for number, fault, _, _ in rows} == FAULTS
    marked = {test.id: test.faults for test in marked_tests()}
    for number, _, _, tests in rows:
        named = TEST.findall(tests)
        assert named, f"fault {number} names no test"
        for test in named:
            assert int(number) in marked.get(test, ()), (
                f"fault {number}: {test} has no such mark, or does not exist"
            )


def test_the_document_names_no_test_that_does_not_exist() -> None:
    for test in TEST.findall(DOCUMENT.read_text(encoding="utf-8")):
        file, name = test.split("::")
        path = DOCUMENT.parents[1] / file
        assert path.is_file(), test
        assert re.search(rf"^def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE), test
