"""Predict illegal-instruction crashes by comparing a build's CPU features with the host's. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragops.builds.cmake_flags import is_native, is_on, parse_flags
from ragops.builds.features import DEFAULT_ON, FEATURE_OF, IMPLIES, NEEDS, is_enabled
from ragops.facts import HostFacts
from ragops.findings import Finding

# Features that are worth a rebuild: AVX2 with FMA embeds 4 to 5 times as many documents per second as SSE
# alone. The others (VNNI, BF16, VBMI) refine kernels of these.
_WORTH = ("AVX", "AVX2", "FMA", "F16C", "AVX512", "DOTPROD", "MATMUL_INT8", "SVE")


def predict_illegal(features: Mapping[str, str], host: HostFacts) -> list[Finding]:
    """Return findings about effective features that the CPU lacks: the build would die there by SIGILL."""
    used = [name for name in NEEDS if is_enabled(features, name)]
    if used and not host.features:
        message = f"the instruction sets of {host.cpu} are unknown: cannot tell if it runs {', '.join(used)}"
        return [Finding("illegal-unknown", "info", message, "ragops verify runs the build and shows it")]
    findings = []
    for name in used:
        if has_cpu(host, name):
            continue
        if name == "SME" and host.system.startswith("Darwin"):
            message = f"the library uses SME; macOS does not report whether {host.cpu} has it"
            hint = "ragops verify runs the build and shows it"
            findings.append(Finding("illegal-sme", "warning", message, hint))
            continue
        missing = ", ".join(group[0] for group in NEEDS[name] if not set(group) & set(host.features))
        flag = next((flag for flag, feature in FEATURE_OF.items() if feature == name), None)
        rebuild = f"-D{flag}=OFF" if flag else "flags for this CPU"
        message = f"the library uses {name}, which {host.cpu} lacks ({missing}): it would die by SIGILL"
        hint = f"rebuild with -DGGML_NATIVE=OFF {rebuild}: ragops build install --cmake-arg …"
        findings.append(Finding(f"illegal-{name.lower()}", "error", message, hint))
    return findings


def has_cpu(host: HostFacts, feature: str) -> bool:
    """Return whether the CPU can run what llama.cpp calls by this name; unknown names need nothing."""
    have = set(host.features)
    return all(have & set(group) for group in NEEDS.get(feature, ()))


def host_flags(host: HostFacts, features: Mapping[str, str]) -> list[Finding]:
    """Return a finding about what the CPU can run and the build does not use: slower than it could be."""
    unused = [name for name in _WORTH if has_cpu(host, name) and not is_enabled(features, name)]
    # Without known features every name of ARM and x86 alike would be listed or none.
    if not unused or not host.features:
        return []
    message = f"{host.cpu} has {', '.join(unused)}, which the build does not use: it is slower than it could be"
    # The drift between an SSE-only build and a native one is at most 3.4e-4: speed is the only reason.
    return [Finding("host-unused", "info", message, "needed only where the backend's build has them too")]


def likely_features(cmake_args: Sequence[str], host: HostFacts | None) -> dict[str, str]:
    """Return what a GCC or Clang build on x86 with these arguments uses, by ggml's defaults.

    A native build uses what its own machine has: pass the machine that compiled it, None if unknown.
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
    """Return the finding for a library that died by SIGILL before it could report its features."""
    likely = likely_features(cmake_args, host if built_here else None)
    lacking = [name for name in likely if not has_cpu(host, name)]
    arguments = " ".join(cmake_args) or "none: a native build of the machine that compiled it"
    uses = f"; it likely uses {', '.join(likely)}" if likely else ""
    lacks = f", of which this CPU lacks {', '.join(lacking)}" if lacking else ""
    return Finding(
        "illegal-instruction",
        "error",
        f"the library died by SIGILL on {host.cpu} before it could report its features "
        f"(CMAKE_ARGS: {arguments}){uses}{lacks}",
        "rebuild on this machine: ragops build install, with -DGGML_NATIVE=OFF and every instruction set "
        "that the CPU lacks switched OFF",
    )
