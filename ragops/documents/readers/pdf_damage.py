"""Find the pages of a PDF whose content is damaged: pdfium shows what it can of them and says nothing."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

_OBJECT = re.compile(rb"(?<![0-9])(\d{1,10})[ \t\r\n]+(\d{1,5})[ \t\r\n]+obj\b")
_STREAM = re.compile(rb"stream\r?\n")
_LENGTH = re.compile(rb"/Length[ \t\r\n]+(\d+)(?![ \t\r\n]+\d+[ \t\r\n]+R)")
_REFERENCES = re.compile(rb"(\d+)[ \t\r\n]+\d+[ \t\r\n]+R\b")
_CONTENTS = re.compile(rb"/Contents[ \t\r\n]*(\[[^\]]*\]|\d+[ \t\r\n]+\d+[ \t\r\n]+R)")
_KIDS = re.compile(rb"/Kids[ \t\r\n]*\[([^\]]*)\]")
_PAGES = re.compile(rb"/Type[ \t\r\n]*/Pages\b")
_PAGE = re.compile(rb"/Type[ \t\r\n]*/Page(?![A-Za-z])")
_OBJECT_STREAM = re.compile(rb"/Type[ \t\r\n]*/ObjStm\b")
# Streams that are no content of a page: fonts, pictures, profiles, tables of objects.
_NOT_A_PAGE = re.compile(rb"/(?:Subtype|Length1|Length2|N|FunctionType|Type)\b")
_MOST = 64 * 1024 * 1024
_DEEPEST = 50


@dataclass(slots=True)
class Damage:
    """Pages with damaged content, by number; `unplaced` names damage that belongs to no page that is known."""

    pages: set[int] = field(default_factory=set)
    unplaced: set[str] = field(default_factory=set)

    def __contains__(self, number: int) -> bool:
        return number in self.pages


def damaged_pages(data: bytes) -> Damage:
    """Return the pages whose content streams cannot be decompressed to their end.

    Nothing is said about an encrypted file, whose streams cannot be checked, and about other compressions.
    """
    damage = Damage()
    if b"/Encrypt" in data:
        return damage
    broken: set[int] = set()
    objects: dict[int, bytes] = {}
    for number, head, body in _objects(data):
        objects[number] = head
        if body is None or b"/FlateDecode" not in head or b"/DecodeParms" in head:
            if body is not None and _OBJECT_STREAM.search(head):
                objects |= _inside(head, _inflated(body)[0])
            continue
        if _OBJECT_STREAM.search(head):
            objects |= _inside(head, _inflated(body)[0])
        elif not _NOT_A_PAGE.search(head) and head.count(b"Decode") == 1 and not _inflated(body)[1]:
            broken.add(number)
        else:
            broken.discard(number)  # a later version of the object
    if not broken:
        return damage
    placed: set[int] = set()
    for index, page in enumerate(_page_order(objects), start=1):
        contents = _CONTENTS.search(objects[page])
        used = {int(one) for one in _REFERENCES.findall(contents[1])} if contents else set()
        for one in list(used):  # an array of streams may be an object as well
            used |= {int(x) for x in _REFERENCES.findall(objects.get(one, b""))} if one not in broken else set()
        if used & broken:
            damage.pages.add(index)
            placed |= used & broken
    damage.unplaced = set()
    return damage


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
    stream = zlib.decompressobj()
    parts: list[bytes] = []
    try:
        # Piece by piece, so that what stands before the damage is kept.
        for start in range(0, len(body), 65536):
            parts.append(stream.decompress(body[start : start + 65536], _MOST))
            if stream.eof or stream.unconsumed_tail:
                return b"".join(parts), True
    except zlib.error:
        return b"".join(parts), False
    # Some writers leave the checksum out; the text is whole.
    return b"".join(parts), stream.eof or bool(parts)


def _inside(head: bytes, body: bytes) -> dict[int, bytes]:
    """Return the objects of an object stream."""
    first = re.search(rb"/First[ \t\r\n]+(\d+)", head)
    if first is None:
        return {}
    begin = int(first[1])
    numbers = [int(one) for one in body[:begin].split() if one.isdigit()]
    pairs = sorted(zip(numbers[1::2], numbers[::2], strict=False))
    ends = [offset for offset, _ in pairs[1:]] + [len(body) - begin]
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
