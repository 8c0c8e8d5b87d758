"""Which files a corpus has, and that none outside of it is ever opened."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragops.documents.errors import LONGEST_REASON, Unreadable
from ragops.documents.extraction import Extracted
from ragops.documents.locations import is_reserved, refusal
from ragops.documents.sources import open_regular
from ragops.documents.walking import walk_folder
from ragops.errors import RagopsError, UsageError
from ragops.playbook.model import Source
from ragops.postgres.queue import Item
from ragops.workers.sources import Documents

NAMES = st.text(alphabet="abcXY1_", min_size=1, max_size=6).filter(lambda name: not is_reserved(name))
FILES = ["a.md", "b.txt", "docs/a.txt", "docs/deep/c.md", "docs/deep/d.txt", "docs/z.md"]


def make(root: Path, *locations: str) -> Path:
    for location in locations:
        file = root / location
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("text", encoding="utf-8")
    return root


def link(path: Path, target: Path, *, is_folder: bool = False) -> None:
    try:
        path.symlink_to(target, target_is_directory=is_folder)
    except (OSError, NotImplementedError):
        pytest.skip("this account may not make symbolic links")


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], FILES),
        (["**/*"], FILES),
        (["**"], FILES),
        (["*.md"], ["a.md", "docs/deep/c.md", "docs/z.md"]),
        (["**/*.md"], ["a.md", "docs/deep/c.md", "docs/z.md"]),
        (["docs/*.txt"], ["docs/a.txt"]),
        (["./docs/*.txt"], ["docs/a.txt"]),
        (["docs/**/*.txt"], ["docs/a.txt", "docs/deep/d.txt"]),
        (["docs/**"], FILES[2:]),
        (["**/deep/**/*.md"], ["docs/deep/c.md"]),
        (["docs/*/[cx].?d"], ["docs/deep/c.md"]),
        (["*.MD"], []),
        (["docs"], []),
        (["b.txt", "*.txt"], ["b.txt", "docs/a.txt", "docs/deep/d.txt"]),
        (["*.md", "docs/*.txt"], ["a.md", "docs/a.txt", "docs/deep/c.md", "docs/z.md"]),
        (["[ab].*", "z*"], ["a.md", "b.txt", "docs/a.txt", "docs/z.md"]),
    ],
)
def test_patterns_choose_files(tmp_path: Path, patterns: list[str], expected: list[str]) -> None:
    make(tmp_path, *FILES)
    assert list(walk_folder(tmp_path, patterns)) == expected


def test_many_stars_take_no_exponential_time(tmp_path: Path) -> None:
    make(tmp_path, "/".join(["a"] * 40) + "/b")
    assert list(walk_folder(tmp_path, ["**/a/" * 20 + "c"])) == []


@settings(deadline=None)  # a busy machine is no failure
@given(st.sets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=12))
def test_walk_gives_every_file_once_in_the_order_of_its_parts(parts: set[tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in parts:
            path = root.joinpath(*part)
            if any(above.is_file() for above in path.parents) or path.exists():
                continue  # a file of that name stands where a folder would
            make(root, "/".join(part))
        found = list(walk_folder(root, ["**/*"]))
        there = [path.relative_to(root).parts for path in root.rglob("*") if path.is_file()]
        assert found == ["/".join(part) for part in sorted(there)]


def test_walk_is_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/1", "b/1", "c/1")
    listed: list[str] = []
    scandir = os.scandir

    def noted(path: Path) -> os._ScandirIterator[str]:
        listed.append(path.name)
        return scandir(str(path))

    monkeypatch.setattr(os, "scandir", noted)
    assert next(walk_folder(tmp_path, [])) == "a/1"
    assert "c" not in listed


def test_walk_goes_deeper_than_the_recursion_limit_of_a_generator(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 300) + "/f"
    try:
        make(tmp_path, deep)
    except OSError:
        pytest.skip("this file system has a shorter longest path")
    assert list(walk_folder(tmp_path, ["f"])) == [deep]


def test_hidden_files_links_and_fifos_are_left_out(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", "secret.md")
    root = make(tmp_path / "root", "a.md", ".hidden.md", ".git/x.md")
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "fifo.md")
    link(root / "link.md", outside / "secret.md")
    link(root / "folder", outside, is_folder=True)
    link(root / "loop", root, is_folder=True)
    assert list(walk_folder(root, ["*.md"])) == ["a.md"]


def test_a_root_that_is_no_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder") as missing:
        walk_folder(tmp_path / "gone", [])
    assert missing.value.hint and missing.value.actual == "no such file or folder"
    with pytest.raises(UsageError) as file:
        walk_folder(make(tmp_path, "f") / "f", [])
    assert file.value.actual == "a file"


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../b", "", "."])
def test_patterns_that_lead_outside_are_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="pattern"):
        walk_folder(tmp_path, [pattern])


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="POSIX file names")
def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("x", encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    with pytest.raises(UsageError, match="cannot be stored") as error:
        list(walk_folder(tmp_path, []))
    assert error.value.where == "caf\\xe9.md"
    assert list(walk_folder(tmp_path, ["*.txt"])) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_closed_folder_stops_the_walk(tmp_path: Path) -> None:
    make(tmp_path, "shut/a")
    (tmp_path / "shut").chmod(0)
    try:
        with pytest.raises(UsageError, match="cannot be listed"):
            list(walk_folder(tmp_path, []))
    finally:
        (tmp_path / "shut").chmod(0o700)


def reason_of(root: Path, location: str) -> str:
    with pytest.raises(Unreadable) as error:
        open_regular(root, location)
    assert error.value.where is not None
    return error.value.reason


def test_regular_files_open(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "docs/ü b.txt")
    assert open_regular(tmp_path, "a.txt") == tmp_path / "a.txt"
    assert open_regular(tmp_path, "docs/ü b.txt").read_text(encoding="utf-8") == "text"


def test_a_root_behind_a_link_is_the_operators_choice(tmp_path: Path) -> None:
    make(tmp_path / "real", "a.txt")
    link(tmp_path / "root", tmp_path / "real", is_folder=True)
    assert open_regular(tmp_path / "root", "a.txt").is_file()


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("/etc/passwd", "absolute path"),
        ("C:\\windows\\win.ini", "absolute path"),
        ("../outside.txt", "'..' in the path"),
        ("docs/../../outside.txt", "'..' in the path"),
        ("a\0b", "NUL character in the path"),
        ("", "empty path"),
        (".", "a folder, not a regular file"),
        ("docs", "a folder, not a regular file"),
        ("gone.txt", "no such file"),
        ("gone/a.txt", "no such file"),
        ("a.txt/b", "not a folder: a.txt"),
    ],
)
def test_each_refusal_has_its_reason(tmp_path: Path, location: str, reason: str) -> None:
    make(tmp_path / "outside.txt".removesuffix(".txt"), "x")
    root = make(tmp_path / "root", "a.txt", "docs/b.txt")
    assert reason_of(root, location) == reason


def test_links_are_refused_on_every_component(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "real/a.txt")
    link(root / "folder", root / "real", is_folder=True)
    link(root / "file.txt", root / "real/a.txt")
    link(root / "dangling", root / "nowhere")
    assert reason_of(root, "folder/a.txt") == "symbolic link: folder"
    assert reason_of(root, "file.txt") == "symbolic link: file.txt"
    assert reason_of(root, "dangling") == "symbolic link: dangling"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_fifos_sockets_and_devices_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert reason_of(tmp_path, "fifo") == "a FIFO, not a regular file"
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert reason_of(tmp_path, "socket") == "a socket, not a regular file"
    if Path("/dev/null").exists():
        assert reason_of(Path("/dev"), "null") == "a device, not a regular file"


def test_overlong_names_are_the_items_fault(tmp_path: Path) -> None:
    assert reason_of(tmp_path, "a" * 5000)
    assert reason_of(tmp_path, "a\ud800b")


def test_a_root_that_is_gone_is_no_items_fault(tmp_path: Path) -> None:
    with pytest.raises(RagopsError, match="corpus folder no longer exists") as error:
        open_regular(tmp_path / "gone", "a.txt")
    assert not isinstance(error.value, Unreadable)


def test_a_reason_can_be_stored() -> None:
    failure = Unreadable("bad\0 text \ud800\n  and more" + "x" * 5000, where="a\ud800")
    assert failure.reason.startswith("bad\\0 text \\ud800 and more")
    assert len(failure.reason) == LONGEST_REASON
    assert failure.where == "a\\ud800"
    assert refusal("a/b..c/...d") is None


@pytest.mark.skipif(sys.platform == "win32", reason="a link needs a privilege there")
@pytest.mark.parametrize("location", ["docs/deep/a.txt", "docs/a.txt", "a.txt"])
def test_a_link_that_appears_after_the_check_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """The first component becomes a link to a folder, or file, of the same shape outside the corpus."""
    for base, text in (("corpus", "ours"), ("outside", "SECRET")):
        file = tmp_path / base / location
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    root, first = tmp_path / "corpus", location.split("/", maxsplit=1)[0]
    item = Item(1, location)
    read = Documents(Source(folder=root))
    found = read.extract(item, {})
    assert isinstance(found, Extracted)
    assert found.text == "ours"
    real = Path.is_relative_to

    def swap(path: Path, *others: Path) -> bool:  # the last thing that the check looks at
        result = real(path, *others)
        (root / first).rename(tmp_path / "moved")
        (root / first).symlink_to(tmp_path / "outside" / first)
        return result

    monkeypatch.setattr(Path, "is_relative_to", swap)
    failure = read.extract(item, {})
    assert (root / first).is_symlink()
    assert isinstance(failure, Unreadable)
    assert failure.reason == "symbolic link, not a regular file"


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("x", encoding="utf-8")
    (tmp_path / "docs" / "folder").mkdir()
    read, before = Documents(Source(folder=tmp_path)), psutil.Process().num_fds()
    for location in ("docs/a.txt", "docs/none", "docs/folder", "docs/a.txt/x"):
        read.extract(Item(1, location), {})
    assert psutil.Process().num_fds() == before
