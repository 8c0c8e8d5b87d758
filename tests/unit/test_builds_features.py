"""Effective features against what was requested and against the CPU; the strings are real builds'."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from builds_factory import probe

from ragops.builds.cpu_support import explain_illegal, host_flags, likely_features, predict_illegal
from ragops.builds.features import NEEDS, compare_flags, unasked_features
from ragops.builds.standalone import parse_system_info
from ragops.builds.verify import findings_of
from ragops.facts import HostFacts
from ragops.findings import Finding

RUNBOOK = ("-DGGML_NATIVE=OFF", "-DGGML_AVX=OFF", "-DGGML_AVX2=OFF", "-DGGML_FMA=OFF")
MEANT = (*RUNBOOK, "-DGGML_F16C=OFF", "-DGGML_BMI2=OFF")
# What the loaded libraries of these builds report.
RUNBOOK_INFO = (
    "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | F16C = 1 | BMI2 = 1 | LLAMAFILE = 1 | OPENMP = 1 | REPACK = 1 | "
)
MEANT_INFO = "CPU : SSE3 = 1 | SSSE3 = 1 | LLAMAFILE = 1 | OPENMP = 1 | REPACK = 1 | "
OLD_CPU = "mmx sse sse2 pni ssse3 sse4_1 sse4_2 popcnt"
HASWELL = f"{OLD_CPU} avx avx2 bmi1 bmi2 f16c fma"


def host(
    features: str = HASWELL, *, cpu: str = "haswell (GenuineIntel)", system: str = "Linux 6 x86_64"
) -> HostFacts:
    return HostFacts("here", system, cpu, tuple(features.split()), 4, 8, 2**34)


def by_id(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.id: finding for finding in findings}


def test_system_info_is_taken_apart() -> None:
    info = "CUDA : ARCHS = 500,600 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | AVX512 = 0 | REPACK = 1 | "
    assert parse_system_info(info) == {
        "CUDA.ARCHS": "500,600",
        "CUDA.USE_GRAPHS": "1",
        "SSE3": "1",
        "AVX512": "0",
        "REPACK": "1",
    }
    assert parse_system_info("") == {}


def test_avx_that_was_switched_off_and_is_on_is_explained() -> None:
    findings = by_id(compare_flags(RUNBOOK, parse_system_info(RUNBOOK_INFO)))
    assert findings.keys() == {"flag-avx"}
    assert "GGML_F16C is not listed, and GCC's -mf16c implies AVX" in findings["flag-avx"].message
    assert findings["flag-avx"].hint == "add -DGGML_F16C=OFF"


def test_the_flags_that_were_meant_agree() -> None:
    features = parse_system_info(MEANT_INFO)
    assert compare_flags(MEANT, features) == []
    assert [finding.severity for finding in unasked_features(MEANT, features)] == ["info"]


def test_a_listed_feature_that_implies_another() -> None:
    features = parse_system_info("CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | AVX2 = 1 | FMA = 1 | ")
    (finding,) = compare_flags(
        ["-DGGML_NATIVE=OFF", "-DGGML_AVX=OFF", "-DGGML_AVX2=ON", "-DGGML_FMA=ON"], features
    )
    assert "GCC's -mavx2 implies AVX" in finding.message
    assert {"-DGGML_AVX2=OFF", "-DGGML_FMA=OFF"} <= set(finding.hint.split())


def test_native_overrules_what_was_switched_off() -> None:
    (finding,) = compare_flags(["-DGGML_AVX=OFF"], {"AVX": "1"})
    assert "GGML_NATIVE is on" in finding.message
    assert finding.hint == "add -DGGML_NATIVE=OFF"


def test_off_although_requested() -> None:
    (finding,) = compare_flags(["-DGGML_NATIVE=OFF", "-DGGML_AVX512=ON"], {"AVX": "1"})
    assert (finding.id, finding.severity) == ("flag-avx512", "warning")
    assert "AVX512 is off in the library" in finding.message


def test_on_without_a_cause_among_the_flags() -> None:
    (finding,) = compare_flags(["-DGGML_NATIVE=OFF", "-DGGML_BMI2=OFF"], {"BMI2": "1"})
    assert "CFLAGS" in finding.message


def test_features_without_a_flag() -> None:
    findings = by_id(unasked_features(RUNBOOK, parse_system_info(RUNBOOK_INFO)))
    assert {name: finding.severity for name, finding in findings.items()} == {
        "unasked-f16c": "warning",
        "unasked-bmi2": "warning",
        "unasked-ssse3": "info",
    }
    assert "GCC's -mf16c implies AVX" in findings["unasked-f16c"].message


def test_a_native_build_is_reported() -> None:
    (finding,) = unasked_features([], {"AVX512": "1"})
    assert (finding.id, finding.severity) == ("native-build", "info")


@pytest.mark.parametrize(("flags", "info"), [(RUNBOOK, RUNBOOK_INFO), (MEANT, MEANT_INFO)])
def test_defaults_predict_the_effective_features(flags: tuple[str, ...], info: str) -> None:
    effective = {name for name in parse_system_info(info) if name in NEEDS}
    assert likely_features(flags, None).keys() == effective


def test_a_native_build_likely_has_what_its_machine_has() -> None:
    assert set(likely_features((), host())) == {"SSE3", "SSSE3", "AVX", "AVX2", "F16C", "FMA", "BMI2"}
    assert likely_features((), None) == {}


def test_the_runbook_s_build_would_die_on_a_cpu_without_avx() -> None:
    findings = predict_illegal(parse_system_info(RUNBOOK_INFO), host(OLD_CPU, cpu="westmere (GenuineIntel)"))
    assert set(by_id(findings)) == {"illegal-avx", "illegal-f16c", "illegal-bmi2"}
    assert {finding.severity for finding in findings} == {"error"}
    assert "westmere" in findings[0].message
    assert "SIGILL" in findings[0].message
    assert "-DGGML_AVX=OFF" in by_id(findings)["illegal-avx"].hint


@pytest.mark.parametrize("features", [HASWELL, f"{HASWELL} avx512f"])
def test_nothing_is_illegal_on_a_cpu_that_has_it(features: str) -> None:
    assert predict_illegal(parse_system_info(RUNBOOK_INFO), host(features)) == []


def test_avx512_needs_all_five_parts() -> None:
    (finding,) = predict_illegal({"AVX512": "1"}, host(f"{HASWELL} avx512f avx512cd"))
    assert "avx512vl" in finding.message
    parts = "avx512f avx512cd avx512vl avx512dq avx512bw"
    assert predict_illegal({"AVX512": "1"}, host(f"{HASWELL} {parts}")) == []


def test_arm() -> None:
    features = {"NEON": "1", "ARM_FMA": "1", "DOTPROD": "1", "MATMUL_INT8": "1", "SVE": "0", "SVE_CNT": "16"}
    m1 = host("fp asimd asimddp asimdhp", cpu="m1 (Apple)", system="Darwin 23 arm64")
    assert [finding.id for finding in predict_illegal(features, m1)] == ["illegal-matmul_int8"]
    (sme,) = predict_illegal({"SME": "1"}, m1)
    assert sme.severity == "warning"


def test_an_unknown_cpu_gives_no_verdict() -> None:
    (finding,) = predict_illegal({"AVX": "1"}, host(""))
    assert (finding.id, finding.severity) == ("illegal-unknown", "info")
    assert predict_illegal({"REPACK": "1"}, host("")) == []


def test_what_the_cpu_has_and_the_build_does_not_use() -> None:
    (finding,) = host_flags(host(), parse_system_info(MEANT_INFO))
    assert (finding.id, finding.severity) == ("host-unused", "info")
    assert "AVX, AVX2, FMA, F16C" in finding.message
    assert host_flags(host(OLD_CPU), parse_system_info(MEANT_INFO)) == []


def test_a_library_that_dies_while_it_loads_is_explained() -> None:
    finding = explain_illegal(RUNBOOK, host(OLD_CPU, cpu="westmere (GenuineIntel)"))
    assert finding.severity == "error"
    assert "likely uses SSE3, SSSE3, AVX, F16C, BMI2" in finding.message
    assert "lacks AVX, F16C, BMI2" in finding.message
    assert "native build" in explain_illegal((), host(), built_here=False).message


def test_all_findings_of_a_build_errors_first() -> None:
    log = "Manually-specified variables were not used by the project:\n\n  GGML_CUDA_OLD\n  SKBUILD_X\n\n\n-- B"
    asked = (*RUNBOOK, "-DLLAMA_F16C=OFF", "-DGGML_CUDA_OLD=1")
    flags = {"CFLAGS": "-O2 -march=haswell"}
    findings = findings_of(asked, probe(RUNBOOK_INFO), host(OLD_CPU), log=log, environment=flags)
    ids = [finding.id for finding in findings]
    assert ids[:3] == ["illegal-avx", "illegal-f16c", "illegal-bmi2"]
    assert {"flag-avx", "flag-old-llama_f16c", "flag-unused-ggml_cuda_old", "environment-cflags"} <= set(ids)
    assert "flag-unused-skbuild_x" not in ids


@pytest.mark.parametrize(("signal", "id"), [("SIGILL", "illegal-instruction"), ("SIGSEGV", "library-died")])
def test_a_death_while_loading_is_an_error(signal: str, id: str) -> None:
    findings = findings_of(MEANT, probe(""), host(), death=signal, environment={})
    assert [finding.id for finding in findings if finding.severity == "error"] == [id]
