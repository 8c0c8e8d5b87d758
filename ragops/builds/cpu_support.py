"""Illegal instructions foretold: what a build uses against what a CPU can run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragops.builds.cmake_flags import is_native, is_on, parse_flags
from ragops.builds.features import DEFAULT_ON, FEATURE_OF, IMPLIES, NEEDS, is_enabled
from ragops.facts import HostFacts
from ragops.findings import Finding

# Worth a rebuild for speed; the rest is a refinement of these.
_WORTH = ("AVX", "AVX2", "FMA", "F16C", "AVX512", "DOTPROD", "MATMUL_INT8", "SVE")


def predict_illegal(features: Mapping[str, str], host: HostFacts) -> list[Finding]:
    """Effective features that the CPU lacks: the build would die there by SIGILL."""
    used = [name for name in NEEDS if is_enabled(features, name)]
    if used and not host.features:
        message = f"the instruction sets of {host.cpu} are unknown; whether it runs {', '.join(used)} is open"
        return [Finding("illegal-unknown", "info", message, "ragops verify runs the build and tells")]
    return [_lacking(name, host) for name in used if not has_cpu(host, name)]


def _lacking(name: str, host: HostFacts) -> Finding:
    if name == "SME" and host.system.startswith("Darwin"):
        message = f"the library uses SME; macOS does not tell whether {host.cpu} has it"
        return Finding("illegal-sme", "warning", message, "ragops verify runs the build and tells")
    missing = ", ".join(group[0] for group in NEEDS[name] if not set(group) & set(host.features))
    flag = next((flag for flag, feature in FEATURE_OF.items() if feature == name), None)
    rebuild = f"-D{flag}=OFF" if flag else "flags for this CPU"
    return Finding(
        f"illegal-{name.lower()}",
        "error",
        f"the library uses {name}, which {host.cpu} lacks ({missing}): it would die by SIGILL",
        f"rebuild with -DGGML_NATIVE=OFF {rebuild}: ragops build install --cmake-arg …",
    )


def has_cpu(host: HostFacts, feature: str) -> bool:
    """Whether the CPU can run what llama.cpp calls by this name; unknown names need nothing."""
    have = set(host.features)
    return all(have & set(group) for group in NEEDS.get(feature, ()))


def host_flags(host: HostFacts, features: Mapping[str, str]) -> list[Finding]:
    """What the CPU can run and the build does not use: slower than it could be."""
    unused = [name for name in _WORTH if has_cpu(host, name) and not is_enabled(features, name)]
    if not unused or not host.features:
        return []
    message = f"{host.cpu} has {', '.join(unused)}, which the build does not use: it is slower than it could be"
    return [Finding("host-unused", "info", message, "needed only where the backend's build has them too")]


def likely_features(cmake_args: Sequence[str], host: HostFacts | None) -> dict[str, str]:
    """What a GCC or Clang build on x86 with these arguments uses, by ggml's defaults.

    A native build takes what its own machine has: pass the machine that compiled it, None if unknown.
    """
    flags = parse_flags(cmake_args)
    if is_native(flags):
        return {name: "1" for name in NEEDS if host is not None and has_cpu(host, name)}
    on = {
        feature
        for flag, feature in FEATURE_OF.items()
        if feature in NEEDS and is_on(flags.get(flag, "ON" if flag in DEFAULT_ON else "OFF"))
    }
    while more := {implied for name in on for implied in IMPLIES.get(name, ())} - on:
        on |= more
    return {name: "1" for name in NEEDS if name in on}


def explain_illegal(cmake_args: Sequence[str], host: HostFacts, *, built_here: bool = True) -> Finding:
    """The finding for a library that died by SIGILL before it could say what it uses."""
    likely = likely_features(cmake_args, host if built_here else None)
    lacking = [name for name in likely if not has_cpu(host, name)]
    asked = " ".join(cmake_args) or "none: a native build of the machine that compiled it"
    uses = f"; it likely uses {', '.join(likely)}" if likely else ""
    lacks = f", of which this CPU lacks {', '.join(lacking)}" if lacking else ""
    return Finding(
        "illegal-instruction",
        "error",
        f"the library died by SIGILL on {host.cpu} before it could name its features "
        f"(CMAKE_ARGS: {asked}){uses}{lacks}",
        "rebuild on this machine: ragops build install, with -DGGML_NATIVE=OFF and every instruction set "
        "that the CPU lacks switched OFF",
    )
