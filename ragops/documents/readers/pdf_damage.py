"""Look at the content of a PDF's pages itself: of a damaged one, pdfium shows what it can and says nothing."""

from __future__ import annotations

import re
import zlib

_OBJECT = re.compile(rb"(?<![0-9])(\d{1,10})[ \t\r\n]+(\d{1,5})[ \t\r\n]+obj\b")
_STREAM = re.compile(rb"stream\r?\n")
_LENGTH = re.compile(rb"/Length[ \t\r\n]+(\d+)(?![0-9])(?![ \t\r\n]+\d+[ \t\r\n]+R)")
_REFERENCES = re.compile(rb"(\d+)[ \t\r\n]+\d+[ \t\r\n]+R\b")
_CONTENTS = re.compile(rb"/Contents[ \t\r\n]*(\[[^\]]*\]|\d+[ \t\r\n]+\d+[ \t\r\n]+R)")
_KIDS = re.compile(rb"/Kids[ \t\r\n]*\[([^\]]*)\]")
_PAGES = re.compile(rb"/Type[ \t\r\n]*/Pages\b")
_PAGE = re.compile(rb"/Type[ \t\r\n]*/Page(?![A-Za-z])")
_OBJECT_STREAM = re.compile(rb"/Type[ \t\r\n]*/ObjStm\b")
# Streams that are no content of a page: fonts, pictures, profiles, tables of objects.
_NOT_A_PAGE = re.compile(rb"/(?:Subtype|Length1|Length2|N|FunctionType|Type)\b")
_MOST = 64 * 1024 * 1024


# What shows something on a page: text, pictures, shadings. Other bytes than ASCII stand in strings only.
_SHOWS = re.compile(rb"[\x80-\xff]|\b(?:Tj|TJ|Do|BI|sh)\b")


class Contents:
    """The content streams of a file's pages, as they stand in it; empty for an encrypted file."""

    def __init__(self, data: bytes) -> None:
        self._bodies: dict[int, tuple[bytes, bytes]] = {}
        self._objects: dict[int, bytes] = {}
        self.damaged: set[int] = set()
        """Pages whose content cannot be decompressed to its end; by number from 1."""
        self._pages: list[int] | None = None
        if b"/Encrypt" in data:
            return
        broken: set[int] = set()
        for number, head, body in _objects(data):
            self._objects[number] = head
            broken.discard(number)  # a later version of the object
            if body is None or _OBJECT_STREAM.search(head):
                if body is not None:
                    self._objects |= _inside(head, _inflated(body)[0])
            elif not _NOT_A_PAGE.search(head):
                self._bodies[number] = (head, body)
                if _is_plain_flate(head) and not _inflated(body)[1]:
                    broken.add(number)
        if broken:
            self.damaged = {
                index for index, page in enumerate(self._order(), start=1) if self._streams(page) & broken
            }

    def shows_something(self, number: int) -> bool:
        """Return whether a page's content says that there is something on it: for a page that shows nothing."""
        order = self._order()
        if not 0 < number <= len(order):
            return False
        for stream in self._streams(order[number - 1]):
            head, body = self._bodies.get(stream, (b"", b""))
            if b"Filter" not in head:
                content = body
            elif _is_plain_flate(head):
                content = _inflated(body)[0]
            else:
                continue
            if _SHOWS.search(content):
                return True
        return False

    def _order(self) -> list[int]:
        if self._pages is None:
            self._pages = _page_order(self._objects)
        return self._pages

    def _streams(self, page: int) -> set[int]:
        """Return the numbers of a page's content streams."""
        contents = _CONTENTS.search(self._objects[page])
        used = {int(one) for one in _REFERENCES.findall(contents[1])} if contents else set()
        for one in [
            one for one in used if one not in self._bodies
        ]:  # an array of streams may be an object as well
            used |= {int(reference) for reference in _REFERENCES.findall(self._objects.get(one, b""))}
        return used


def _is_plain_flate(head: bytes) -> bool:
    return b"/FlateDecode" in head and head.count(b"Decode") == 1


def _objects(data: bytes) -> list[tuple[int, bytes, bytes | None]]:
    """Return number, dictionary, and bytes from the begin of the stream, of each object in the file's order."""
    found: list[tuple[int, bytes, bytes | None]] = []
    position = 0
    while (begin := _OBJECT.search(data, position)) is not None:
        end = data.find(b"endobj", begin.end())
        end = len(data) if end < 0 else end
        stream = _STREAM.search(data, begin.end(), end)
        if stream is None:
            found.append((int(begin[1]), data[begin.end() : end], None))
            position = end
            continue
        head = data[begin.end() : stream.start()]
        length = _LENGTH.search(head)
        until = stream.end() + int(length[1]) if length else data.find(b"endstream", stream.end())
        until = until if stream.end() <= until <= len(data) else len(data)
        found.append((int(begin[1]), head, data[stream.end() : until]))
        position = max(until, begin.end())
    return found


def _inflated(body: bytes) -> tuple[bytes, bool]:
    """Return what can be decompressed, and whether that is all."""
    content, is_whole = _run(zlib.decompressobj(), body)
    if not is_whole and body:
        # Some writers leave the checksum out or write a wrong one; the text is whole.
        content, is_whole = _run(zlib.decompressobj(wbits=-15), body[2:])
    return content, is_whole


def _run(stream: zlib._Decompress, body: bytes) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    try:
        # Piece by piece, so that what stands before the damage is kept.
        for start in range(0, len(body), 65536):
            parts.append(stream.decompress(body[start : start + 65536], _MOST))
            if stream.eof or stream.unconsumed_tail:
                return b"".join(parts), True
    except zlib.error:
        pass
    return b"".join(parts), False


def _inside(head: bytes, body: bytes) -> dict[int, bytes]:
    """Return the objects of an object stream."""
    first = re.search(rb"/First[ \t\r\n]+(\d+)", head)
    if first is None:
        return {}
    begin = int(first[1])
    numbers = [int(one) for one in body[:begin].split() if one.isdigit()]
    pairs = sorted(zip(numbers[1::2], numbers[::2], strict=False))
    ends = [offset for offset, _ in pairs[1:]] + [len(body) - begin][: len(pairs)]
    return {number: body[begin + offset : begin + end] for (offset, number), end in zip(pairs, ends, strict=True)}


def _page_order(objects: dict[int, bytes]) -> list[int]:
    """Return the numbers of the page objects in the order of the pages, by the tree of pages."""
    roots = {number for number, text in objects.items() if _PAGES.search(text)}
    inner = {int(kid) for number in roots for kid in _kids(objects[number])}
    order: list[int] = []
    stack = sorted(roots - inner, reverse=True)
    seen: set[int] = set()
    while stack:
        number = stack.pop()
        text = objects.get(number, b"")
        if number in seen:
            continue
        seen.add(number)
        if _PAGES.search(text):
            stack += [int(kid) for kid in reversed(_kids(text))]
        elif _PAGE.search(text):
            order.append(number)
    return order


def _kids(text: bytes) -> list[bytes]:
    kids = _KIDS.search(text)
    return _REFERENCES.findall(kids[1]) if kids else []
