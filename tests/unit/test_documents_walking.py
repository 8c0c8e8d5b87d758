"""What a walk takes, what it leaves out and says, and that it enters no folder for nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_file
from ragops.documents.left_out import MOST_NAMED, LeftOut, storable
from ragops.documents.opening import open_document
from ragops.documents.patterns import Place, Selection
from ragops.documents.reading import Reading
from ragops.documents.walking import walk_folder
from ragops.errors import UsageError

POSIX_NAMES = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
LINKS = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
PARTS = st.sampled_from(["a", "b", "ab", "c.md", "d.txt"])
LOCATIONS = st.lists(PARTS, min_size=1, max_size=4).map(tuple)
PATTERNS = st.lists(st.sampled_from(["*", "**", "a", "a*", "?b", "*.md", "[bd]*"]), min_size=1, max_size=4).map(
    "/".join
)


def make(root: Path, *locations: str) -> Path:
    for location in locations:
        file = root / location
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"text of " + os.fsencode(location))
    return root


def meets(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """The documented meaning of a pattern with a slash, by recursion."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return meets(parts, pattern[1:]) or (bool(parts) and meets(parts[1:], pattern))
    return bool(parts) and Path(parts[0]).match(pattern[0]) and meets(parts[1:], pattern[1:])


def is_chosen(parts: tuple[str, ...], include: list[str], exclude: list[str]) -> bool:
    def is_met(parts: tuple[str, ...], pattern: str) -> bool:
        segments = tuple(pattern.split("/"))
        if segments[-1] == "**":
            segments = (*segments, "*")
        return meets(parts, segments if len(segments) > 1 else ("**", *segments))

    above = [parts[:end] for end in range(1, len(parts) + 1)]
    return any(is_met(parts, pattern) for pattern in include) and not any(
        is_met(place, pattern) for place in above for pattern in exclude
    )


@given(LOCATIONS, st.lists(PATTERNS, min_size=1, max_size=3), st.lists(PATTERNS, max_size=2))
def test_a_pruned_walk_is_an_unpruned_one_filtered(
    parts: tuple[str, ...], include: list[str], exclude: list[str]
) -> None:
    selection = Selection(include, exclude)
    place: Place | None = selection.root
    for folder in parts[:-1]:
        place = place and selection.enter(place, folder)
    assert (place is not None and place.wants(parts[-1])) == is_chosen(parts, include, exclude)


@pytest.mark.parametrize(
    ("include", "exclude", "entered"),
    [
        (["docs/**/*.md"], [], ["", "docs", "docs/deep"]),
        (["docs/*.md"], [], ["", "docs"]),
        (["*.md"], [], ["", "docs", "docs/deep", "lost+found"]),
        (["*.md"], ["lost+found"], ["", "docs", "docs/deep"]),
        (["*.md"], ["lost+found/**", "docs/deep/"], ["", "docs"]),
        (["*.md"], ["docs/**/*"], ["", "lost+found"]),
        (["**/deep/*.md"], ["lost*"], ["", "docs", "docs/deep"]),
    ],
)
def test_folders_that_no_pattern_reaches_are_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, include: list[str], exclude: list[str], entered: list[str]
) -> None:
    make(tmp_path, "a.md", "docs/b.md", "docs/deep/c.md", "lost+found/d.md")
    listed: list[str] = []
    scandir = os.scandir

    def noted(path: Path) -> Iterator[os.DirEntry[str]]:
        listed.append(path.relative_to(tmp_path).as_posix().removeprefix("."))
        return scandir(str(path))

    monkeypatch.setattr(os, "scandir", noted)
    list(walk_folder(tmp_path, include, exclude))
    assert sorted(listed) == entered


def test_excluded_files_and_folders(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "a.draft.md", "docs/b.md", "docs/old/c.md", "docs/old.md", "old/d.md")
    assert list(walk_folder(tmp_path, ["*.md"], ["*.draft.*", "old"])) == ["a.md", "docs/b.md", "docs/old.md"]
    assert list(walk_folder(tmp_path, ["docs/**"], ["docs/old/**"])) == ["docs/b.md", "docs/old.md"]
    with pytest.raises(UsageError) as error:
        walk_folder(tmp_path, ["*"], ["../x"])
    assert error.value.hint == "check source.exclude in the playbook or --exclude"


def test_hidden_files_on_request(tmp_path: Path) -> None:
    make(tmp_path, ".hidden.md", ".github/a.md", ".git/x.md", "b.md")
    assert list(walk_folder(tmp_path, ["*.md"], [".git"], hidden=True)) == [".github/a.md", ".hidden.md", "b.md"]


def deny(monkeypatch: pytest.MonkeyPatch, error: OSError, *names: str) -> None:
    """Let folders of these names fail to be listed, as root is denied nothing."""
    scandir = os.scandir

    def denied(path: Path) -> Iterator[os.DirEntry[str]]:
        if path.name in names:
            raise error
        return scandir(str(path))

    monkeypatch.setattr(os, "scandir", denied)


def test_folders_that_cannot_be_listed_are_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = [f"closed{number}" for number in range(MOST_NAMED + 2)]
    make(tmp_path, "a.md", "z/b.md", *(f"{name}/x.md" for name in closed))
    deny(monkeypatch, PermissionError(13, "Permission denied"), *closed)
    left_out = LeftOut()
    assert list(walk_folder(tmp_path, ["*.md"], left_out=left_out)) == ["a.md", "z/b.md"]
    (line,) = left_out.lines()
    assert line.startswith("7 folders that cannot be listed: closed0 (Permission denied), closed1 (")
    assert line.endswith("closed4 (Permission denied), …")
    assert left_out.is_problem and "source.exclude" in left_out.cure
    assert left_out.to_json()["folders"]["count"] == 7  # type: ignore[index]


def test_a_path_that_is_too_long_is_no_matter_of_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "deep/x.md")
    deny(monkeypatch, OSError(36, "File name too long"), "deep")
    monkeypatch.setattr("errno.ENAMETOOLONG", 36)
    left_out = LeftOut()
    assert list(walk_folder(tmp_path, ["*.md"], left_out=left_out)) == []
    assert "longer than this system opens: shorten the names" in left_out.lines()[0]


@POSIX_NAMES
def test_names_that_cannot_be_stored_are_named(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "größe.txt", os.fsdecode(b"gr\xdfe.txt"), "x" * 30 + ".txt")
    left_out = LeftOut()
    fits = storable(20, "ascii")
    assert list(walk_folder(tmp_path, ["*"], left_out=left_out, is_storable=fits)) == ["a.txt"]
    assert left_out.lines() == [
        "3 files whose names cannot be stored: größe.txt (the database's encoding has no 'ö'), "
        "gr\\xdfe.txt (its bytes are not UTF-8), "
        + "x" * 30
        + ".txt (34 characters, and the queue's column takes 20)"
    ]


@LINKS
def test_links_inside_the_root_on_request(tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: `file.txt` → `..data/file.txt`, `..data` → a hidden folder."""
    outside = make(tmp_path / "outside", "secret.txt")
    root = make(tmp_path / "root", "..2026/file.txt", "docs/a.txt", "shared/b.txt", "shared/deep/c.txt", "raw.bin")
    (root / "..data").symlink_to("..2026")
    (root / "file.txt").symlink_to("..data/file.txt")
    (root / "docs/again.txt").symlink_to("../shared/b.txt")
    (root / "docs/raw.txt").symlink_to("../raw.bin")
    (root / "docs/raw2.txt").symlink_to("../raw.bin")
    (root / "docs/shared").symlink_to("../shared")
    (root / "docs/loop").symlink_to("..")
    (root / "stolen.txt").symlink_to(outside / "secret.txt")
    (root / "stolen").symlink_to(outside)
    (root / "dangling.txt").symlink_to("nowhere")

    def walk(*include: str) -> tuple[list[str], LeftOut]:
        left_out = LeftOut()
        return list(walk_folder(root, include, follow_links=True, left_out=left_out)), left_out

    found, left_out = walk("*.txt")
    # Twice through links alone: once. Also under its own path: under that.
    assert found == ["docs/a.txt", "docs/raw.txt", "file.txt", "shared/b.txt", "shared/deep/c.txt"]
    assert left_out.counts == {"links": 3} and "leads outside the corpus folder" in left_out.lines()[0]
    assert walk("docs/**/*.txt")[0] == ["docs/a.txt", "docs/again.txt", "docs/raw.txt", "docs/shared/deep/c.txt"]
    for location in found:
        with open_document(root, location, follow_links=True) as opened:
            assert opened.read().startswith(b"text of")
    for location in ("stolen.txt", "stolen/secret.txt"):
        with pytest.raises(Unreadable, match="outside"):
            open_document(root, location, follow_links=True)
        with pytest.raises(Unreadable, match="symbolic link"):
            open_document(root, location)
    plain = LeftOut()
    assert list(walk_folder(root, ["*.txt"], left_out=plain)) == [
        "docs/a.txt",
        "shared/b.txt",
        "shared/deep/c.txt",
    ]
    assert plain.unfollowed and not plain.lines()


@LINKS
def test_many_links_to_one_folder_take_no_exponential_time(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"d{number}").mkdir()
        for link in ("x", "y"):
            (tmp_path / f"d{number}" / link).symlink_to(f"../d{number + 1}")
    make(tmp_path, "d30/end.md")
    assert list(walk_folder(tmp_path, ["*.md"], follow_links=True)) == ["d30/end.md"]


@pytest.mark.parametrize(
    ("name", "suffixes"),
    [
        ("README.Debian", [".debian"]),
        ("Makefile.am", [".am"]),
        ("v1.2 notes", ["v* notes"]),
        ("dot. txt", ["dot. txt"]),
        ("page.HTML", [".html"]),
    ],
)
def test_more_names_are_plain_text_on_request(tmp_path: Path, name: str, suffixes: list[str]) -> None:
    (tmp_path / name).write_text("plain <b>words</b>", encoding="utf-8")
    assert (
        extract_file(tmp_path / name, reading=Reading(text_suffixes=tuple(suffixes))).text == "plain <b>words</b>"
    )
