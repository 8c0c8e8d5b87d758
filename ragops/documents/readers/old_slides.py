"""Read PPT (PowerPoint 97 to 2003): slide by slide, each with its notes.

Source of the format: [MS-PPT], sections 2.1.2 (PowerPoint Document stream), 2.3 (persist directory), 2.9 (text).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ragops.documents.errors import Unreadable
from ragops.documents.readers.result import Read
from ragops.documents.readers.streams import Streams

MEDIA_TYPE = "application/vnd.ms-powerpoint"
_USER_EDIT, _PERSIST = 0x0FF5, 0x1772
_LIST, _SLIDE_ENTRY, _NOTES_ATOM = 0x0FF0, 0x03F3, 0x03F1
_CHARACTERS, _BYTES, _OUTLINE_REFERENCE = 0x0FA0, 0x0FA8, 0x0F9E
_SLIDES, _NOTES = 0, 2
_COMMENT, _STRING = 0x2EE0, 0x0FBA
_ENCRYPTION_TOKEN = 0xF3D1C4DF
_CONTAINER = 0x0F
_DEEPEST = 60
# A slide's number or date is a `*` in its text, which the program replaces.
_FIELDS = "*"


def read_old_slides(streams: Streams) -> Read:
    """Return the text of a presentation in the order of its slides."""
    data = streams.read("PowerPoint Document")
    current = streams.read("Current User")
    if len(current) < 20:
        raise Unreadable("damaged: no current user in the presentation")
    token, edit = struct.unpack_from("<II", current, 12)
    if token == _ENCRYPTION_TOKEN:
        raise Unreadable("encrypted: a password is needed")
    places, main = _directory(data, edit)
    outline = _outline(data, places.get(main, -1))
    texts: list[str] = []
    missing: list[str] = []
    slides = outline[_SLIDES]
    notes = {_slide_of(data, places.get(entry, -1)): entry for entry, _, _ in outline[_NOTES]}
    for number, (entry, identifier, titles) in enumerate(slides, start=1):
        place = places.get(entry, -1)
        if place < 0:
            missing.append(f"slide {number}")
            texts.append("\n".join(titles))
            continue
        parts = [*titles, *_texts(data, place)]
        if identifier in notes and places.get(notes[identifier], -1) >= 0:
            parts += _texts(data, places[notes[identifier]])
        texts.append("\n".join(part for part in parts if part.strip() and part.strip() != _FIELDS))
    text = "\n\n".join(text for text in texts if text)
    return Read(text, MEDIA_TYPE, len(slides) - len(missing), len(slides), "slides", tuple(missing))


def _record(data: bytes, position: int) -> tuple[int, int, int, int]:
    """Return version, instance, type and end of the record at a place. Raises Unreadable beyond the data."""
    if position < 0 or position + 8 > len(data):
        raise Unreadable("damaged: a record of the presentation is missing")
    head, kind, length = struct.unpack_from("<HHI", data, position)
    return head & 0x0F, head >> 4, kind, min(position + 8 + length, len(data))


def _directory(data: bytes, edit: int) -> tuple[dict[int, int], int]:
    """Return where each object's newest version is, and the number of the document's."""
    places: dict[int, int] = {}
    main = 0
    seen: set[int] = set()
    while edit and edit not in seen:
        seen.add(edit)
        _, _, kind, end = _record(data, edit)
        if kind != _USER_EDIT or edit + 28 > end:
            raise Unreadable("damaged: no list of the objects of the presentation")
        before, directory, document = struct.unpack_from("<III", data, edit + 16)
        main = main or document
        _, _, kind, end = _record(data, directory)
        position = directory + 8
        while kind == _PERSIST and position + 4 <= end:
            packed = struct.unpack_from("<I", data, position)[0]
            first, count = packed & 0xFFFFF, packed >> 20
            position += 4
            for index in range(min(count, (end - position) // 4)):
                places.setdefault(first + index, struct.unpack_from("<I", data, position + 4 * index)[0])
            position += 4 * count
        edit = before
    return places, main


def _children(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield version, instance, type, and the bounds of the body, of the records within bounds."""
    while begin + 8 <= end:
        version, instance, kind, until = _record(data, begin)
        yield version, instance, kind, begin + 8, min(until, end)
        begin = until


def _outline(data: bytes, place: int) -> dict[int, list[tuple[int, int, list[str]]]]:
    """Return, for the lists of slides and of notes, each entry's object, identifier and texts of the outline."""
    found: dict[int, list[tuple[int, int, list[str]]]] = {_SLIDES: [], 1: [], _NOTES: []}
    _, _, _, end = _record(data, place)
    for _, instance, kind, begin, until in _children(data, place + 8, end):
        if kind != _LIST:
            continue
        entries = found.setdefault(instance, [])
        for _, _, inner, start, stop in _children(data, begin, until):
            if inner == _SLIDE_ENTRY and stop - start >= 16:
                entries.append((*struct.unpack_from("<I8xI", data, start), []))
            elif inner in (_CHARACTERS, _BYTES) and entries:
                entries[-1][2].append(_decoded(inner, data[start:stop]))
    return found


def _slide_of(data: bytes, place: int) -> int:
    """Return the identifier of the slide that some notes belong to; -1 if they say none."""
    if place < 0:
        return -1
    _, _, _, end = _record(data, place)
    for _, _, kind, start, stop in _children(data, place + 8, end):
        if kind == _NOTES_ATOM and stop - start >= 4:
            return int(struct.unpack_from("<I", data, start)[0])
    return -1


def _texts(data: bytes, place: int) -> list[str]:
    """Return the texts of a slide's shapes and comments; those of its outline are in the list of slides."""
    found: list[str] = []
    _, _, _, end = _record(data, place)
    stack = [(iter(_children(data, place + 8, end)), 0)]
    while stack:
        children, outer = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            continue
        version, instance, kind, start, stop = child
        if kind in (_CHARACTERS, _BYTES) or (kind == _STRING and outer == _COMMENT and instance == 1):
            found.append(_decoded(kind, data[start:stop]))
        elif version == _CONTAINER:
            if len(stack) > _DEEPEST:
                raise Unreadable(f"records within records, more than {_DEEPEST} levels deep")
            stack.append((iter(_children(data, start, stop)), kind))
    return found


def _decoded(kind: int, data: bytes) -> str:
    """Return a text; `\\r` ends a paragraph, `\\v` a line."""
    text = data.decode("latin-1") if kind == _BYTES else data.decode("utf-16-le", "replace")
    return text.replace("\r", "\n").replace("\x0b", "\n")
