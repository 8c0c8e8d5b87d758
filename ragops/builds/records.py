"""Store isolated builds of llama-cpp-python: one folder per build, complete once `build.json` is in it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from ragops.builds.cmake_flags import parse_flags
from ragops.builds.library import Library
from ragops.builds.standalone import RECORD
from ragops.errors import RagopsError, UsageError
from ragops.findings import Finding
from ragops.paths import data_folder

LOG = "install.log"
VENV = "venv"
# A folder's name on every system: no separators, no leading dash (an option of other programs) or dot
# (hidden), no trailing dot (Windows drops it).
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!]*")

Verdict = Literal["as_asked", "differs", "unusable"]


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One complete build: what was requested, and what the loaded library reports."""

    name: str
    version: str
    cmake_args: tuple[str, ...]
    created_at: datetime
    folder: Path
    python_version: str
    platform: str
    compiler: str
    seconds: float
    system_info: str
    features: Mapping[str, str]
    # Effective; empty if loading the library killed the probe.
    libraries: tuple[Library, ...]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def interpreter(self) -> Path:
        """Return the interpreter that loads this build."""
        return interpreter_of(self.folder)

    @property
    def verdict(self) -> Verdict:
        """Return unusable (dies on the machine that compiled it), differs (from the request) or as_asked."""
        severities = {finding.severity for finding in self.findings}
        return "unusable" if "error" in severities else "differs" if "warning" in severities else "as_asked"

    def to_json(self) -> dict[str, object]:
        """Return what `build show --json` prints and `build.json` holds, interpreter and verdict included."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            **values,
            "cmake_args": list(self.cmake_args),
            "created_at": self.created_at.isoformat(timespec="seconds"),
            "folder": str(self.folder),
            "features": dict(self.features),
            "libraries": [asdict(library) for library in self.libraries],
            "findings": [finding.to_json() for finding in self.findings],
            "interpreter": str(self.interpreter),
            "verdict": self.verdict,
        }


def builds_folder() -> Path:
    """Return the folder that holds one folder per build."""
    return data_folder() / "builds"


def folder_of(name: str) -> Path:
    """Return a build's folder, whether it exists or not. Raises UsageError for an invalid name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            "invalid name for a build",
            actual=repr(name),
            expected="up to 64 letters, digits, dots, dashes and underscores, starting with a letter or digit",
        )
    return builds_folder() / name


def interpreter_of(folder: Path, *, platform: str = sys.platform) -> Path:
    """Return the interpreter of a build's virtual environment: in `Scripts` on Windows, in `bin` elsewhere."""
    place = ("Scripts", "python.exe") if platform == "win32" else ("bin", "python")
    return folder.joinpath(VENV, *place)


def default_name(version: str, cmake_args: Sequence[str]) -> str:
    """Return `0.3.16-default`, or the version and a short hash of what the arguments set, in any order."""
    if not cmake_args:
        return f"{version}-default"
    flags = parse_flags(cmake_args)
    others = [word for word in cmake_args if not parse_flags([word])]
    settings = "\n".join([*(f"{name}={value}" for name, value in sorted(flags.items())), *others])
    return f"{version}-{hashlib.sha256(settings.encode()).hexdigest()[:7]}"


def check_version(version: str) -> str:
    """Return the version. Raises UsageError unless it is an exact one."""
    if not _VERSION.fullmatch(version):
        raise UsageError(
            "the version is not exact",
            where="--version",
            actual=repr(version),
            expected="e.g. 0.3.16, without == or ranges",
        )
    return version


def list_builds() -> list[BuildRecord]:
    """Return the complete builds, sorted by name."""
    return [record for folder in _folders() if (record := read_record(folder)) is not None]


def list_incomplete() -> list[str]:
    """Return the names of folders without a record: interrupted, failed, or being installed right now."""
    return [folder.name for folder in _folders() if read_record(folder) is None]


def find_build(name: str) -> BuildRecord:
    """Return the build of that name. Raises UsageError, listing the builds, if it is missing or incomplete."""
    folder = folder_of(name)
    record = read_record(folder)
    if record is None:
        state = "the build is not complete" if folder.is_dir() else "there is no build of that name"
        raise UsageError(state, where=str(folder), actual=_names(), hint=f"ragops build install --name {name} …")
    if not record.interpreter.exists():
        raise UsageError(
            "the build's interpreter is missing",
            where=str(record.interpreter),
            expected="the Python that the build was compiled for",
            hint=f"ragops build remove {name}   then install it again",
        )
    return record


def check_removable(name: str) -> Path:
    """Return the folder of a complete or incomplete build. Raises UsageError if there is none."""
    folder = folder_of(name)
    if not folder.is_dir():
        raise UsageError("there is no build of that name", where=str(folder), actual=_names())
    return folder


def remove_build(name: str) -> Path:
    """Delete a complete or incomplete build and return its folder.

    Raises UsageError if there is none, RagopsError if one of its files is in use.
    """
    folder = check_removable(name)
    (folder / RECORD).unlink(missing_ok=True)  # first: half a build must not look complete
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise RagopsError(
            "the build could not be removed completely",
            where=str(error.filename or folder),
            actual=error.strerror or str(error),
            hint=f"stop the processes that use it, then: ragops build remove {name}",
        ) from error
    return folder


def write_record(record: BuildRecord) -> None:
    """Write the record that makes a build complete; readers see all of it or nothing."""
    text = json.dumps(record.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    partial = record.folder / f"{RECORD}.partial"
    # os.replace is atomic: a record that was cut off by a crash would pass for a complete build.
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(record.folder / RECORD)


def read_record(folder: Path) -> BuildRecord | None:
    """Return the folder's record; None if it is missing or written by an incompatible version of ragops."""
    try:
        stored = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return BuildRecord(
            name=folder.name,
            version=str(stored["version"]),
            cmake_args=tuple(stored["cmake_args"]),
            created_at=datetime.fromisoformat(stored["created_at"]),
            folder=folder,
            python_version=str(stored["python_version"]),
            platform=str(stored["platform"]),
            compiler=str(stored["compiler"]),
            seconds=float(stored["seconds"]),
            system_info=str(stored["system_info"]),
            features=dict(stored["features"]),
            libraries=tuple(Library(**library) for library in stored["libraries"]),
            findings=tuple(Finding(**finding) for finding in stored["findings"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _folders() -> list[Path]:
    root = builds_folder()
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _names() -> str:
    names = [record.name for record in list_builds()]
    return f"builds: {', '.join(names)}" if names else "no build yet"
