"""Parse a build's log: progress, variables that CMake left unused, and the cause of a failure. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Longer lines would wrap beside the progress bar of a terminal of 100 columns.
_SHORT = 60
# Ninja counts steps ([12/345]), make prints a percentage ([ 12%]).
_NINJA = re.compile(r"^\s*\[(\d+)/(\d+)\]\s*(.*)")
_MAKE = re.compile(r"^\s*\[\s*(\d+)%\]\s*(.*)")
_UNUSED = re.compile(
    r"Manually-specified variables were not used by the project:\s*\n((?:\s*\n|\s+\S+[ \t]*(?:\n|$))+)"
)
_CAUSE = re.compile(
    r"CMake Error|error[: ]|fatal|FAILED|No space left|Killed|cannot find|not found|No such|refused|undefined|"
    r"No matching distribution|Could not find a version|timed out",
    re.IGNORECASE,
)
# pip's frame around a failure repeats that it failed, never why.
_FRAME = re.compile(
    r"^\s*(╰─>|×|│|note:|hint:|\[end of output\]|error: subprocess-exited|full command:|cwd:|"
    r"ERROR: Failed building|Failed to build|ERROR: Could not build wheels|This error originates)",
)
# Sign in the log → what to do. The first match counts, so causes come before what they lead to: a compiler
# killed for memory or stopped by a full disk also leaves messages of CMake.
_HINTS = (
    ("No space left", "free space on the disk of the temporary folder and of the build's folder"),
    (
        "Killed",
        "the system killed the compiler, usually for lack of memory; CMAKE_BUILD_PARALLEL_LEVEL=1 needs less",
    ),
    (
        "No matching distribution",
        "there is no such version for this Python; list them with: pip index versions llama-cpp-python",
    ),
    (
        "Could not find a version",
        "there is no such version for this Python, or the package index is unreachable",
    ),
    ("CMAKE_CXX_COMPILER", "CMake found no C++ compiler: install one, or set CXX"),
    ("CMAKE_C_COMPILER", "CMake found no C compiler: install one, or set CC"),
    ("not recognized", "the compiler does not know a flag: check CFLAGS and CXXFLAGS"),
    (
        "unrecognized command-line option",
        "the compiler is too old for a flag: use a newer one, or switch the option OFF",
    ),
)


@dataclass(frozen=True, slots=True)
class Counter:
    """Progress of a compile as the build tool counts it: steps of ninja, percent of make."""

    done: int
    total: int
    what: str


def read_counter(line: str) -> Counter | None:
    """Parse `[12/345] Building …` of ninja or `[ 12%] Building …` of make; return None for other lines."""
    if match := _NINJA.match(line):
        done, total, rest = int(match[1]), int(match[2]), match[3]
    elif match := _MAKE.match(line):
        done, total, rest = int(match[1]), 100, match[2]
    else:
        return None
    return Counter(done, total, short(rest)) if 0 <= done <= total and total else None


def short(line: str) -> str:
    """Return a log line cut to fit beside a progress bar; of a compiler's command the file that it makes."""
    words = line.split()
    if len(line) > _SHORT and "-o" in words[:-1]:
        return words[words.index("-o") + 1].rpartition("/")[2][:_SHORT]
    text = " ".join(words)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


def unused_variables(log: str) -> tuple[str, ...]:
    """Return the names of arguments that CMake itself reports as unused."""
    return tuple(dict.fromkeys(name for match in _UNUSED.finditer(log) for name in match[1].split()))


def meaningful_lines(log: str, *, count: int = 8) -> list[str]:
    """Return the last lines that name the cause of a failure; if none does, the last lines of the log."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip() and not _FRAME.match(line)]
    # A command of ninja holds "error" and "fatal" in names of flags and files.
    causes = [line.strip() for line in lines if _CAUSE.search(line) and not read_counter(line)]
    return [line[:300] for line in dict.fromkeys(causes or lines)][-count:]


def hint_of(log: str) -> str | None:
    """Return what to do about a known failure; None for an unknown one."""
    tail = "\n".join(meaningful_lines(log, count=40))
    return next((hint for sign, hint in _HINTS if sign in tail), None)
