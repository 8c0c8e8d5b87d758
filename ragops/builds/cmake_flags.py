"""Parse CMake arguments and report those that ggml ignores. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from ragops.errors import UsageError
from ragops.findings import Finding

_DEFINITION = re.compile(r"-D\s*([A-Za-z_][A-Za-z0-9_]*)(?::[A-Z]+)?=(.*)", re.DOTALL)
# CMAKE_ARGS is split at spaces, CMake splits lists at semicolons, and the reinstall script passes the string
# to bash or PowerShell: without these characters all of them read it alike, and nothing needs escaping.
_UNSAFE = re.compile(r"[\s'\"`$;&|<>^%!(){}\\]")
# CMake's false constants: https://cmake.org/cmake/help/latest/command/if.html#constant
_OFF = frozenset({"", "0", "OFF", "NO", "FALSE", "N", "IGNORE", "NOTFOUND"})

# Options of the CPU backend and of the whole library, from ggml/CMakeLists.txt. The options of GPU backends
# come and go with every release, so a prefix is enough there.
KNOWN = frozenset(
    f"GGML_{name}"
    for name in [
        "ACCELERATE",
        "ALL_WARNINGS",
        "ALL_WARNINGS_3RD_PARTY",
        "AMX_BF16",
        "AMX_INT8",
        "AMX_TILE",
        "AVX",
        "AVX2",
        "AVX512",
        "AVX512_BF16",
        "AVX512_VBMI",
        "AVX512_VNNI",
        "AVX_VNNI",
        "BACKEND_DIR",
        "BACKEND_DL",
        "BLAS",
        "BLAS_VENDOR",
        "BMI2",
        "CANN",
        "CCACHE",
        "CPU",
        "CUDA",
        "F16C",
        "FATAL_WARNINGS",
        "FMA",
        "GPROF",
        "HEXAGON",
        "HIP",
        "LASX",
        "LLAMAFILE",
        "LSX",
        "LTO",
        "METAL",
        "MUSA",
        "NATIVE",
        "NNPA",
        "OPENCL",
        "OPENMP",
        "RPC",
        "RVV",
        "RV_ZFH",
        "RV_ZICBOP",
        "RV_ZVFH",
        "SCHED_MAX_COPIES",
        "SSE42",
        "STATIC",
        "SYCL",
        "VIRTGPU",
        "VULKAN",
        "VXE",
        "WEBGPU",
        "WIN_VER",
        "XTHEADVECTOR",
        "ZDNN",
        "ZENDNN",
    ]
)
_KNOWN_PREFIXES = tuple(
    f"GGML_{name}_"
    for name in [
        "BUILD",
        "CPU",
        "CUDA",
        "HEXAGON",
        "HIP",
        "INTERNAL",
        "METAL",
        "MUSA",
        "OPENCL",
        "RPC",
        "SANITIZE",
        "SYCL",
        "VULKAN",
        "WEBGPU",
    ]
)
# Names from before llama.cpp moved its options to ggml, where GGML_ + the rest is not the new name.
_RENAMED = {
    "LLAMA_CUBLAS": "GGML_CUDA",
    "LLAMA_HIPBLAS": "GGML_HIP",
    "LLAMA_OPENBLAS": "GGML_BLAS",
    "GGML_CUBLAS": "GGML_CUDA",
    "GGML_HIPBLAS": "GGML_HIP",
}


def split_arguments(given: Sequence[str]) -> tuple[str, ...]:
    """Return CMake arguments one by one; each item may be a whole CMAKE_ARGS string.

    Raises UsageError for an argument that cannot be passed in the variable CMAKE_ARGS.
    """
    arguments = tuple(word for item in given for word in item.split())
    for word in arguments:
        if not word.startswith("-") or _UNSAFE.search(word):
            raise UsageError(
                "this argument cannot be passed in CMAKE_ARGS",
                where="--cmake-arg",
                actual=word,
                expected="-DNAME=VALUE without spaces, quotes, backslashes or shell characters",
                hint="e.g. --cmake-arg -DGGML_NATIVE=OFF --cmake-arg -DGGML_AVX=OFF",
            )
    return arguments


def parse_flags(cmake_args: Sequence[str]) -> dict[str, str]:
    """Return name → value of every `-DNAME=VALUE`; of a name given twice CMake uses the last value."""
    flags: dict[str, str] = {}
    for word in cmake_args:
        if match := _DEFINITION.fullmatch(word):
            flags.pop(match[1], None)  # findings follow the order of the values that count
            flags[match[1]] = match[2]
    return flags


def is_on(value: str) -> bool:
    """Return whether CMake reads a value as true."""
    upper = value.upper()
    return upper not in _OFF and not upper.endswith("-NOTFOUND")


def is_native(flags: Mapping[str, str]) -> bool:
    """Return whether ggml compiles for the machine at hand: the default unless GGML_NATIVE is off."""
    return is_on(flags.get("GGML_NATIVE", "ON"))


def may_have_amx(cmake_args: Sequence[str]) -> bool:
    """Return whether a build with these arguments uses AMX on a CPU that has it."""
    flags = parse_flags(cmake_args)
    return is_native(flags) or is_on(flags.get("GGML_AMX_INT8", "OFF"))


def new_name(flag: str) -> str | None:
    """Return today's name of an option that llama.cpp ignores or rejects by its old name; None for others."""
    if flag in _RENAMED:
        return _RENAMED[flag]
    renamed = f"GGML_{flag.removeprefix('LLAMA_')}"
    # Some options of llama.cpp kept the prefix LLAMA_, and ggml has options of the same name beside them.
    is_current = flag.startswith(("LLAMA_BUILD", "LLAMA_SANITIZE_")) or flag in (
        "LLAMA_ALL_WARNINGS",
        "LLAMA_ALL_WARNINGS_3RD_PARTY",
        "LLAMA_FATAL_WARNINGS",
    )
    return renamed if flag.startswith("LLAMA_") and _is_known(renamed) and not is_current else None


def renamed_finding(id: str, name: str, renamed: str, value: str, *, place: str = "") -> Finding:
    """Return the finding about an option under its old name; `place` comes before the message."""
    message = f"{place}{name} is an old name, which llama.cpp silently ignores or rejects"
    return Finding(id, "warning", message, f"write -D{renamed}={value}")


def flag_findings(cmake_args: Sequence[str]) -> list[Finding]:
    """Return findings about old and unknown names, and about names given twice with different values."""
    findings = []
    flags = parse_flags(cmake_args)
    for name, value in flags.items():
        renamed = new_name(name)
        if renamed is not None:
            findings.append(renamed_finding(f"flag-old-{name.lower()}", name, renamed, value))
        elif name.startswith("GGML_") and not _is_known(name):
            near = difflib.get_close_matches(name, KNOWN, n=1)
            message = f"ggml has no option {name} that ragops knows; CMake ignores unknown options"
            hint = f"did you mean -D{near[0]}={value}?" if near else ""
            findings.append(Finding(f"flag-unknown-{name.lower()}", "warning", message, hint))
    for name, value in flags.items():
        values = {match[2] for word in cmake_args if (match := _DEFINITION.fullmatch(word)) and match[1] == name}
        if len(values) > 1:
            message = f"{name} is given as {' and '.join(sorted(values))}; CMake uses the last, {value}"
            findings.append(Finding(f"flag-twice-{name.lower()}", "warning", message, "pass it once"))
    return findings


def _is_known(name: str) -> bool:
    return name in KNOWN or name.startswith(_KNOWN_PREFIXES)
