"""The aligned reinstall, isolated: a virtual environment, pip with CMAKE_ARGS, and the library asked."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import psutil

from ragops.builds.cmake_flags import may_have_amx
from ragops.builds.compiler import find_compiler, is_gcc
from ragops.builds.library import LibraryDied, Probe, run_probe
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
from ragops.subprocesses import child_environment, run_logged

PACKAGE = "llama-cpp-python"
# GCC (12 for one) takes most of the stores that prepare AMX's tile configuration for dead ones, and the build
# then dies in its first multiplication of repacked weights. Arithmetic is not touched by these.
KEEP_STORES = "-fno-tree-dse -fno-dse"
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


class Reporter(Protocol):
    """How an install speaks to people."""

    def info(self, message: str) -> None: ...

    def progress(self, what: str, done: float, total: float | None, note: str = "") -> None: ...

    def end_progress(self) -> None: ...


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is to be built."""

    version: str
    cmake_args: tuple[str, ...] = ()
    name: str = ""
    """Empty: named after version and arguments."""
    python: str = ""
    """Interpreter to make the virtual environment with; empty is this one."""

    def __post_init__(self) -> None:
        check_version(self.version)
        if not self.name:
            object.__setattr__(self, "name", default_name(self.version, self.cmake_args))
        folder_of(self.name)


def present_build(request: BuildRequest) -> BuildRecord | None:
    """The build that is there already. Raises UsageError when its name holds another one."""
    record = read_record(folder_of(request.name))
    # Default names tell builds apart by what the arguments set, in whatever order they stand.
    if record is None or default_name(record.version, record.cmake_args) == default_name(
        request.version, request.cmake_args
    ):
        return record
    raise UsageError(
        "another build has this name",
        where=str(record.folder),
        actual=f"{record.version} with {' '.join(record.cmake_args) or 'no arguments'}",
        expected=f"{request.version} with {' '.join(request.cmake_args) or 'no arguments'}",
        hint=f"give it another --name, or: ragops build remove {request.name}",
    )


def install(request: BuildRequest, *, reporter: Reporter, host: HostFacts) -> BuildRecord:
    """Build and record; a folder of that name without a record is replaced.

    Stopped half-way it leaves nothing; failed it leaves the log. Raises UsageError, RagopsError (no
    compiler, no virtual environment, a failing compile, an install of that name that runs).
    """
    compiler = find_compiler(os.environ)
    folder = folder_of(request.name)
    with _alone(request.name):
        if (there := present_build(request)) is not None:  # another install ended just now
            return there
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            return _install(request, folder, compiler=compiler, reporter=reporter, host=host)
        except KeyboardInterrupt:
            shutil.rmtree(folder, ignore_errors=True)
            reporter.info(f"the half build was removed: {folder}")
            raise
        except BaseException:
            shutil.rmtree(folder / VENV, ignore_errors=True)
            raise
        finally:
            reporter.end_progress()


def _install(
    request: BuildRequest, folder: Path, *, compiler: str, reporter: Reporter, host: HostFacts
) -> BuildRecord:
    started = time.monotonic()
    log = folder / LOG
    log.write_text(f"# CMAKE_ARGS='{' '.join(request.cmake_args)}' FORCE_CMAKE=1\n", encoding="utf-8")
    reporter.info(f"building {PACKAGE} {request.version} as {request.name}; this takes minutes, the log is {log}")
    # A short path: Windows allows 260 characters, and llama.cpp's tree is deep.
    with tempfile.TemporaryDirectory(prefix="rb", ignore_cleanup_errors=True) as scratch:
        flags = KEEP_STORES if may_have_amx(request.cmake_args) and is_gcc(compiler) else ""
        environment = build_environment(os.environ, request.cmake_args, scratch=scratch, flags=flags)
        tick = _ticker(reporter, f"building {request.name}", started)
        _run("venv", _venv_command(request, folder), environment, log, tick)
        python = interpreter_of(folder)
        wanted = [f"--no-binary={PACKAGE}", f"{PACKAGE}=={request.version}"]
        _run("pip", [str(python), *_PIP, *wanted], environment, log, tick)
    reporter.end_progress()
    seconds = round(time.monotonic() - started, 1)
    record = _record(request, folder, host, compiler=compiler, seconds=seconds)
    write_record(record)
    return record


def _record(request: BuildRequest, folder: Path, host: HostFacts, *, compiler: str, seconds: float) -> BuildRecord:
    """What the library says about itself, and what that means on this machine."""
    probe, death = _ask(interpreter_of(folder))
    log = _text(folder / LOG)
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
        findings=findings_of(request.cmake_args, probe, host, log=log, death=death),
    )


def build_environment(
    given: Mapping[str, str], cmake_args: tuple[str, ...], *, scratch: str, flags: str = ""
) -> dict[str, str]:
    """What pip runs with: the arguments asked for and none from elsewhere, temporary files in one place.

    `flags` go to the compiler beside those of CFLAGS and CXXFLAGS.
    """
    kept = child_environment(given, own_interpreter=False)
    # ggml compiles for a generic CPU where this is set, whatever the arguments say.
    kept.pop("SOURCE_DATE_EPOCH", None)
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch)
    if flags:
        places |= {name: f"{kept.get(name, '')} {flags}".strip() for name in ("CFLAGS", "CXXFLAGS")}
    return {**kept, **places, "CMAKE_ARGS": " ".join(cmake_args), "FORCE_CMAKE": "1", "PYTHONUTF8": "1"}


def _venv_command(request: BuildRequest, folder: Path) -> list[str]:
    return [request.python or sys.executable, "-m", "venv", "--clear", str(folder / VENV)]


def _ticker(reporter: Reporter, what: str, started: float) -> Callable[[str | None], None]:
    """Shows the build tool's counter once there is one, else the last line of the log; always the time."""
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


def _run(
    stage: str, command: list[str], environment: Mapping[str, str], log: Path, tick: Callable[[str | None], None]
) -> None:
    status = run_logged(command, environment=environment, log=log, on_tick=tick)
    if status == 0:
        return
    text = _text(log)
    whats = {"venv": "the virtual environment could not be made", "pip": f"{PACKAGE} could not be built"}
    hints = {"venv": "on Debian and Ubuntu: apt install python3-venv; or name another --python"}
    raise RagopsError(
        whats[stage],
        where=str(log),
        actual="\n".join(meaningful_lines(text)) or f"exit status {status}",
        expected="a build that ends with exit status 0",
        hint=hints.get(stage) or hint_of(text) or "the whole log is in the file named above",
    )


def _ask(python: Path) -> tuple[Probe, str | None]:
    try:
        return run_probe(python), None
    except LibraryDied as error:
        return error.probe, error.signal


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Hold the name against a second install. Raises RagopsError while one runs."""
    builds_folder().mkdir(parents=True, exist_ok=True)
    lock = builds_folder() / f"{name}.lock"
    for is_last in (False, True):
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            break
        except FileExistsError:
            holder = _holder(lock)
            if holder is not None or is_last:
                raise RagopsError(
                    "another install of this build is running",
                    where=str(lock),
                    actual=f"process {holder}",
                    hint="wait for it, or end it",
                ) from None
            lock.unlink(missing_ok=True)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _holder(lock: Path) -> int | None:
    """The process that holds a lock; None when it is gone."""
    try:
        pid = int(lock.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if psutil.pid_exists(pid) else None
