"""Compare the features that a library reports with the CMake options that asked for them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragops.builds.cmake_flags import is_native, is_on, parse_flags
from ragops.findings import Finding, Severity

# Option of ggml → the feature that `ggml_backend_cpu_get_features` reports for it. The two differ where
# an option covers several instruction sets: GGML_SSE42 is compiled as -msse4.2, and ggml reports SSSE3.
FEATURE_OF = {
    "GGML_SSE42": "SSSE3",
    **{
        f"GGML_{name}": name
        for name in [
            "AVX",
            "AVX_VNNI",
            "AVX2",
            "F16C",
            "FMA",
            "BMI2",
            "AVX512",
            "AVX512_VBMI",
            "AVX512_VNNI",
            "AVX512_BF16",
            "AMX_INT8",
            "OPENMP",
            "LLAMAFILE",
            "ACCELERATE",
            "CPU_HBM",
            "VXE",
            "NNPA",
        ]
    },
    "GGML_RVV": "RISCV_V",
    "GGML_CPU_REPACK": "REPACK",
    "GGML_CPU_KLEIDIAI": "KLEIDIAI",
}
_FLAG_OF = {feature: flag for flag, feature in FEATURE_OF.items()}
# On x86 these default to ON as soon as GGML_NATIVE is OFF (ggml/CMakeLists.txt: INS_ENB). This is why the
# runbook's flags, which switch off AVX, AVX2 and FMA only, still compile with F16C and BMI2.
DEFAULT_ON = ("GGML_SSE42", "GGML_AVX", "GGML_AVX2", "GGML_BMI2", "GGML_FMA", "GGML_F16C")
# What a compiler enables with an instruction set; GCC and Clang agree on these. MSVC has no switch for
# F16C, so the same CMAKE_ARGS give other features on Windows.
IMPLIES = {
    "AVX": ("SSSE3", "SSE3"),
    "SSSE3": ("SSE3",),
    "F16C": ("AVX",),
    "FMA": ("AVX",),
    "AVX2": ("AVX",),
    "AVX_VNNI": ("AVX2",),
    "AVX512": ("AVX2",),
    "AVX512_VBMI": ("AVX512",),
    "AVX512_VNNI": ("AVX512",),
    "AVX512_BF16": ("AVX512",),
}
# Compiler switches whose names are not the feature's in lower case.
_SWITCH = {"AVX512": "avx512f", "SSSE3": "sse4.2"}
# Feature of llama.cpp → what the CPU needs: one spelling of every group. Linux, macOS and archspec spell
# some of them differently (pni and sse3, avx512_vbmi and avx512vbmi).
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "SSE3": (("sse3", "pni"),),
    "SSSE3": (("ssse3",),),
    "AVX": (("avx",),),
    "AVX_VNNI": (("avx_vnni",),),
    "AVX2": (("avx2",),),
    "F16C": (("f16c",),),
    "FMA": (("fma",),),
    "BMI2": (("bmi2",),),
    # GGML_AVX512 compiles with all five: a CPU with the first two only (Knights Landing) dies of it.
    "AVX512": (("avx512f",), ("avx512cd",), ("avx512vl",), ("avx512dq",), ("avx512bw",)),
    "AVX512_VBMI": (("avx512vbmi", "avx512_vbmi"),),
    "AVX512_VNNI": (("avx512_vnni", "avx512vnni"),),
    "AVX512_BF16": (("avx512_bf16", "avx512bf16"),),
    "AMX_INT8": (("amx_int8",),),
    "NEON": (("neon", "asimd"),),
    "ARM_FMA": (("neon", "asimd"),),
    "FP16_VA": (("asimdhp", "fphp"),),
    "DOTPROD": (("asimddp",),),
    "MATMUL_INT8": (("i8mm",),),
    "SVE": (("sve",),),
    "SME": (("sme",),),
}


def is_enabled(features: Mapping[str, str], name: str) -> bool:
    """Return whether the library reports the feature as on; a feature that it does not print is off."""
    return features.get(name, features.get(name.upper(), "0")) not in ("", "0")


def compare_flags(cmake_args: Sequence[str], features: Mapping[str, str]) -> list[Finding]:
    """Return a finding for every option whose feature came out otherwise, with the reason if it is known."""
    flags = parse_flags(cmake_args)
    findings = []
    for flag, value in flags.items():
        feature = FEATURE_OF.get(flag)
        if feature is None or is_on(value) == is_enabled(features, feature):
            continue
        if is_on(value):
            state = "off"
            reason = "the compiler or the system lacks it, or this version has no such option"
            hint = f"search the build's install.log for {flag.removeprefix('GGML_')}"
        else:
            state = "on"
            reason, hint = _why_on(feature, features, flags)
        message = f"{flag}={value} was requested, but {feature} is {state} in the library: {reason}"
        findings.append(Finding(f"flag-{feature.lower()}", "warning", message, hint))
    return findings


def _why_on(feature: str, features: Mapping[str, str], flags: Mapping[str, str]) -> tuple[str, str]:
    """Return why a feature is on although its option is off, and what to add to the arguments."""
    if is_native(flags):
        return "GGML_NATIVE is on, and the compiler uses all that this machine has", "add -DGGML_NATIVE=OFF"
    causes = [cause for cause in _causes(feature) if is_enabled(features, cause)]
    open_causes = [cause for cause in causes if not is_on(flags.get(_FLAG_OF[cause], "ON"))] or causes
    if not open_causes:
        return "something else enabled it, such as CFLAGS or a toolchain file", "check the environment"
    # Options that the operator did not mention are the news; those that were switched off explain less.
    reasons = []
    for cause in [cause for cause in causes if _FLAG_OF[cause] not in flags] or open_causes:
        switch = _SWITCH.get(cause, cause.lower().replace("_", ""))
        unlisted = "" if _FLAG_OF[cause] in flags else f"{_FLAG_OF[cause]} is not listed, and "
        reasons.append(f"{unlisted}GCC's -m{switch} implies {feature}")
    # Each of them would enable it alone, so all of them have to go.
    return "; ".join(reasons), "add " + " ".join(f"-D{_FLAG_OF[cause]}=OFF" for cause in causes)


def _causes(feature: str) -> list[str]:
    """Return the features that imply this one, nearest first."""
    direct = [name for name, implied in IMPLIES.items() if feature in implied]
    return direct + [cause for name in direct for cause in _causes(name) if cause not in direct]


def unasked_features(cmake_args: Sequence[str], features: Mapping[str, str]) -> list[Finding]:
    """Return findings about instruction sets that are on although no flag names them."""
    flags = parse_flags(cmake_args)
    if is_native(flags):
        message = "GGML_NATIVE is on: the build uses every instruction set of the machine that compiled it"
        hint = "for other machines: -DGGML_NATIVE=OFF and one -DGGML_… for each instruction set"
        return [Finding("native-build", "info", message, hint)]
    findings = []
    for feature in NEEDS:
        flag = _FLAG_OF.get(feature)
        if flag is None or flag in flags or not is_enabled(features, feature):
            continue
        if flag in DEFAULT_ON:
            reason = f"with GGML_NATIVE=OFF the unlisted {flag} defaults to ON"
        else:
            reason = "CFLAGS, a toolchain file or a newer default enabled it"
        implied = [name for name in IMPLIES.get(feature, ()) if name in _FLAG_OF and name != "SSSE3"]
        if implied:
            reason += f", and GCC's -m{feature.lower()} implies {', '.join(implied)}"
        # The SSE-only build that the runbook meant reports SSSE3: worth knowing, not worth a warning.
        severity: Severity = "info" if feature == "SSSE3" else "warning"
        message = f"{feature} is on although no flag asks for it: {reason}"
        findings.append(
            Finding(f"unasked-{feature.lower()}", severity, message, f"add -D{flag}=OFF or -D{flag}=ON")
        )
    return findings
