"""Compile llama-cpp-python into a virtual environment of its own, and record what the library became."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from ragops.builds.cmake_flags import may_have_amx
from ragops.builds.compiler import find_compiler, is_gcc
from ragops.builds.library import LibraryDied, run_probe
from ragops.builds.log import hint_of, meaningful_lines, read_counter, short
from ragops.builds.records import (
    LOG,
    VENV,
    BuildRecord,
    builds_folder,
    check_version,
    default_name,
    folder_of,
    interpreter_of,
    read_record,
    write_record,
)
from ragops.builds.verify import findings_of
from ragops.errors import RagopsError, UsageError
from ragops.facts import HostFacts
from ragops.reporter import Reporter
from ragops.subprocesses import Purpose, child_environment, run_logged

PACKAGE = "llama-cpp-python"
# GCC 12 drops most of the stores that prepare AMX's tile configuration as dead, and the build then dies in
# its first multiplication of repacked Q8_0 weights. Without these two passes it does not, and is twice as
# fast there. They do not touch arithmetic, so the vectors stay the same.
KEEP_STORES = "-fno-tree-dse -fno-dse"
# --no-cache-dir: pip's cache holds wheels by version and not by CMAKE_ARGS. -v: CMake's output, with its
# warning about unused variables and the counter of the compiled files, is printed no other way.
_PIP = [
    "-m",
    "pip",
    "install",
    "-v",
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar",
    "off",
    "--no-cache-dir",
]
# What a stage could not do, and a hint for causes that its log does not show.
_FAILURES = {
    "venv": (
        "could not create the virtual environment",
        "on Debian and Ubuntu: apt install python3-venv; or pass another --python",
    ),
    "pip": (f"could not build {PACKAGE}", None),
}
Tick = Callable[[str | None], None]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One build to make; validated when it is created."""

    version: str
    cmake_args: tuple[str, ...] = ()
    # Empty: named after version and arguments.
    name: str = ""
    # Interpreter that creates the virtual environment; empty: this one.
    python: str = ""

    def __post_init__(self) -> None:
        check_version(self.version)
        if not self.name:
            object.__setattr__(self, "name", default_name(self.version, self.cmake_args))
        folder_of(self.name)


def present_build(request: BuildRequest) -> BuildRecord | None:
    """Return the build that exists already. Raises UsageError if another one has its name."""
    record = read_record(folder_of(request.name))
    # Default names depend on what the arguments set, not on their order.
    if record is None or default_name(record.version, record.cmake_args) == default_name(
        request.version, request.cmake_args
    ):
        return record
    raise UsageError(
        "another build has this name",
        where=str(record.folder),
        actual=f"{record.version} with {' '.join(record.cmake_args) or 'no arguments'}",
        expected=f"{request.version} with {' '.join(request.cmake_args) or 'no arguments'}",
        hint=f"choose another --name, or: ragops build remove {request.name}",
    )


def install(request: BuildRequest, *, reporter: Reporter, host: HostFacts) -> BuildRecord:
    """Compile and record a build; a folder of that name without a record is replaced.

    An interrupted install leaves nothing, a failed one leaves its log. Raises UsageError, RagopsError (no
    compiler, no virtual environment, a failed compile, another install of that name is running).
    """
    compiler = find_compiler(os.environ)
    folder = folder_of(request.name)
    with _locked(request.name):
        if (present := present_build(request)) is not None:  # another install ended just now
            return present
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            started = time.monotonic()
            _compile(request, folder, compiler=compiler, reporter=reporter)
            seconds = round(time.monotonic() - started, 1)
            record = _read_back(request, folder, host, compiler=compiler, seconds=seconds)
            write_record(record)
            return record
        except KeyboardInterrupt:
            shutil.rmtree(folder, ignore_errors=True)
            reporter.info(f"removed the incomplete build: {folder}")
            raise
        except BaseException:
            # The log stays: the error names it.
            shutil.rmtree(folder / VENV, ignore_errors=True)
            raise
        finally:
            reporter.end_progress()


def _compile(request: BuildRequest, folder: Path, *, compiler: str, reporter: Reporter) -> None:
    """Create the virtual environment and let pip compile into it."""
    log = folder / LOG
    log.write_text(f"# CMAKE_ARGS='{' '.join(request.cmake_args)}' FORCE_CMAKE=1\n", encoding="utf-8")
    reporter.info(f"building {PACKAGE} {request.version} as {request.name}; this takes minutes, the log is {log}")
    # A short path: Windows allows 260 characters, and llama.cpp's tree is deep.
    with tempfile.TemporaryDirectory(prefix="rb", ignore_cleanup_errors=True) as scratch:
        flags = KEEP_STORES if may_have_amx(request.cmake_args) and is_gcc(compiler) else ""
        environment = build_environment(os.environ, request.cmake_args, scratch=scratch, flags=flags)
        tick = _ticker(reporter, f"building {request.name}")
        venv = [request.python or sys.executable, "-m", "venv", "--clear", str(folder / VENV)]
        _run("venv", venv, environment, log, tick)
        pip = [str(interpreter_of(folder)), *_PIP, f"--no-binary={PACKAGE}", f"{PACKAGE}=={request.version}"]
        _run("pip", pip, environment, log, tick)
    reporter.end_progress()


def _read_back(
    request: BuildRequest, folder: Path, host: HostFacts, *, compiler: str, seconds: float
) -> BuildRecord:
    """Return the record of a compiled build: what its library reports, and what that means on this machine."""
    death = None
    try:
        probe = run_probe(interpreter_of(folder))
    except LibraryDied as error:
        # Recorded and not raised: the build may be meant for another machine, and the verdict shows it.
        probe, death = error.probe, error.signal
    return BuildRecord(
        name=request.name,
        version=probe.package_version,
        cmake_args=request.cmake_args,
        created_at=datetime.now(UTC).replace(microsecond=0),
        folder=folder,
        python_version=probe.python_version,
        platform=probe.platform,
        compiler=compiler,
        seconds=seconds,
        system_info=probe.system_info,
        features=probe.features,
        libraries=probe.libraries,
        findings=findings_of(request.cmake_args, probe, host, log=_text(folder / LOG), death=death),
    )


def build_environment(
    given: Mapping[str, str], cmake_args: tuple[str, ...], *, scratch: str, flags: str = ""
) -> dict[str, str]:
    """Return the environment for pip: the requested arguments only, temporary files in `scratch`.

    `flags` are added to CFLAGS and CXXFLAGS.
    """
    kept = child_environment(given, Purpose.BUILD, own_interpreter=False)
    # ggml reads it as a wish for a reproducible build: GGML_NATIVE and all instruction sets default to OFF.
    kept.pop("SOURCE_DATE_EPOCH", None)
    changes = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch)
    if flags:
        changes |= {name: f"{kept.get(name, '')} {flags}".strip() for name in ("CFLAGS", "CXXFLAGS")}
    return {**kept, **changes, "CMAKE_ARGS": " ".join(cmake_args), "FORCE_CMAKE": "1", "PYTHONUTF8": "1"}


def _ticker(reporter: Reporter, what: str) -> Tick:
    """Return a callback that reports the elapsed time with the build tool's counter, or the last log line."""
    started = time.monotonic()
    shown: tuple[float, float | None, str] = (0.0, None, "")

    def tick(line: str | None) -> None:
        nonlocal shown
        if line and (counter := read_counter(line)):
            percent = f"{counter.done / counter.total:.0%}"
            shown = (counter.done, counter.total, f"{percent}  {counter.what}")
        elif line and line.strip() and shown[1] is None:
            shown = (0.0, None, short(line))
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        done, total, note = shown
        reporter.progress(what, done, total, f"{minutes}:{seconds:02} min  {note}")

    return tick


def _run(stage: str, command: list[str], environment: Mapping[str, str], log: Path, tick: Tick) -> None:
    """Run one stage to its end. Raises RagopsError, with the cause from the log, if it fails."""
    status = run_logged(command, environment=environment, log=log, on_tick=tick)
    if status == 0:
        return
    text = _text(log)
    what, hint = _FAILURES[stage]
    raise RagopsError(
        what,
        where=str(log),
        actual="\n".join(meaningful_lines(text)) or f"exit status {status}",
        expected="a build that ends with exit status 0",
        hint=hint or hint_of(text) or "read the whole log in the file named above",
    )


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold the name against a second install. Raises RagopsError while one is running."""
    lock = builds_folder() / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    owner = _read_pid(lock)
    if owner is not None and not psutil.pid_exists(owner):  # left behind by an install that was killed
        lock.unlink(missing_ok=True)
    try:
        # Mode x creates the file or fails: of two installs that start at once only one gets past this line.
        with lock.open("x", encoding="ascii") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        raise RagopsError(
            "another install of this build is running",
            where=str(lock),
            actual=f"process {owner or _read_pid(lock) or 'unknown'}",
            hint="wait for it or stop it; if no install is running, delete this file",
        ) from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _read_pid(lock: Path) -> int | None:
    """Return the process number in a lock file; None if there is none."""
    try:
        return int(lock.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
