"""Requirements files of workers: whether pip would compile the one build that is meant."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ragops.builds.cmake_flags import is_on, new_name
from ragops.errors import UsageError
from ragops.findings import Finding

PACKAGE = "llama-cpp-python"
_NAME = r"llama[-_.]+cpp[-_.]+python"
_REQUIREMENT = re.compile(rf"{_NAME}\s*(?P<extras>\[[^\]]*\])?\s*(?P<rest>.*)", re.IGNORECASE)
_PIN = re.compile(r"(?:\(\s*)?===?\s*(?P<version>[^\s,;*)]+)(?:\s*\))?\s*(?:[;#].*|--.*)?")
_OPTION = re.compile(r"(--?[a-z-]+)(?:\s*=\s*|\s+|$)(.*)", re.IGNORECASE)
_FLAG = re.compile(r"-D\s*([A-Za-z_][A-Za-z0-9_]*)(?::[A-Z]+)?=([A-Za-z0-9_]+)")
# Indexes of ready-made wheels are told by their paths: …/whl/cpu, …/whl/cu124.
_PREBUILT = re.compile(rf"/whl/(?:cpu|cu\d+|metal|vulkan|rocm|hip)|{_NAME}[^/\s]*\.whl", re.IGNORECASE)
_INDEX_OPTIONS = ("--extra-index-url", "--index-url", "-i", "--find-links", "-f")
_FILE_OPTIONS = {"-r": True, "--requirement": True, "-c": False, "--constraint": False}


@dataclass(frozen=True, slots=True)
class _Line:
    """One logical line and its place; `is_constraint` lines bind a version but install nothing."""

    file: Path
    number: int
    text: str
    is_constraint: bool = False

    @property
    def place(self) -> str:
        return f"{self.file.name}:{self.number}"

    @property
    def code(self) -> str:
        """Without the comment."""
        return re.sub(r"(^|\s)#.*$", "", self.text).strip()


def check_requirements(path: Path) -> list[Finding]:
    """Whether `pip install -r` compiles one exact version; files it includes are read too.

    Raises UsageError when a file cannot be read.
    """
    lines = list(_read(path, set(), is_constraint=False))
    found = [*_pin(lines), *_binary(lines), *_prebuilt(lines), *_old_flags(lines)]
    return sorted(found, key=lambda finding: ("error", "warning", "info").index(finding.severity))


def corrected_lines(path: Path, version: str) -> str:
    """The lines that should stand in the file for those of llama-cpp-python.

    Extras, environment markers and further requirements stay as they are. Raises UsageError when a
    file cannot be read.
    """
    lines = [line for line in _read(path, set(), is_constraint=False) if not line.is_constraint]
    kept = [f"--no-binary={PACKAGE}"]
    for line in lines:
        if match := _REQUIREMENT.fullmatch(line.code):
            marker = match["rest"].partition(";")[2].strip()
            tail = f" ; {marker}" if marker else ""
            kept.append(f"{PACKAGE}{match['extras'] or ''}=={version}{tail}")
    if len(kept) == 1:
        kept.append(f"{PACKAGE}=={version}")
    return "\n".join(dict.fromkeys(kept)) + "\n"


def _pin(lines: list[_Line]) -> Iterator[Finding]:
    named = [(line, match) for line in lines if (match := _REQUIREMENT.fullmatch(line.code))]
    wanted = [(line, match) for line, match in named if not line.is_constraint]
    if not wanted:
        yield _missing(lines)
        return
    is_bound = any(_PIN.fullmatch(match["rest"]) for line, match in named if line.is_constraint)
    for line, match in wanted:
        if not _PIN.fullmatch(match["rest"]) and not is_bound:
            message = f"{line.place}: {line.code!r} is no exact version: two workers may get two builds"
            yield Finding("requirements-pin", "error", message, f"write {PACKAGE}==VERSION, the backend's")
    versions = sorted({pin["version"] for _, m in named if (pin := _PIN.fullmatch(m["rest"]))})
    if len(versions) > 1:
        message = f"{PACKAGE} is pinned to {' and '.join(versions)}"
        yield Finding("requirements-pins", "warning", message, "name one version, the backend's")


def _missing(lines: list[_Line]) -> Finding:
    commented = next((line for line in lines if re.search(_NAME, line.text, re.IGNORECASE)), None)
    where = f"{commented.place} names it, but not as a requirement" if commented else "it is not named"
    return Finding("requirements-pin", "error", f"no {PACKAGE}: {where}", f"add {PACKAGE}==VERSION, the backend's")


def _binary(lines: list[_Line]) -> Iterator[Finding]:
    state, line = _compiles(lines)
    if state:
        return
    where = f"{line.place}: {line.code} undoes it" if line else f"no --no-binary={PACKAGE}"
    message = f"{where}: pip takes a ready-made wheel, and CMAKE_ARGS do nothing"
    yield Finding("requirements-no-binary", "error", message, f"add the line --no-binary={PACKAGE}")


def _compiles(lines: list[_Line]) -> tuple[bool, _Line | None]:
    """Whether the format options, in pip's order, leave the package to be compiled; and what undid it."""
    is_source, undone_by = False, None
    for line in lines:
        option, value = _option(line)
        names = {re.sub(r"[-_.]+", "-", name.strip().lower()) for name in value.split(",")}
        if option == "--no-binary":
            is_source = (is_source or bool({":all:", PACKAGE} & names)) and ":none:" not in names
        elif option == "--only-binary" and {":all:", PACKAGE} & names:
            is_source, undone_by = False, line
    return is_source, undone_by


def _prebuilt(lines: list[_Line]) -> Iterator[Finding]:
    is_source, _ = _compiles(lines)
    for line in lines:
        option, value = _option(line)
        match = _REQUIREMENT.fullmatch(line.code)
        is_index = option in _INDEX_OPTIONS and _PREBUILT.search(value)
        is_wheel = _PREBUILT.search(line.code) and (match or not option)
        if is_wheel:
            message = f"{line.place}: a ready-made wheel, whatever CMAKE_ARGS say"
            yield Finding("requirements-wheel", "error", message, f"write {PACKAGE}==VERSION instead")
        elif is_index:
            effect = "unused while --no-binary stands" if is_source else "pip takes its wheels"
            message = f"{line.place}: an index of ready-made wheels ({effect})"
            severity = "warning" if is_source else "error"
            yield Finding("requirements-index", severity, message, "delete the line")  # type: ignore[arg-type]


def _old_flags(lines: list[_Line]) -> Iterator[Finding]:
    """Comments count: that is where such files keep their CMAKE_ARGS."""
    for line in lines:
        for name, value in _FLAG.findall(line.text):
            renamed = new_name(name)
            if renamed is not None:
                state = "ON" if is_on(value) else "OFF"
                message = f"{line.place}: {name} is an old name, which llama.cpp ignores without a word or refuses"
                yield Finding("requirements-old-flag", "warning", message, f"write -D{renamed}={state}")


def _option(line: _Line) -> tuple[str, str]:
    match = _OPTION.fullmatch(line.code) if line.code.startswith("-") else None
    return (match[1].lower(), match[2].strip().strip("\"'")) if match else ("", "")


def _read(path: Path, seen: set[Path], *, is_constraint: bool) -> Iterator[_Line]:
    """Logical lines of a file and of those it includes, each file once."""
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    for number, text in _logical(_text(path)):
        line = _Line(path, number, text, is_constraint)
        option, value = _option(line)
        if option in _FILE_OPTIONS and value:
            inner = is_constraint or not _FILE_OPTIONS[option]
            yield from _read(path.parent / value, seen, is_constraint=inner)
        else:
            yield line


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their first number; a backslash at the end goes on in the next line."""
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start or number
        if raw.endswith("\\"):
            pending += raw[:-1]
            continue
        yield start, (pending + raw).strip()
        pending, start = "", 0
    if pending:
        yield start, pending.strip()


def _text(path: Path) -> str:
    """Decoded as pip does: UTF-8, or what the byte order mark says (PowerShell writes UTF-16)."""
    try:
        raw = path.read_bytes()
        is_utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return raw.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "the requirements file cannot be read",
            where=str(path),
            actual=getattr(error, "strerror", None) or str(error),
            expected="a text file, UTF-8 or with a byte order mark",
        ) from error
