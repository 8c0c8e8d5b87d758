"""Check workers' requirements files: whether pip would compile the one build that is meant."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ragops.builds.cmake_flags import is_on, new_name, renamed_finding
from ragops.errors import UsageError
from ragops.findings import Finding, sorted_findings

PACKAGE = "llama-cpp-python"
# pip treats runs of dash, dot and underscore alike: https://peps.python.org/pep-0503/#normalized-names
_NAME = r"llama[-_.]+cpp[-_.]+python"
_REQUIREMENT = re.compile(rf"{_NAME}\s*(?P<extras>\[[^\]]*\])?\s*(?P<rest>.*)", re.IGNORECASE)
# == or ===, perhaps in parentheses (PEP 508), then a marker, a comment or options such as --hash.
_PIN = re.compile(r"(?:\(\s*)?===?\s*(?P<version>[^\s,;*)]+)(?:\s*\))?\s*(?:[;#].*|--.*)?")
_OPTION = re.compile(r"(--?[a-z-]+)(?:\s*=\s*|\s+|$)(.*)", re.IGNORECASE)
_FLAG = re.compile(r"-D\s*([A-Za-z_][A-Za-z0-9_]*)(?::[A-Z]+)?=([A-Za-z0-9_]+)")
# Indexes of prebuilt wheels are recognised by their paths: …/whl/cpu, …/whl/cu124.
_PREBUILT = re.compile(rf"/whl/(?:cpu|cu\d+|metal|vulkan|rocm|hip)|{_NAME}[^/\s]*\.whl", re.IGNORECASE)
_INDEX_OPTIONS = ("--extra-index-url", "--index-url", "-i", "--find-links", "-f")
# Options that include another file → whether its requirements are installed (-c only bounds versions).
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
        """Return the line without its comment."""
        return re.sub(r"(^|\s)#.*$", "", self.text).strip()

    @property
    def option(self) -> tuple[str, str]:
        """Return the option and its value; both empty for other lines."""
        match = _OPTION.fullmatch(self.code) if self.code.startswith("-") else None
        return (match[1].lower(), match[2].strip().strip("\"'")) if match else ("", "")


def check_requirements(path: Path) -> list[Finding]:
    """Return what keeps `pip install -r` from compiling one exact version; included files are read too.

    Raises UsageError if a file cannot be read.
    """
    lines = list(_read(path, set(), is_constraint=False))
    findings = [*_pins(lines), *_wheels(lines)]
    for line in lines:
        # Comments count: that is where such files keep their CMAKE_ARGS.
        for name, value in _FLAG.findall(line.text):
            renamed = new_name(name)
            if renamed is not None:
                state, place = "ON" if is_on(value) else "OFF", f"{line.place}: "
                findings.append(renamed_finding("requirements-old-flag", name, renamed, state, place=place))
    return sorted_findings(findings)


def corrected_lines(path: Path, version: str) -> str:
    """Return the lines that should replace those of llama-cpp-python in the file.

    Extras and environment markers stay, other requirements are left out. Raises UsageError if a file
    cannot be read.
    """
    lines = [line for line in _read(path, set(), is_constraint=False) if not line.is_constraint]
    corrected = [f"--no-binary={PACKAGE}"]
    for line in lines:
        if match := _REQUIREMENT.fullmatch(line.code):
            marker = match["rest"].partition(";")[2].strip()
            tail = f" ; {marker}" if marker else ""
            corrected.append(f"{PACKAGE}{match['extras'] or ''}=={version}{tail}")
    if len(corrected) == 1:
        corrected.append(f"{PACKAGE}=={version}")
    return "\n".join(dict.fromkeys(corrected)) + "\n"


def _pins(lines: list[_Line]) -> Iterator[Finding]:
    """Yield what is wrong with the version: missing, not exact, or several of them."""
    named = [(line, match) for line in lines if (match := _REQUIREMENT.fullmatch(line.code))]
    installed = [(line, match) for line, match in named if not line.is_constraint]
    if not installed:
        commented = next((line for line in lines if re.search(_NAME, line.text, re.IGNORECASE)), None)
        where = f"{commented.place} names it, but not as a requirement" if commented else "it is not listed"
        message = f"no {PACKAGE}: {where}"
        yield Finding("requirements-pin", "error", message, f"add {PACKAGE}==VERSION, the backend's")
        return
    is_bound = any(_PIN.fullmatch(match["rest"]) for line, match in named if line.is_constraint)
    for line, match in installed:
        if not _PIN.fullmatch(match["rest"]) and not is_bound:
            message = f"{line.place}: {line.code!r} is not an exact version: two workers may get two builds"
            yield Finding("requirements-pin", "error", message, f"write {PACKAGE}==VERSION, the backend's")
    versions = sorted({pin["version"] for _, match in named if (pin := _PIN.fullmatch(match["rest"]))})
    if len(versions) > 1:
        message = f"{PACKAGE} is pinned to {' and '.join(versions)}"
        yield Finding("requirements-pins", "warning", message, "pin one version, the backend's")


def _wheels(lines: list[_Line]) -> Iterator[Finding]:
    """Yield what makes pip install a prebuilt wheel, to which CMAKE_ARGS mean nothing."""
    is_source, undone_by = False, None
    # pip applies its format options in order, and the last one that names a package wins:
    # https://pip.pypa.io/en/stable/cli/pip_install/#cmdoption-no-binary
    for line in lines:
        option, value = line.option
        names = {re.sub(r"[-_.]+", "-", name.strip().lower()) for name in value.split(",")}
        if option == "--no-binary":
            is_source = (is_source or bool({":all:", PACKAGE} & names)) and ":none:" not in names
        elif option == "--only-binary" and {":all:", PACKAGE} & names:
            is_source, undone_by = False, line
    if not is_source:
        where = f"{undone_by.place}: {undone_by.code} undoes it" if undone_by else f"no --no-binary={PACKAGE}"
        message = f"{where}: pip installs a prebuilt wheel and ignores CMAKE_ARGS"
        yield Finding("requirements-no-binary", "error", message, f"add the line --no-binary={PACKAGE}")
    for line in lines:
        option, value = line.option
        if _PREBUILT.search(line.code) and (_REQUIREMENT.fullmatch(line.code) or not option):
            message = f"{line.place}: a prebuilt wheel; CMAKE_ARGS do not apply"
            yield Finding("requirements-wheel", "error", message, f"write {PACKAGE}==VERSION instead")
        elif option in _INDEX_OPTIONS and _PREBUILT.search(value):
            effect = "unused as long as --no-binary stands" if is_source else "pip installs its wheels"
            message = f"{line.place}: an index of prebuilt wheels ({effect})"
            yield Finding("requirements-index", "warning" if is_source else "error", message, "delete the line")


def _read(path: Path, seen: set[Path], *, is_constraint: bool) -> Iterator[_Line]:
    """Yield the logical lines of a file and of those it includes, each file once."""
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    try:
        content = path.read_bytes()
        # As pip decodes it: UTF-8, or what the byte order mark names (PowerShell's > writes UTF-16).
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "cannot read the requirements file",
            where=str(path),
            actual=getattr(error, "strerror", None) or str(error),
            expected="a text file in UTF-8, or with a byte order mark",
        ) from error
    pending, start = "", 0
    for number, raw in enumerate([*text.splitlines(), ""], start=1):
        start = start or number
        if raw.endswith("\\"):  # goes on in the next line
            pending += raw[:-1]
            continue
        line = _Line(path, start, (pending + raw).strip(), is_constraint)
        pending, start = "", 0
        option, value = line.option
        if option in _FILE_OPTIONS and value:
            inner = is_constraint or not _FILE_OPTIONS[option]
            yield from _read(path.parent / value, seen, is_constraint=inner)
        else:
            yield line
