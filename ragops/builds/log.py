"""A build's log: how far it is, what CMake left unused, and the lines that say why it failed. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NINJA = re.compile(r"^\s*\[(\d+)/(\d+)\]\s*(.*)")
_MAKE = re.compile(r"^\s*\[\s*(\d+)%\]\s*(.*)")
_UNUSED = re.compile(
    r"Manually-specified variables were not used by the project:\s*\n((?:\s*\n|\s+\S+[ \t]*(?:\n|$))+)"
)
_TELLING = re.compile(
    r"CMake Error|error[: ]|fatal|FAILED|No space left|Killed|cannot find|not found|No such|refused|undefined|"
    r"No matching distribution|Could not find a version|timed out",
    re.IGNORECASE,
)
# pip's frame around a failure; says that it failed, never why.
_FRAME = re.compile(
    r"^\s*(╰─>|×|│|note:|hint:|\[end of output\]|error: subprocess-exited|full command:|cwd:|"
    r"ERROR: Failed building|Failed to build|ERROR: Could not build wheels|This error originates)",
)
_HINTS = (
    ("No space left", "free space on the disk of the temporary folder and of the build's folder"),
    (
        "Killed",
        "the system ended the compiler, often because memory ran out: CMAKE_BUILD_PARALLEL_LEVEL=1 needs less",
    ),
    ("No matching distribution", "there is no such version for this Python: look at it with pip index versions"),
    (
        "Could not find a version",
        "there is no such version for this Python, or the package index cannot be reached",
    ),
    ("CMAKE_CXX_COMPILER", "CMake found no C++ compiler: install one, or name it in CXX"),
    ("CMAKE_C_COMPILER", "CMake found no C compiler: install one, or name it in CC"),
    ("not recognized", "the compiler does not know a flag: look at CFLAGS and CXXFLAGS"),
    ("unrecognized command-line option", "the compiler is too old for a flag: take a newer one, or switch it OFF"),
)


@dataclass(frozen=True, slots=True)
class Counter:
    """How far a compile is, as the build tool counts."""

    done: int
    total: int
    what: str


def read_counter(line: str) -> Counter | None:
    """`[12/345] Building …` of ninja, or `[ 12%] Building …` of make; None for any other line."""
    if match := _NINJA.match(line):
        done, total, rest = int(match[1]), int(match[2]), match[3]
    elif match := _MAKE.match(line):
        done, total, rest = int(match[1]), 100, match[2]
    else:
        return None
    return Counter(done, total, short(rest)) if 0 <= done <= total and total else None


def short(line: str, *, width: int = 60) -> str:
    """A log line that fits beside a progress bar; of a compiler's command the file that it makes."""
    words = line.split()
    if len(line) > width and "-o" in words[:-1]:
        return words[words.index("-o") + 1].rpartition("/")[2][:width]
    text = " ".join(words)
    return text if len(text) <= width else text[: width - 1] + "…"


def unused_variables(log: str) -> tuple[str, ...]:
    """Names of arguments that CMake itself reports as unused."""
    return tuple(dict.fromkeys(name for match in _UNUSED.finditer(log) for name in match[1].split()))


def meaningful_lines(log: str, *, count: int = 8) -> list[str]:
    """The last lines that say why a build failed; without such the last lines at all."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip() and not _FRAME.match(line)]
    telling = [line.strip() for line in lines if _TELLING.search(line) and not read_counter(line)]
    return [line[:300] for line in dict.fromkeys(telling or lines)][-count:]


def hint_of(log: str) -> str | None:
    """What to do about a failure that is known."""
    tail = "\n".join(meaningful_lines(log, count=40))
    return next((hint for sign, hint in _HINTS if sign in tail), None)
