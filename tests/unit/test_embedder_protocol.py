"""Frames: what is written is read back, what breaks off is an end, what is no frame is refused."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragops.embedder import child, protocol
from ragops.embedder.protocol import BrokenFrame, encode_frame, read_frame

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates included


@given(texts=st.lists(ANY_TEXT, max_size=4), payload=st.binary(max_size=64))
def test_what_is_written_is_read_back(texts: list[str], payload: bytes) -> None:
    frame = read_frame(io.BytesIO(encode_frame({"request": "embed", "texts": texts}, payload)))
    assert frame is not None
    assert frame.header["texts"] == texts
    assert frame.payload == payload


@given(texts=st.lists(ANY_TEXT, max_size=4))
def test_the_child_reads_what_the_parent_writes_and_back(texts: list[str]) -> None:
    assert child.read_frame(io.BytesIO(encode_frame({"texts": texts}))) == ({"texts": texts}, b"")
    sink = io.BytesIO()
    child.write_frame(sink, {"tokens": [1, 2]}, b"\x00\x01")
    sink.seek(0)
    frame = read_frame(sink)
    assert frame is not None
    assert (frame.header["tokens"], frame.payload) == ([1, 2], b"\x00\x01")


def test_every_broken_off_frame_is_an_end() -> None:
    whole = encode_frame({"a": 1}, b"payload")
    for length in range(len(whole)):
        assert read_frame(io.BytesIO(whole[:length])) is None
    assert read_frame(io.BytesIO(whole)) is not None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Traceback (most recent call last)", "starting with b'Trac'"),
        (b"\x00\x00\x00\x03abc", "not JSON"),
        (b"\x00\x00\x00\x02[]", "a list, not an object"),
        (encode_frame({"payload": -1}), "a payload of -1 bytes"),
        (encode_frame({"payload": "many"}), "a payload of 'many' bytes"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BrokenFrame) as caught:
        read_frame(io.BytesIO(data))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "embedder/child.py",
        "embedder/child_engine.py",
        "embedder/child_files.py",
        "embedder/child_vocabulary.py",
        "embedder/child_capture.py",
        "embedder/capture_main.py",
        "builds/standalone.py",
        "builds/library_child.py",
    ],
)
def test_the_child_stands_alone_and_keeps_to_python_3_9(name: str) -> None:
    source = (Path(protocol.__file__).parents[1] / name).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    foreign = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert foreign <= {"llama_cpp", "numpy"}


class _Library:
    __version__ = "0.3.99"

    def llama_print_system_info(self) -> bytes:
        return b"Metal : EMBED = 1 | CPU : SSE3 = 1 | AVX2 = 1 | LLAMAFILE = 1 | "


def test_the_child_reports_the_system_info_and_leaves_it_to_the_parent() -> None:
    facts: dict[str, Any] = child.build_facts(_Library())
    assert "features" not in facts
    assert facts["system_info"].startswith("Metal")
    assert facts["package_version"] == "0.3.99"
