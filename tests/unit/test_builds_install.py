"""Installing a build: what pip is run with, what is recorded, and what failures leave behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from fake_build_python import write_fake_python
from workplace import clean_environment, start_program

from ragops.builds.install import KEEP_STORES, BuildRequest, build_environment, install, present_build
from ragops.builds.library import LibraryDied, run_probe
from ragops.builds.records import LOG, find_build, list_builds, list_incomplete
from ragops.errors import EmbedderError, RagopsError, UsageError
from ragops.facts import HostFacts
from ragops.reporter import NullReporter

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fake interpreter is a script")
HOST = HostFacts("here", "Linux", "westmere (GenuineIntel)", ("pni", "sse4_2", "ssse3"), 4, 8, 2**34)
FLAGS = ("-DGGML_NATIVE=OFF", "-DGGML_F16C=OFF")


class ProgressReporter(NullReporter):
    """A reporter that keeps the progress."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float | None, str]] = []

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None:
        self.steps.append((done, total, note))


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The fake interpreter; the data folder and a compiler stand ready."""
    monkeypatch.setenv("RAGOPS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setenv("CMAKE_ARGS", "-DFROM_ELSEWHERE=ON")
    for name in ("CC", "CXX"):
        monkeypatch.setenv(name, sys.executable)
    return write_fake_python(tmp_path)


def request_for(python: str, name: str = "one") -> BuildRequest:
    return BuildRequest("0.3.16", FLAGS, name=name, python=python)


def test_a_build_is_made_and_recorded(python: str) -> None:
    reporter = ProgressReporter()
    record = install(request_for(python), reporter=reporter, host=HOST)
    assert find_build("one") == record
    assert (record.version, record.cmake_args, record.verdict) == ("0.3.16", FLAGS, "as_asked")
    assert record.features == {"SSE3": "1", "SSSE3": "1"}
    assert record.libraries[0].sha256 == "ab" * 32
    log = (record.folder / LOG).read_text()
    assert "--no-cache-dir --no-binary=llama-cpp-python llama-cpp-python==0.3.16" in log
    assert log.startswith("# CMAKE_ARGS='-DGGML_NATIVE=OFF -DGGML_F16C=OFF' FORCE_CMAKE=1\n")
    assert "CMAKE_ARGS is '-DGGML_NATIVE=OFF -DGGML_F16C=OFF' FORCE_CMAKE is 1" in log
    done, total, note = reporter.steps[-1]
    assert (done, total) == (4, 4)
    assert "100%  Building CXX object part4.o" in note


def test_pip_s_environment_has_the_requested_arguments_only(python: str) -> None:
    given = {**os.environ, "PGPASSWORD": "secret", "RAGOPS_DSN": "postgresql://x", "VIRTUAL_ENV": "/x"}
    made = build_environment(given, FLAGS, scratch="/tmp/rb1")
    assert not {"SOURCE_DATE_EPOCH", "PGPASSWORD", "RAGOPS_DSN", "VIRTUAL_ENV"} & made.keys()
    assert made["CMAKE_ARGS"] == "-DGGML_NATIVE=OFF -DGGML_F16C=OFF"
    assert {made[name] for name in ("TMPDIR", "TEMP", "TMP")} == {"/tmp/rb1"}
    assert build_environment(given, (), scratch="x")["CMAKE_ARGS"] == ""


def test_flags_for_the_compiler_stand_beside_the_user_s_own() -> None:
    made = build_environment({"CXXFLAGS": "-O2"}, (), scratch="x", flags=KEEP_STORES)
    assert (made["CFLAGS"], made["CXXFLAGS"]) == (KEEP_STORES, f"-O2 {KEEP_STORES}")
    assert "CFLAGS" not in build_environment({}, (), scratch="x")


@pytest.mark.parametrize(
    ("compiler", "is_gcc"), [("g++ (GCC) 12.2.0, Free Software Foundation", True), ("clang 16", False)]
)
@pytest.mark.parametrize(("flag", "may_have_amx"), [("-DGGML_CURL=OFF", True), ("-DGGML_NATIVE=OFF", False)])
def test_only_gcc_s_builds_with_amx_get_them(
    python: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compiler: str,
    is_gcc: bool,
    flag: str,
    may_have_amx: bool,
) -> None:
    program = tmp_path / "compiler"
    program.write_text(f"#!/bin/sh\necho '{compiler}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("CC", str(program))
    monkeypatch.setenv("CXX", str(program))
    request = BuildRequest("0.3.16", (flag,), name="one", python=python)
    record = install(request, reporter=NullReporter(), host=HOST)
    given = f"CXXFLAGS is '{KEEP_STORES if is_gcc and may_have_amx else ''}'"
    assert given in (record.folder / LOG).read_text()


def test_features_that_differ_are_recorded(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_FAKE_INFO", "CPU : SSE3 = 1 | SSSE3 = 1 | F16C = 1 | ")
    record = install(request_for(python), reporter=NullReporter(), host=HOST)
    assert record.verdict == "unusable"  # this CPU has no F16C
    assert {"flag-f16c", "illegal-f16c"} <= {finding.id for finding in record.findings}


def test_a_library_that_dies_is_recorded_as_unusable(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_FAKE_PROBE", "kill")
    record = install(request_for(python), reporter=NullReporter(), host=HOST)
    assert (record.verdict, record.features) == ("unusable", {})
    (error,) = [finding for finding in record.findings if finding.severity == "error"]
    assert error.id == "illegal-instruction"
    assert "westmere" in error.message
    assert find_build("one") == record


def test_a_failing_compile_leaves_its_log_only(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_FAKE_PIP", "fail")
    with pytest.raises(RagopsError) as caught:
        install(request_for(python), reporter=NullReporter(), host=HOST)
    folder = Path(os.environ["RAGOPS_DATA_DIR"], "builds", "one")
    assert caught.value.where == str(folder / LOG)
    assert caught.value.actual == "ggml.c:12:3: error: unknown type name 'floaty'"
    assert [path.name for path in folder.iterdir()] == [LOG]
    assert (list_builds(), list_incomplete()) == ([], ["one"])
    monkeypatch.delenv("GGML_FAKE_PIP")
    assert install(request_for(python), reporter=NullReporter(), host=HOST).verdict == "as_asked"


def test_no_virtual_environment(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_FAKE_VENV", "fail")
    with pytest.raises(RagopsError) as caught:
        install(request_for(python), reporter=NullReporter(), host=HOST)
    assert "python3-venv" in (caught.value.hint or "")
    with pytest.raises(RagopsError, match="cannot start"):
        install(BuildRequest("0.3.16", python="/no/such/python"), reporter=NullReporter(), host=HOST)


def test_without_a_compiler_nothing_is_touched(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RagopsError, match="nothing was downloaded"):
        install(request_for(python), reporter=NullReporter(), host=HOST)
    assert not Path(os.environ["RAGOPS_DATA_DIR"]).exists()


def test_an_existing_build_is_not_built_again(python: str) -> None:
    request = request_for(python)
    assert present_build(request) is None
    record = install(request, reporter=NullReporter(), host=HOST)
    assert present_build(request) == record
    assert present_build(BuildRequest("0.3.16", FLAGS[::-1], name="one")) == record
    assert install(request, reporter=NullReporter(), host=HOST) == record
    with pytest.raises(UsageError, match="another build has this name"):
        present_build(BuildRequest("0.3.16", (), name="one"))


def test_one_install_of_a_name_at_a_time(python: str) -> None:
    lock = Path(os.environ["RAGOPS_DATA_DIR"], "builds", "one.lock")
    lock.parent.mkdir(parents=True)
    lock.write_text(str(os.getppid()))
    with pytest.raises(RagopsError, match="is running"):
        install(request_for(python), reporter=NullReporter(), host=HOST)
    assert lock.exists()
    lock.write_text("")  # another install has just created it
    with pytest.raises(RagopsError, match="is running") as caught:
        install(request_for(python), reporter=NullReporter(), host=HOST)
    assert "delete this file" in (caught.value.hint or "")
    lock.write_text("4194999")  # above the largest process id there can be
    install(request_for(python), reporter=NullReporter(), host=HOST)
    assert not lock.exists()


def test_the_probe_names_what_is_wrong(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_FAKE_PROBE", "error")
    with pytest.raises(EmbedderError, match="cannot read the interpreter") as caught:
        run_probe(Path(python))
    assert "libgomp" in (caught.value.actual or "")
    monkeypatch.setenv("GGML_FAKE_PROBE", "kill")
    with pytest.raises(LibraryDied) as died:
        run_probe(Path(python))
    assert (died.value.signal, died.value.probe.package_version) == ("SIGILL", "0.3.16")
    with pytest.raises(EmbedderError):
        run_probe(tmp_path / "missing")


def test_the_probe_reads_the_real_library() -> None:
    probe = run_probe(Path(sys.executable))
    assert probe.features
    assert probe.package_version[0].isdigit()
    assert any("llama" in Path(library.path).name for library in probe.libraries)
    assert all(len(library.sha256) == 64 for library in probe.libraries)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_removes_the_half_build_and_ends_the_compiler(
    python: str, tmp_path: Path, number: signal.Signals
) -> None:
    pid_file = tmp_path / "pid"
    variables = {
        "GGML_FAKE_PIP": "hang",
        "GGML_FAKE_PID_FILE": str(pid_file),
        "CC": sys.executable,
        "CXX": sys.executable,
    }
    arguments = ["build", "install", "--version", "0.3.16", "--name", "one", "--python", python]
    running = start_program(arguments, environment={**clean_environment(tmp_path), **variables}, cwd=tmp_path)
    until = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    compiler = psutil.Process(int(pid_file.read_text()))
    running.send_signal(number)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 128 + number, stderr
    assert "removed the incomplete build" in stderr
    assert list((tmp_path / "data" / "builds").iterdir()) == []
    assert psutil.wait_procs([compiler], timeout=10)[1] == []
