"""Effective features of a build against what was asked for and what a CPU can run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ragops.builds.cmake_flags import is_native, is_on, parse_flags
from ragops.findings import Finding

# Option of ggml → the feature that the loaded library reports for it.
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
# On x86 these default to ON as soon as GGML_NATIVE is OFF.
DEFAULT_ON = ("GGML_SSE42", "GGML_AVX", "GGML_AVX2", "GGML_BMI2", "GGML_FMA", "GGML_F16C")
# What a compiler turns on with a feature; GCC and Clang agree on these.
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
_SWITCH = {"AVX512": "avx512f", "SSSE3": "sse4.2"}
# Feature of llama.cpp → what the CPU needs: every group, of each group one spelling.
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "SSE3": (("sse3", "pni"),),
    "SSSE3": (("ssse3",),),
    "AVX": (("avx",),),
    "AVX_VNNI": (("avx_vnni",),),
    "AVX2": (("avx2",),),
    "F16C": (("f16c",),),
    "FMA": (("fma",),),
    "BMI2": (("bmi2",),),
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


def parse_system_info(info: str) -> dict[str, str]:
    """`llama_print_system_info()` taken apart: `AVX` for the CPU's, `CUDA.ARCHS` for other backends'."""
    features: dict[str, str] = {}
    backend = ""
    for part in info.split("|"):
        name, equals, value = part.partition("=")
        if not equals:
            continue
        before, colon, bare = name.rpartition(":")
        if colon:
            backend = before.strip()
        prefix = "" if backend in ("", "CPU") else f"{backend}."
        features[prefix + bare.strip()] = value.strip()
    return features


def is_enabled(features: Mapping[str, str], name: str) -> bool:
    """Whether a feature is on; llama.cpp leaves out what is off."""
    return features.get(name, "0") not in ("", "0")


def compare_flags(cmake_args: Sequence[str], features: Mapping[str, str]) -> list[Finding]:
    """Every option asked for whose feature came out otherwise, with the reason where it is known."""
    flags = parse_flags(cmake_args)
    found = []
    for flag, value in flags.items():
        feature = FEATURE_OF.get(flag)
        if feature is None or is_on(value) == is_enabled(features, feature):
            continue
        state = "off" if is_on(value) else "on"
        reason, hint = _why_off(flag) if is_on(value) else _why_on(feature, features, flags)
        message = f"{flag}={value} was asked for, but {feature} is {state} in the library: {reason}"
        found.append(Finding(f"flag-{feature.lower()}", "warning", message, hint))
    return found


def _why_off(flag: str) -> tuple[str, str]:
    reason = "the compiler or the system does not have it, or this version has no such option"
    return reason, f"look for {flag.removeprefix('GGML_')} in the build's install.log"


def _why_on(feature: str, features: Mapping[str, str], flags: dict[str, str]) -> tuple[str, str]:
    if is_native(flags):
        return "GGML_NATIVE is on, and the compiler takes all that this machine has", "add -DGGML_NATIVE=OFF"
    causes = [cause for cause in _causes(feature) if is_enabled(features, cause)]
    open_causes = [cause for cause in causes if not is_on(flags.get(_FLAG_OF[cause], "ON"))] or causes
    if not open_causes:
        return "something else turned it on, such as CFLAGS or a toolchain file", "look into the environment"
    unlisted = [cause for cause in causes if _FLAG_OF[cause] not in flags] or open_causes
    reason = "; ".join(_implication(cause, feature, flags) for cause in unlisted)
    # Each of them would turn it on by itself, so all of them have to go.
    return reason, "add " + " ".join(f"-D{_FLAG_OF[cause]}=OFF" for cause in causes)


def _causes(feature: str) -> list[str]:
    """Features that bring this one along, nearest first."""
    direct = [name for name, implied in IMPLIES.items() if feature in implied]
    return direct + [cause for name in direct for cause in _causes(name) if cause not in direct]


def _implication(cause: str, feature: str, flags: Mapping[str, str]) -> str:
    switch = _SWITCH.get(cause, cause.lower().replace("_", ""))
    implied = f"GCC's -m{switch} implies {feature}"
    return implied if _FLAG_OF[cause] in flags else f"{_FLAG_OF[cause]} is not listed, and {implied}"


def unasked_features(cmake_args: Sequence[str], features: Mapping[str, str]) -> list[Finding]:
    """Instruction sets that are on although no flag names them."""
    flags = parse_flags(cmake_args)
    if is_native(flags):
        message = "GGML_NATIVE is on: the build takes every instruction set of the machine that compiled it"
        hint = "for other machines: -DGGML_NATIVE=OFF and one -DGGML_… for each instruction set"
        return [Finding("native-build", "info", message, hint)]
    return list(_unasked(flags, features))


def _unasked(flags: Mapping[str, str], features: Mapping[str, str]) -> Iterator[Finding]:
    for feature in NEEDS:
        flag = _FLAG_OF.get(feature)
        if flag is None or flag in flags or not is_enabled(features, feature):
            continue
        if flag in DEFAULT_ON:
            reason = f"with GGML_NATIVE=OFF the unlisted {flag} defaults to ON"
        else:
            reason = "CFLAGS, a toolchain file or a newer default turned it on"
        implied = [name for name in IMPLIES.get(feature, ()) if name in _FLAG_OF and name != "SSSE3"]
        further = f", and GCC's -m{feature.lower()} implies {', '.join(implied)}" if implied else ""
        # SSE is what the procedure's build is meant to stand on: worth knowing, not worth a warning.
        severity = "info" if feature == "SSSE3" else "warning"
        message = f"{feature} is on although no flag asks for it: {reason}{further}"
        hint = f"name it: -D{flag}=OFF or -D{flag}=ON"
        yield Finding(f"unasked-{feature.lower()}", severity, message, hint)  # type: ignore[arg-type]
