"""Text of XML, of which SVG, RSS and DocBook are kinds: the text of all elements, in the document's order.

Attributes, comments and processing instructions are no text; nor are scripts and styles of SVG and XHTML.
Nothing outside of the document is read; what its entities would have taken from elsewhere is named as missing.
Entities that expand to more than expat tolerates (100 times the document, "billion laughs") make it fail.
"""

from __future__ import annotations

from html.entities import html5
from xml.parsers import expat

from ragops.documents.lines import Lines
from ragops.documents.tags import WITHIN_WORDS, local_name, strip_tags

_PREFORMATTED = frozenset({"programlisting", "screen", "literallayout", "pre", "synopsis", "verbatim"})
# What expat says of a document that stops in the middle.
_ENDS_EARLY = frozenset(
    expat.errors.codes[one]
    for one in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
    )
)
_SCRIPTED_ROOTS = frozenset({"svg", "html"})
_SCRIPTS = frozenset({"script", "style"})


def text_of_xml(markup: str) -> str:
    """Return the text of XML; raises as `read_xml`."""
    return read_xml(markup)[0]


def read_xml(markup: str) -> tuple[str, tuple[str, ...]]:
    """Return the text of XML and the parts of it that stand elsewhere.

    Of what is not well-formed, the text is what stands between the tags. Its end is missing if it stops before its
    elements are closed.

    Raises ValueError for entities that expand to far more than the document.
    """
    reader = _Reader()
    try:
        reader.parser.Parse(markup.lstrip().encode("utf-8"), True)
    except expat.ExpatError as error:
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_AMPLIFICATION_LIMIT_BREACH]:
            raise ValueError("entities that expand to far more than the document") from None
        lines = Lines()
        for line in strip_tags(markup, is_html=False).splitlines():
            lines.add(line)
            lines.end_line()
        return lines.text(), ("the end of the document",) if reader.is_open and error.code in _ENDS_EARLY else ()
    return reader.lines.text(), tuple(reader.elsewhere)


class _Reader:
    """Collects the text while expat reads a document."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.elsewhere: dict[str, None] = {}
        self._open: list[str] = []
        # Whether each open element has text of its own: elements within it then belong to its lines.
        self._is_mixed: list[bool] = []
        self._is_after_element = False
        self._skipped = 0
        self._preformatted = 0
        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        # With a subset of the DTD that is not read, an unknown entity is skipped; without, it is an error.
        self.parser.UseForeignDTD(True)
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_UNLESS_STANDALONE)
        self.parser.ExternalEntityRefHandler = self._external
        self.parser.SkippedEntityHandler = self._entity

    @property
    def is_open(self) -> bool:
        """Whether elements are not closed yet."""
        return bool(self._open)

    def _start(self, tag: str, _attributes: dict[str, str]) -> None:
        name = local_name(tag)
        self._skipped += bool(
            self._skipped or (name in _SCRIPTS and self._open and self._open[0] in _SCRIPTED_ROOTS)
        )
        if name not in WITHIN_WORDS:
            self._part()
        self._preformatted += name in _PREFORMATTED
        self._open.append(name)
        self._is_mixed.append(False)
        self._is_after_element = False

    def _end(self, _tag: str) -> None:
        name = self._open.pop()
        self._is_mixed.pop()
        self._skipped -= bool(self._skipped)
        self._preformatted -= name in _PREFORMATTED
        if name not in WITHIN_WORDS:
            self._part()
            self._is_after_element = True

    def _part(self) -> None:
        """Keep an element apart: by a space within a text, by a line elsewhere."""
        if self._is_mixed and self._is_mixed[-1]:
            self.lines.space()
        else:
            self.lines.end_line()

    def _characters(self, text: str) -> None:
        if self._skipped:
            return
        if self._preformatted:
            self.lines.add_preformatted(text)
            return
        if self._is_after_element and not text.isspace():
            self.lines.stay_on_line()
            self._is_after_element = False
        if self._is_mixed and not text.isspace():
            self._is_mixed[-1] = True
        self.lines.add(text)

    def _external(self, names: str | None, _base: str | None, system: str | None, _public: str | None) -> int:
        if names is not None:  # not the rest of the DTD
            self.elsewhere[f"entity {names.split(chr(12))[0]} ({system})"] = None
        return 1

    def _entity(self, name: str, is_parameter: bool) -> None:
        if not is_parameter:
            self._characters(html5.get(f"{name};", f"&{name};"))
