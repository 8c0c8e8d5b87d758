"""Read RTF: the text, notes and frames behind their paragraph, headers and footers at the end.

Source of the format: Rich Text Format (RTF) Specification, version 1.9.1, Microsoft.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ragops.documents.encodings import decode_declared
from ragops.documents.errors import Unreadable
from ragops.documents.readers.lines import Lines
from ragops.documents.readers.result import Read, measured, visible

MEDIA_TYPE = "application/rtf"
_TOKEN = re.compile(
    rb"\\(?P<word>[A-Za-z]{1,32})(?P<number>-?\d{1,10})? ?|\\'(?P<hex>[0-9A-Fa-f]{2})|\\(?P<symbol>[^A-Za-z])"
    rb"|(?P<group>[{}])|[\r\n]+|(?P<text>[^\\{}\r\n]+)",
    re.DOTALL,
)
_DEEPEST = 5000
_HIDDEN_WORDS = """
    fonttbl colortbl stylesheet info pict objdata themedata colorschememapping datastore latentstyles listtable
    listoverridetable rsidtbl generator xmlnstbl fldinst bkmkstart bkmkend nonshppict filetbl revtbl pgptbl upr
    xe tc tcn rxe ftnsep ftnsepc ftncn aftnsep aftnsepc aftncn atnid atnauthor atndate atnref atntime atnparent
    atrfstart atrfend template private blipuid wgrffmtfilter mailmerge protusertbl userprops falt panose
"""
_HIDDEN = frozenset(_HIDDEN_WORDS.split())
_SHOWN_AGAIN = frozenset({"ud", "shptxt", "annotation", "fldrslt", "result"})
_ASIDE = frozenset({"footnote", "annotation", "shptxt"})
_PRINTED = frozenset({"header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf"})
_CHARACTERS = {
    **dict.fromkeys(("tab", "cell", "nestcell"), "\t"),
    **dict.fromkeys(("line", "lbr", "softline"), "\n"),
    **{"emdash": "—", "endash": "–", "bullet": "•", "lquote": "‘", "rquote": "’", "ldblquote": "“"},
    **{"rdblquote": "”", "emspace": " ", "enspace": " ", "qmspace": " "},
}
_LINE_ENDS = frozenset({"par", "row", "nestrow", "page", "sect", "column", "softpage"})
_SYMBOLS = {"~": "\xa0", "_": "-", "\t": "\t", "\\": "\\", "{": "{", "}": "}"}
# \fcharset → label. 0 and 1 are the document's own code page, 2 is a font of pictures.
_CHARSETS = {77: "macintosh", 128: "shift_jis", 129: "euc-kr", 130: "johab", 134: "gbk", 136: "big5"} | {
    161: "windows-1253",
    162: "windows-1254",
    163: "windows-1258",
    177: "windows-1255",
    178: "windows-1256",
    186: "windows-1257",
    204: "windows-1251",
    222: "windows-874",
    238: "windows-1250",
    255: "cp850",
}
_CODE_PAGES = {
    **{
        932: "shift_jis",
        936: "gbk",
        949: "euc-kr",
        950: "big5",
        1361: "johab",
        874: "windows-874",
        65001: "utf-8",
    },
    **{10000: "macintosh", 20127: "windows-1252", 0: "windows-1252", 28591: "windows-1252"},
}
_PICTURES = "symbol"
_ALTERNATIVES = frozenset({"wzDescription", "gtextUNICODE"})


@dataclass(frozen=True, slots=True)
class _State:
    """What a group inherits from the one around it."""

    hidden: bool = False
    vanished: bool = False
    skip: int = 1
    font: int = -1
    destination: str = ""


def read_rtf(data: bytes) -> Read:
    """Return the text of an RTF document. Raises Unreadable for bytes that are not of their font's encoding."""
    return _Reader(data).read()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._lines = Lines()
        self._printed: list[str] = []
        self._state = _State()
        self._groups: list[_State] = []
        self._page = "windows-1252"
        self._fonts: dict[int, str] = {}
        self._default_font = -1
        self._font_in_table = -1
        self._bytes = bytearray()
        self._units: list[int] = []
        self._to_skip = 0
        self._is_optional = False
        self._property = ""

    def read(self) -> Read:
        position = 0
        is_whole = self._data.startswith(b"{\\rtf")
        while (token := _TOKEN.match(self._data, position)) is not None:
            position = token.end()
            if (group := token["group"]) is not None:
                self._flush()
                if group == b"{":
                    self._open()
                elif not self._groups:
                    continue
                else:
                    self._close()
                    if not self._groups and is_whole:
                        break  # what follows the document is padding
            elif (word := token["word"]) is not None:
                number = token["number"]
                name = word.decode("ascii")
                if name == "bin":
                    position += max(int(number or 0), 0)
                else:
                    self._word(name, None if number is None else int(number))
            elif (hexadecimal := token["hex"]) is not None:
                self._raw(bytes([int(hexadecimal, 16)]))
            elif (symbol := token["symbol"]) is not None:
                self._symbol(symbol.decode("latin-1"))
            elif (text := token["text"]) is not None:
                self._raw(text)
        self._flush()
        missing = ("the end of the file",) if self._groups else ()
        while self._groups:
            self._close()
        text = "\n\n".join(part for part in (self._lines.text(), *dict.fromkeys(self._printed)) if part)
        return measured(text, MEDIA_TYPE, visible(text), missing)

    def _open(self) -> None:
        if len(self._groups) > _DEEPEST:
            raise Unreadable(f"groups within groups, more than {_DEEPEST} levels deep")
        self._groups.append(self._state)
        self._state = replace(self._state, destination="")
        self._is_optional = False

    def _close(self) -> None:
        destination = self._state.destination
        self._is_optional = False
        if destination in _ASIDE:
            self._lines.beside(self._lines.close())
        elif destination in _PRINTED:
            self._printed.append(self._lines.close().strip())
        elif destination in ("sn", "sv"):
            text = self._lines.close().strip()
            if destination == "sn":
                self._property = text
            elif self._property in _ALTERNATIVES:
                self._lines.beside(text)
        self._state = self._groups.pop()

    def _word(self, name: str, number: int | None) -> None:
        if name == "u" and number is not None:
            self._flush_bytes()
            if not self._is_hidden():
                self._units.append(number & 0xFFFF)
            self._to_skip = self._state.skip
            return
        self._flush()
        self._to_skip = 0
        optional, self._is_optional = self._is_optional, False
        state = self._state
        if name in ("sn", "sv"):
            self._begin(name, hidden=False)
        elif name in _SHOWN_AGAIN or name in _ASIDE or name in _PRINTED:
            self._begin(name, hidden=state.hidden and name not in _SHOWN_AGAIN)
        elif name in _HIDDEN or optional:
            # A destination that this reader does not know may be left out if it is marked by \*.
            self._state = replace(state, hidden=True, destination=state.destination or name)
        elif name in _CHARACTERS:
            self._shown(_CHARACTERS[name])
        elif name in _LINE_ENDS:
            if not self._is_hidden():
                self._lines.end_line()
        elif name == "uc":
            self._state = replace(state, skip=max(number if number is not None else 1, 0))
        elif name in ("v", "deleted", "htmlrtf"):
            self._state = replace(state, vanished=number != 0)
        elif name == "plain":
            self._state = replace(state, vanished=False, font=self._default_font)
        else:
            self._font_word(name, number)

    def _font_word(self, name: str, number: int | None) -> None:
        """Note what decides the encoding of the bytes that follow."""
        number = number or 0
        if name == "f":
            self._state = replace(self._state, font=number)
            self._font_in_table = number
        elif name == "deff":
            self._default_font = number
            self._state = replace(self._state, font=number)
        elif name == "fcharset":
            self._fonts[self._font_in_table] = _PICTURES if number == 2 else _CHARSETS.get(number, "")
        elif name == "ansicpg":
            self._page = _CODE_PAGES.get(number, f"windows-{number}" if number > 1000 else f"cp{number}")
        elif name in ("mac", "pc", "pca"):
            self._page = {"mac": "macintosh", "pc": "cp437", "pca": "cp850"}[name]

    def _begin(self, name: str, *, hidden: bool) -> None:
        """Begin a destination whose text is collected apart."""
        if self._state.destination in _ASIDE | _PRINTED | {"sn", "sv"}:
            return
        if name in _ASIDE | _PRINTED | {"sn", "sv"}:
            self._lines.open()
            self._state = replace(self._state, hidden=hidden, destination=name)
        else:
            self._state = replace(self._state, hidden=hidden)

    def _symbol(self, symbol: str) -> None:
        if symbol == "*":
            self._is_optional = True
        elif symbol in "\r\n":
            self._flush()
            if not self._is_hidden():
                self._lines.end_line()
        elif symbol in _SYMBOLS and not self._skips(1):
            self._shown(_SYMBOLS[symbol])

    def _is_hidden(self) -> bool:
        return self._state.hidden or self._state.vanished

    def _skips(self, count: int) -> bool:
        """Return whether a character is the replacement of a Unicode one before it."""
        if self._to_skip:
            self._to_skip -= count
            return True
        return False

    def _raw(self, data: bytes) -> None:
        if self._to_skip:
            count = min(self._to_skip, len(data))
            self._to_skip -= count
            data = data[count:]
        if data and not self._is_hidden():
            if self._units:
                self._flush_units()
            self._bytes += data

    def _shown(self, text: str) -> None:
        self._flush()
        if not self._is_hidden():
            self._lines.add(text)

    def _flush(self) -> None:
        self._flush_bytes()
        self._flush_units()

    def _flush_units(self) -> None:
        if self._units:
            data = b"".join(unit.to_bytes(2, "little") for unit in self._units)
            self._units.clear()
            self._lines.add(data.decode("utf-16-le", "replace").replace("\0", ""))

    def _flush_bytes(self) -> None:
        if not self._bytes:
            return
        data = bytes(self._bytes)
        self._bytes.clear()
        label = self._fonts.get(self._state.font, "") or self._page
        if data.isascii():
            self._lines.add(data.decode("ascii"))
        elif label == _PICTURES:
            self._lines.add("".join("•" if byte == 0xB7 else chr(byte) if byte < 0x80 else "" for byte in data))
        else:
            self._lines.add(decode_declared(data, label))
