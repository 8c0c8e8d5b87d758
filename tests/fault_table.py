"""The faults that a campaign must survive, and the tests that inject them: `@pytest.mark.fault(NUMBER, …)`.

A test that has the mark injects the fault for real, through the program, and spares nothing of it.
`tests/unit/test_faults.py` fails if a fault has no test; `docs/reliability.md` has the same table for operators.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
FAULTS = {
    1: "Embedder or controller dies while embedding",
    2: "Controller dies in a COPY",
    3: "The answer to a COMMIT is lost",
    4: "A stopped process wakes up after its lease",
    5: "Controller dies, another one starts at once",
    6: "Two controllers",
    7: "Power loss",
    8: "A table is UNLOGGED",
    9: "Backends are terminated",
    10: "The database is down for minutes",
    11: "A connection is half open",
    12: "A transaction pooler",
    13: "Too few connections",
    14: "`statement_timeout` of the role",
    15: "A reader blocks DROP or TRUNCATE",
    16: "A foreign key reaches an emptied table",
    17: "Another database, or it changed since the plan",
    18: "Controller dies in CREATE INDEX",
    19: "An INVALID index is left behind",
    20: "Shared memory is too small",
    21: "The disk is full",
    22: "The database turns read-only",
    23: "pgvector is too old",
    24: "A long transaction keeps dead rows in the queue",
    25: "Vectors that are NaN, infinite, zero or too wide",
    26: "A text is longer than the model's context",
    27: "One document crashes the embedder",
    28: "Every document crashes the embedder",
    29: "The embedder hangs",
    30: "Empty documents, NUL, lone surrogates, no text",
    31: "A file is gone or has changed",
    32: "Paths outside the corpus, links, pipes, devices",
    33: "A document exhausts the parser",
    34: "A damaged model file",
    35: "Hostile YAML",
    36: "Hostile identifiers",
    37: "A malformed DSN",
    38: "A password in any output",
    39: "Another machine without TLS",
    40: "The clock jumps, or the machine is suspended",
    41: "Ctrl-C, once and twice",
    42: "A gate fails",
}


@dataclass(frozen=True, slots=True, order=True)
class MarkedTest:
    """A test and the faults that it injects."""

    file: str
    """Relative to the repository."""
    name: str
    faults: tuple[int, ...]

    @property
    def id(self) -> str:
        return f"{self.file}::{self.name}"


def marked_tests() -> list[MarkedTest]:
    """Every test that has the mark, read from the source: nothing is imported."""
    return sorted(test for file in sorted(TESTS.rglob("test_*.py")) for test in _marked_in(file))


def _marked_in(file: Path) -> Iterator[MarkedTest]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        faults = tuple(number for decorator in node.decorator_list for number in _faults_of(decorator))
        if faults:
            yield MarkedTest(file.relative_to(TESTS.parent).as_posix(), node.name, faults)


def _faults_of(decorator: ast.expr) -> Iterator[int]:
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.fault":
        yield from (ast.literal_eval(argument) for argument in decorator.args)
