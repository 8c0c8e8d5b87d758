"""CMake arguments taken apart: what they ask of ggml, and what nobody listens to. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from ragops.errors import UsageError
from ragops.findings import Finding

_DEFINITION = re.compile(r"-D\s*([A-Za-z_][A-Za-z0-9_]*)(?::[A-Z]+)?=(.*)", re.DOTALL)
_UNSAFE = re.compile(r"[\s'\"`$;&|<>^%!(){}\\]")
_OFF = frozenset({"", "0", "OFF", "NO", "FALSE", "N", "IGNORE", "NOTFOUND"})

# Options of the CPU backend and of the whole library; GPU backends are known by their prefix.
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
# Names from before llama.cpp moved its options to ggml, where GGML_ + the rest is not the new one.
_RENAMED = {
    "LLAMA_CUBLAS": "GGML_CUDA",
    "LLAMA_HIPBLAS": "GGML_HIP",
    "LLAMA_OPENBLAS": "GGML_BLAS",
    "GGML_CUBLAS": "GGML_CUDA",
    "GGML_HIPBLAS": "GGML_HIP",
}


def split_arguments(given: Sequence[str]) -> tuple[str, ...]:
    """CMake arguments one by one; each item given may be a whole CMAKE_ARGS string.

    Raises UsageError for what the variable CMAKE_ARGS cannot carry to CMake.
    """
    arguments = tuple(word for item in given for word in item.split())
    for word in arguments:
        if not word.startswith("-") or _UNSAFE.search(word):
            raise UsageError(
                "not an argument that CMAKE_ARGS can carry",
                where="--cmake-arg",
                actual=word,
                expected="-DNAME=VALUE without spaces, quotes, backslashes or shell characters",
                hint="e.g. --cmake-arg -DGGML_NATIVE=OFF --cmake-arg -DGGML_AVX=OFF",
            )
    return arguments


def parse_flags(cmake_args: Sequence[str]) -> dict[str, str]:
    """Name → value of every `-DNAME=VALUE`; of a name given twice CMake takes the last."""
    flags: dict[str, str] = {}
    for word in cmake_args:
        if match := _DEFINITION.fullmatch(word):
            flags.pop(match[1], None)
            flags[match[1]] = match[2]
    return flags


def is_on(value: str) -> bool:
    """Whether CMake takes a value as true."""
    upper = value.upper()
    return upper not in _OFF and not upper.endswith("-NOTFOUND")


def is_native(flags: dict[str, str]) -> bool:
    """Whether ggml compiles for the machine at hand: yes unless GGML_NATIVE says no."""
    return is_on(flags.get("GGML_NATIVE", "ON"))


def may_have_amx(cmake_args: Sequence[str]) -> bool:
    """Whether a build with these arguments uses AMX on a CPU that has it."""
    flags = parse_flags(cmake_args)
    return is_native(flags) or is_on(flags.get("GGML_AMX_INT8", "OFF"))


def new_name(flag: str) -> str | None:
    """Today's name of an option that llama.cpp ignores or refuses by its old name; None for others."""
    if flag in _RENAMED:
        return _RENAMED[flag]
    renamed = f"GGML_{flag.removeprefix('LLAMA_')}"
    return renamed if flag.startswith("LLAMA_") and _is_known(renamed) and not _is_own(flag) else None


def flag_findings(cmake_args: Sequence[str]) -> list[Finding]:
    """Old and unknown names, and names given twice with different values."""
    return [*_names(parse_flags(cmake_args)), *_contradictions(cmake_args)]


def _names(flags: dict[str, str]) -> Iterator[Finding]:
    for name, value in flags.items():
        renamed = new_name(name)
        if renamed is not None:
            message = f"{name} is an old name, which llama.cpp ignores without a word or refuses"
            yield Finding(f"flag-old-{name.lower()}", "warning", message, f"write -D{renamed}={value}")
        elif name.startswith("GGML_") and not _is_known(name):
            near = difflib.get_close_matches(name, KNOWN, n=1)
            message = f"{name} is no option of ggml that ragops knows; CMake ignores what is none"
            hint = f"did you mean -D{near[0]}={value}?" if near else ""
            yield Finding(f"flag-unknown-{name.lower()}", "warning", message, hint)


def _contradictions(cmake_args: Sequence[str]) -> Iterator[Finding]:
    last = parse_flags(cmake_args)
    for name, value in last.items():
        given = {match[2] for word in cmake_args if (match := _DEFINITION.fullmatch(word)) and match[1] == name}
        if len(given) > 1:
            message = f"{name} is given as {' and '.join(sorted(given))}; CMake takes the last, {value}"
            yield Finding(f"flag-twice-{name.lower()}", "warning", message, "name it once")


def _is_known(name: str) -> bool:
    return name in KNOWN or name.startswith(_KNOWN_PREFIXES)


def _is_own(flag: str) -> bool:
    """Options that are llama.cpp's own under the prefix LLAMA_ to this day."""
    return flag.startswith(("LLAMA_BUILD", "LLAMA_SANITIZE_")) or flag in (
        "LLAMA_ALL_WARNINGS",
        "LLAMA_ALL_WARNINGS_3RD_PARTY",
        "LLAMA_FATAL_WARNINGS",
    )
