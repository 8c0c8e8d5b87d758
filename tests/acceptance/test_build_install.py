"""Two real builds of one version: the runbook's flags, and the flags that it meant.

Compiles llama-cpp-python twice (4 to 8 minutes each on two cores) and needs a package index.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from workplace import Finished, clean_environment, run_program

from ragops.builds.cpu_support import likely_features
from ragops.demo.model import minilm_gguf
from ragops.embedder.client import Embedder, EmbedderConfig
from ragops.paths import cache_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.machine().lower() not in ("x86_64", "amd64"), reason="the flags are those of x86-64 processors"
    ),
]

VERSION = "0.3.16"
RUNBOOK = ("-DGGML_NATIVE=OFF", "-DGGML_AVX=OFF", "-DGGML_AVX2=OFF", "-DGGML_FMA=OFF")
MEANT = (*RUNBOOK, "-DGGML_F16C=OFF", "-DGGML_BMI2=OFF")


@dataclass(frozen=True, slots=True)
class TwoBuilds:
    """Both builds as `ragops build install --json` answered, and their interpreters."""

    environment: dict[str, str]
    folder: Path
    runbook: dict[str, Any]
    meant: dict[str, Any]

    @property
    def interpreters(self) -> tuple[str, str]:
        """The runbook's build, and the SSE-only build that it meant."""
        return self.runbook["interpreter"], self.meant["interpreter"]

    def ragops(self, *arguments: str) -> Finished:
        return run_program(arguments, environment=self.environment, cwd=self.folder, timeout_s=1800)


@pytest.fixture(scope="module")
def two_builds(tmp_path_factory: pytest.TempPathFactory) -> TwoBuilds:
    folder = tmp_path_factory.mktemp("builds")
    environment = clean_environment(folder)
    answers = {}
    for name, flags in (("runbook", RUNBOOK), ("meant", MEANT)):
        options = [part for flag in flags for part in ("--cmake-arg", flag)]
        arguments = ("build", "install", "--version", VERSION, "--name", name, *options, "--json")
        done = run_program(arguments, environment=environment, cwd=folder, timeout_s=1800)
        assert done.code == 0, done.err
        answers[name] = done.json
    return TwoBuilds(environment, folder, **answers)


def features_in_effect(interpreter: str, model: Path) -> dict[str, str]:
    """What the embedder child reports under an interpreter."""
    with Embedder(EmbedderConfig(model=model, python=interpreter)) as embedder:
        return dict(embedder.build.features)


def finding(build: dict[str, Any], id: str) -> dict[str, str]:
    return next(finding for finding in build["findings"] if finding["id"] == id)


def test_the_runbook_s_flags_leave_avx_on(two_builds: TwoBuilds) -> None:
    build = two_builds.runbook
    assert build["verdict"] == "differs"
    assert {"AVX", "F16C", "BMI2"} <= build["features"].keys()
    assert not {"AVX2", "FMA"} & build["features"].keys()
    difference = finding(build, "flag-avx")
    assert "GCC's -mf16c implies AVX" in difference["message"]
    assert "-DGGML_F16C=OFF" in difference["hint"]
    assert finding(build, "unasked-bmi2")["severity"] == "warning"


def test_the_flags_that_were_meant_turn_avx_off(two_builds: TwoBuilds) -> None:
    build = two_builds.meant
    assert build["verdict"] == "as_asked"
    assert {"SSE3", "SSSE3"} <= build["features"].keys()
    assert not {"AVX", "AVX2", "FMA", "F16C", "BMI2"} & build["features"].keys()


def test_ggml_s_defaults_predict_both(two_builds: TwoBuilds) -> None:
    for flags, build in ((RUNBOOK, two_builds.runbook), (MEANT, two_builds.meant)):
        effective = {name for name in build["features"] if name not in ("LLAMAFILE", "OPENMP", "REPACK")}
        assert set(likely_features(flags, None)) == effective


def test_the_embedder_runs_under_both(two_builds: TwoBuilds, tiny_model: Path) -> None:
    for build in (two_builds.runbook, two_builds.meant):
        assert features_in_effect(build["interpreter"], tiny_model) == build["features"]


def test_both_make_one_vector_space(two_builds: TwoBuilds, tmp_path: Path) -> None:
    model = minilm_gguf(cache_folder())
    files = []
    for name, interpreter in zip(("runbook", "meant"), two_builds.interpreters, strict=True):
        files.append(str(tmp_path / f"{name}.json"))
        asked = ("--python", interpreter, "--model", str(model), "-o", files[-1], "--json")
        captured = two_builds.ragops("fingerprint", "capture", *asked)
        assert captured.code == 0, captured.err
    flags = [json.loads(Path(file).read_text(encoding="utf-8"))["build"]["cmake_args"] for file in files]
    assert flags == [" ".join(RUNBOOK), " ".join(MEANT)]
    compared = two_builds.ragops("fingerprint", "compare", *files, "--json")
    assert (compared.code, compared.json["verdict"]) == (0, "equivalent"), compared.out
    assert 0 < compared.json["drift"]["max"] <= 1e-3
    assert compared.json["drift"]["top10_overlap"] >= 0.99
    fields = [difference["field"] for difference in compared.json["differences"]]
    assert "build.features.AVX" in fields


def test_a_build_that_is_there_is_not_built_again(two_builds: TwoBuilds) -> None:
    arguments = [part for flag in MEANT for part in ("--cmake-arg", flag)]
    done = two_builds.ragops("build", "install", "--version", VERSION, "--name", "meant", *arguments, "--json")
    assert (done.code, done.json["is_new"]) == (0, False)
    other = two_builds.ragops("build", "install", "--version", VERSION, "--name", "meant", "--json")
    assert other.code == 2
    assert "another build has this name" in other.json["error"]["what"]


def test_builds_are_listed_and_shown_and_not_removed_unasked(two_builds: TwoBuilds) -> None:
    listed = two_builds.ragops("build", "list", "--json").json
    assert [build["name"] for build in listed["builds"]] == ["meant", "runbook"]
    assert "AVX" in two_builds.ragops("build", "show", "runbook").out
    log = Path(two_builds.meant["folder"]) / "install.log"
    assert f"CMAKE_ARGS='{' '.join(MEANT)}'" in log.read_text(encoding="utf-8", errors="replace")
    refused = two_builds.ragops("build", "remove", "runbook")
    assert (refused.code, Path(two_builds.runbook["folder"]).is_dir()) == (2, True)
