"""Read the parts of a document that is a ZIP file, and their XML, within limits."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Protocol
from xml.etree import ElementTree
from xml.parsers import expat

from ragops.documents.errors import Unreadable

# 64 MiB of file expand to 64 GiB at most. No office program writes parts of text of this size.
MOST_BYTES = 512 * 1024 * 1024
MOST_MEMBERS = 100_000
# Office formats and EPUB declare no entities; who does wants them to expand.
_ENTITY = re.compile(rb"<\0?!\0?E\0?N\0?T\0?I\0?T\0?Y")
_DIGITS = re.compile(r"(\d+)")


class Package:
    """The parts of a ZIP file by name. All methods raise Unreadable for what is damaged or too large."""

    def __init__(self, data: bytes) -> None:
        try:
            self._file = zipfile.ZipFile(io.BytesIO(data))
            entries = self._file.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, UnicodeError) as error:
            raise Unreadable(f"damaged: not a whole ZIP file ({error})") from None
        if len(entries) > MOST_MEMBERS:
            raise Unreadable(f"more than {MOST_MEMBERS} members")
        # Names compare without case in OOXML; some writers use backslashes.
        self._entries = {entry.filename.replace("\\", "/").lstrip("/").lower(): entry for entry in entries}
        self._room = MOST_BYTES

    def names(self, prefix: str = "", suffix: str = "") -> list[str]:
        """Return the names of parts in lower case, in the order of their numbers: `slide2` before `slide10`."""
        found = [name for name in self._entries if name.startswith(prefix) and name.endswith(suffix)]
        return sorted(found, key=_by_number)

    def has(self, name: str) -> bool:
        """Return whether a part exists."""
        return name.lower() in self._entries

    def read(self, name: str) -> bytes:
        """Return the bytes of a part."""
        entry = self._entries.get(name.lower())
        if entry is None:
            raise Unreadable(f"damaged: the part {name} is missing")
        if entry.flag_bits & 1:
            raise Unreadable("encrypted: a password is needed")
        try:
            with self._file.open(entry) as part:
                data = part.read(self._room + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise Unreadable(f"damaged: the part {name} cannot be decompressed ({error})") from None
        self._room -= len(data)
        if self._room < 0:
            raise Unreadable(f"decompressed, larger than {MOST_BYTES} bytes")
        return data

    def relations(self, name: str) -> dict[str, tuple[str, str]]:
        """Return id → (last word of the type, name of the part) of an OOXML part; {} if it refers to nothing."""
        folder, _, file = name.rpartition("/")
        source = f"{folder}/_rels/{file}.rels" if folder else f"_rels/{file}.rels"
        if not self.has(source):
            return {}
        found: dict[str, tuple[str, str]] = {}
        for _, element in events(self.read(source), source):
            if element.get("Target") and element.get("TargetMode") != "External":
                target = element.get("Target", "").replace("\\", "/")
                path = posixpath.normpath(target if target.startswith("/") else f"{folder}/{target}")
                kind = element.get("Type", "").rpartition("/")[2]
                found[element.get("Id", "")] = (kind, path.lstrip("/").lower())
        return found

    def related(self, name: str, *kinds: str) -> list[str]:
        """Return the parts of some types that a part refers to, each once, in the order of their names."""
        found = {path for kind, path in self.relations(name).values() if kind in kinds and self.has(path)}
        return [path for path in self.names() if path in found]


def _by_number(name: str) -> list[tuple[str, int]]:
    """Return what sorts names by the numbers in them."""
    parts = [*_DIGITS.split(name), "0"]
    return [(text, int(number)) for text, number in zip(parts[::2], parts[1::2], strict=True)]


def local(tag: str) -> str:
    """Return a name without its namespace: strict and transitional OOXML differ only there."""
    return tag.rpartition("}")[2]


def events(data: bytes, name: str) -> Iterator[tuple[str, ElementTree.Element]]:
    """Return `start` and `end` of each element in order, whose memory is given back behind its end."""
    if _ENTITY.search(data):
        raise Unreadable(f"the part {name} declares entities")
    try:
        for event, element in ElementTree.iterparse(io.BytesIO(data), ("start", "end")):
            yield event, element
            if event == "end":
                element.clear()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Unreadable(f"damaged: the part {name} is no well-formed XML ({error})") from None


class Handler(Protocol):
    """Takes the elements and characters of mixed content as they come; names are without namespace."""

    def start(self, name: str, attributes: dict[str, str]) -> None: ...

    def end(self, name: str) -> None: ...

    def characters(self, text: str) -> None: ...


def handle(data: bytes, name: str, handler: Handler) -> None:
    """Send the XML of a part to a handler."""
    if _ENTITY.search(data):
        raise Unreadable(f"the part {name} declares entities")
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, attributes: handler.start(
        local(tag), {local(key): value for key, value in attributes.items()}
    )
    parser.EndElementHandler = lambda tag: handler.end(local(tag))
    parser.CharacterDataHandler = handler.characters
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise Unreadable(f"damaged: the part {name} is no well-formed XML ({error})") from None


def reference(element: ElementTree.Element, name: str = "id") -> str:
    """Return an attribute of a foreign namespace by its name, as `r:id` beside an `id`; "" if it is absent."""
    for key, value in element.items():
        if key.endswith(f"}}{name}"):
            return value
    return ""
