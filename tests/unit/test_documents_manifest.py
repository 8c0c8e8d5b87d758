"""Manifests: what is listed is given back; the fast paths are taken only where the slow one gives the same."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragops.documents import manifest as manifests
from ragops.documents.locations import is_reserved, normalised, plain_line, plain_lines, refusal
from ragops.documents.manifest import read_manifest
from ragops.errors import UsageError

NAMES = st.text(alphabet="abcXY1_", min_size=1, max_size=6).filter(lambda name: not is_reserved(name))


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(alphabet="ab1.-_ /\\:#\t\r\n\x00\x1cé", max_size=9))
def test_a_line_is_plain_only_where_the_slow_way_finds_nothing(line: str) -> None:
    location = plain_line(f"{line}\n".encode())
    if location is not None:
        assert location == normalised(line.rstrip("\r\n"))
        assert refusal(location) is None
        assert normalised(location) == location
        assert location.strip() and not location.startswith("#")


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.text(alphabet="ab1.-_ /\\:#\t\r\x00\x1cé", max_size=6), min_size=1, max_size=4), st.booleans())
def test_a_block_is_plain_only_where_each_of_its_lines_is(lines: list[str], is_ended: bool) -> None:
    block = ("\n".join(lines) + ("\n" if is_ended else "")).encode()
    found = plain_lines(block)
    # Of the block, not of `lines`: an empty last one without an end is no line.
    whole = block.removesuffix(b"\n").split(b"\n")
    assert found is None or found == [plain_line(line) for line in whole]


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.lists(st.sampled_from(["a.txt", "b/c.md", "./d", "# no", "", "é/f", "g\r"]), max_size=400), st.booleans()
)
def test_blocks_and_lines_say_the_same(lines: list[str], is_ended: bool) -> None:
    text = "\n".join(lines) + ("\n" if is_ended else "")
    expected = [normalised(line.rstrip("\r")) for line in lines if line.strip() and not line.startswith("#")]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "LONGEST_LINE_BYTES", 16)
        file = Path(folder) / "list.txt"
        file.write_bytes(text.encode())
        assert list(read_manifest(file)) == expected


@pytest.mark.skipif(os.name == "nt", reason="every name is looked at there")
def test_the_usual_line_is_plain() -> None:
    for line in ("a.txt", "part 1/a-b_(2).md", "x/y/z"):
        assert plain_line(f"{line}\n".encode()) == plain_line(f"{line}\r\n".encode()) == line
        assert plain_line(line.encode()) == line
    assert plain_line(b"././a/b\n") == "a/b"
    for line in ("./.a", "a//b", "a/", "a/./b", "/a", "#a", " a", "c:a", "a\\b", "é", "", "a\rb", "a\r\r"):
        assert plain_line(f"{line}\n".encode()) is None, line


def manifest(folder: Path, data: bytes) -> list[str]:
    file = folder / "manifest.txt"
    file.write_bytes(data)
    return list(read_manifest(file))


def test_manifest_lines(tmp_path: Path) -> None:
    data = "\ufeff# head\r\na.txt\r\n\r\n  \n./b//c é.txt\n #no comment\n#x".encode()
    assert manifest(tmp_path, data) == ["a.txt", "b/c é.txt", " #no comment"]
    assert manifest(tmp_path, b"") == []


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=20))
def test_manifest_gives_back_what_was_listed(locations: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert manifest(Path(folder), "\n".join(locations).encode()) == locations


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"/etc/passwd", "absolute"),
        (b"C:\\secret.txt", "absolute"),
        (b"\\\\server\\share\\x", "absolute"),
        (b"a/../../b", "'..'"),
        (b"a\\..\\b", "'..'"),
        (b"a\0b", "NUL"),
        (b"caf\xe9", "0xe9"),
        (b"a" * 70_000, "without a line's end"),
    ],
)
def test_a_wrong_manifest_line_is_named(tmp_path: Path, line: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as error:
        manifest(tmp_path, b"good.txt\n# note\n" + line + b"\nlater.txt\n")
    assert error.value.where == f"{tmp_path / 'manifest.txt'}, line 3"


def test_a_missing_manifest_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="manifest cannot be opened"):
        list(read_manifest(tmp_path / "gone.txt"))
