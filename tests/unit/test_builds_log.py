"""A build's log: progress, what CMake left unused, and why it failed."""

from __future__ import annotations

import pytest

from ragops.builds.log import Counter, hint_of, meaningful_lines, read_counter, short, unused_variables

COMMAND = "/usr/bin/g++ -DGGML_USE_CPU -Iinclude -o src/CMakeFiles/llama.dir/llama-arch.cpp.o -c llama-arch.cpp"
FAILED = """\
  Building wheel for llama-cpp-python (pyproject.toml): started
  [12/84] /usr/bin/g++ -DGGML_FATAL=1 -o ggml.o -c ggml.c
  FAILED: vendor/llama.cpp/ggml/src/ggml.o
  ggml.c:12:3: error: unknown type name 'floaty'
  ninja: build stopped: subcommand failed.

  *** CMake build failed
  error: subprocess-exited-with-error

  × Building wheel for llama-cpp-python (pyproject.toml) did not run successfully.
  │ exit code: 1
  ╰─> See above for output.

  note: This error originates from a subprocess, and is likely not a problem with pip.
  ERROR: Failed building wheel for llama-cpp-python
ERROR: Could not build wheels for llama-cpp-python, which is required to install pyproject.toml-based projects
"""


@pytest.mark.parametrize(
    ("line", "counter"),
    [
        ("  [12/345] Building C object a.o", Counter(12, 345, "Building C object a.o")),
        (f"[2/9] {COMMAND}", Counter(2, 9, "llama-arch.cpp.o")),
        ("[ 42%] Building CXX object b.o", Counter(42, 100, "Building CXX object b.o")),
        ("[100%] Built target llama", Counter(100, 100, "Built target llama")),
        ("[3/0] odd", None),
        ("[9/4] odd", None),
        ("Collecting llama-cpp-python==0.3.16", None),
        ("[notice] a new release of pip", None),
    ],
)
def test_counters_of_the_build_tools(line: str, counter: Counter | None) -> None:
    assert read_counter(line) == counter


def test_long_lines_are_cut() -> None:
    assert short("x" * 100) == "x" * 59 + "…"
    assert short("  a   b ") == "a b"


def test_what_cmake_left_unused() -> None:
    log = (
        "CMake Warning:\n  Manually-specified variables were not used by the project:\n\n"
        "    LLAMA_AVX\n    GGML_ODD\n\n\n-- Build files have been written to: /x\n"
    )
    assert unused_variables(log) == ("LLAMA_AVX", "GGML_ODD")
    indented = "".join(f"  {line}\n" for line in log.splitlines())
    assert unused_variables(indented)[:2] == ("LLAMA_AVX", "GGML_ODD")
    assert unused_variables("nothing of that kind") == ()


def test_the_lines_that_say_why() -> None:
    lines = meaningful_lines(FAILED)
    assert "ggml.c:12:3: error: unknown type name 'floaty'" in lines
    assert not any("[12/84]" in line or "subprocess" in line or "wheel" in line for line in lines)
    assert meaningful_lines("one\n\ntwo\n", count=1) == ["two"]
    assert meaningful_lines("") == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fatal error: error writing to /tmp/x.s: No space left on device", "free space"),
        ("g++: fatal error: Killed signal terminated program cc1plus", "CMAKE_BUILD_PARALLEL_LEVEL=1"),
        ("ERROR: No matching distribution found for llama-cpp-python==9.9", "no such version"),
        ("No CMAKE_CXX_COMPILER could be found. CMake Error", "C++ compiler"),
    ],
)
def test_known_failures_have_a_hint(line: str, words: str) -> None:
    assert words in (hint_of(line) or "")


def test_an_unknown_failure_has_none() -> None:
    assert hint_of("error: something else") is None
