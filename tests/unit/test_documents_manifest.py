"""Manifests: what is listed is given back; the fast paths are taken only where the slow one gives the same."""

from __future__ import annotations

import codecs
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragops.documents import manifest as manifests
from ragops.documents.left_out import LeftOut, storable
from ragops.documents.locations import is_reserved, normalised, plain_line, plain_lines, refusal
from ragops.documents.manifest import MOST_BAD_LINES, read_manifest
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
        assert list(read_manifest(file)) == list(dict.fromkeys(expected))


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
    once = list(dict.fromkeys(locations))
    with tempfile.TemporaryDirectory() as folder:
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):  # the latter two with a byte order mark
            assert manifest(Path(folder), "\r\n".join(locations).encode(encoding)) == once


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


def test_repeated_lines_make_one_document_and_are_counted(tmp_path: Path) -> None:
    lines = ["a.txt", "b.txt", "./a.txt", "# a.txt", "a.txt", "c.txt", "b.txt"]
    file = tmp_path / "manifest.txt"
    for before in ([], [f"docs/{number}.txt" for number in range(20_000)]):
        file.write_text("\n".join([*before, *lines]), encoding="utf-8")
        left_out = LeftOut()
        assert list(read_manifest(file, left_out=left_out)) == [*before, "a.txt", "b.txt", "c.txt"]
        (line,) = left_out.lines()
        numbers = [f"{len(before) + place:,}" for place in (3, 5, 7)]
        assert line == "3 lines of the manifest that name a file again: " + ", ".join(
            f"{name}.txt (line {number})" for name, number in zip("aab", numbers, strict=True)
        )
        assert not left_out.is_problem


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_manifest_may_come_through_a_pipe(tmp_path: Path) -> None:
    pipe, left_out = tmp_path / "pipe", LeftOut()
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("a.txt\nb.txt\na.txt\n",))
    writer.start()
    assert list(read_manifest(pipe, left_out=left_out)) == ["a.txt", "b.txt"]
    writer.join()
    assert left_out.counts == {"repeated": 1}


def test_all_wrong_lines_are_named_at_once_with_spaces_that_can_be_seen(tmp_path: Path) -> None:
    wrong = "".join(f"/etc/{number}.txt \n" for number in range(MOST_BAD_LINES))
    with pytest.raises(UsageError, match="13 invalid lines in the manifest") as error:
        manifest(tmp_path, f"good.txt\n../up.txt\n{wrong}\nalso/good.txt\nC:\\x\na\0b\n".encode())
    lines = str(error.value.actual).split("\n")
    assert lines[:2] == ["line 2: ../up.txt: '..' in the path", "line 3: '/etc/0.txt ': absolute path"]
    assert len(lines) == MOST_BAD_LINES + 1 and lines[-1] == "and 3 more"


def test_a_manifest_in_utf_16_without_a_mark_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="3 invalid lines") as error:
        manifest(tmp_path, "a.txt\nb.txt\n".encode("utf-16-le"))
    assert "UTF-16 without a byte order mark? Save the manifest as UTF-8" in str(error.value.actual)
    with pytest.raises(UsageError, match="not the UTF-16 text"):
        manifest(tmp_path, codecs.BOM_UTF16_LE + b"\x00\xd8\x0a\x00")


def test_a_line_that_the_queue_cannot_store_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "manifest.txt"
    file.write_text("a.txt\nlonger.txt\n", encoding="utf-8")
    with pytest.raises(UsageError, match="10 characters, and the queue's column takes 8") as error:
        list(read_manifest(file, is_storable=storable(8)))
    assert error.value.where == f"{file}, line 2"


def test_a_missing_manifest_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="manifest cannot be opened"):
        list(read_manifest(tmp_path / "gone.txt"))
