"""Text of HTML and XML: all that a reader sees, once, in the order of the document.

Runs in the parser's process, because the HTML5 parser (Lexbor, through selectolax) is native code. Nothing here
recurses: a page may nest its elements a hundred thousand deep.

Kept is everything but what is never shown: also navigation, headers, footers, forms, the title, collapsed
details, elements with the attribute `hidden` (scripts show them on demand), the alternative texts of pictures and
the labels of buttons. Left out: scripts, styles, templates, comments, the head's metadata, other attributes, the
pages of other frames, and the TeX behind a formula.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragops.documents.lines import Lines
from ragops.documents.tags import missing_words, strip_tags
from ragops.documents.xhtml import as_html
from ragops.documents.xml_text import read_xml

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_NEVER_SHOWN_NAMES = "script style template iframe noembed annotation annotation-xml metadata"
_PARAGRAPH_NAMES = """
    p h1 h2 h3 h4 h5 h6 ul ol dl menu dir table pre listing xmp plaintext blockquote figure title hr form fieldset
    details textarea header footer nav main article section aside hgroup search address
"""
_LINE_NAMES = """
    html body div li dt dd tr caption thead tbody tfoot figcaption summary legend option optgroup select center
    dialog frameset noframes br text foreignobject desc svg math canvas video audio object datalist
"""
_NEVER_SHOWN = frozenset(_NEVER_SHOWN_NAMES.split())
_PARAGRAPHS = frozenset(_PARAGRAPH_NAMES.split())
_LINES = frozenset(_LINE_NAMES.split())
_PREFORMATTED = frozenset({"pre", "listing", "xmp", "plaintext", "textarea"})
_SHOWN_VALUES = frozenset({"submit", "button", "reset", "text", "search", "email", "url", "tel", "number", ""})


_INTEGER = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class MarkupText:
    """The text of a document, and how many words it should have by another way of reading it."""

    text: str
    found: int
    expected: int
    missing: tuple[str, ...] = ()
    """The words that are not in the text."""
    elsewhere: tuple[str, ...] = ()
    """Parts that the document takes from other files, which are not read."""


def read_markup(markup: str, *, is_html: bool) -> MarkupText:
    """Return the text of a decoded document, held against an independent estimate of its words."""
    elsewhere: tuple[str, ...] = ()
    if is_html:
        markup = as_html(markup)
        text = _text_of_html(markup)
    else:
        text, elsewhere = read_xml(markup)
    expected, missing = missing_words(markup, text, is_html=is_html)
    return MarkupText(text, expected - sum(missing.values()), expected, tuple(missing), elsewhere)


def text_of_html(markup: str) -> str:
    """Return the visible text of HTML."""
    return _text_of_html(as_html(markup))


def _text_of_html(markup: str, *, is_inner: bool = False) -> str:
    from selectolax.lexbor import LexborHTMLParser

    page = _Page(is_inner=is_inner)
    node = LexborHTMLParser(markup).root
    while node is not None:
        if page.enter(node) and (child := node.first_child) is not None:
            node = child
            continue
        page.leave(node)
        while node is not None and node.next is None:
            node = node.parent
            if node is not None:
                page.leave(node)
        node = None if node is None else node.next
    return page.lines.text()


class _Page:
    """Collects the text while the nodes of a tree are entered and left in their order."""

    def __init__(self, *, is_inner: bool) -> None:
        self.lines = Lines()
        self._is_inner = is_inner
        self._preformatted: list[int] = []
        # The next number of each list by the address of its node. An item that counted those before it would make
        # a long list take quadratic time.
        self._numbers: dict[int, int] = {}

    def enter(self, node: LexborNode) -> bool:
        """Take up a node; return whether its children are text as well."""
        if node.is_text_node:
            content = node.text_content or ""
            if self._preformatted:
                self.lines.add_preformatted(content)
            else:
                self.lines.add(content)
            return False
        tag = node.tag or ""
        if tag in _NEVER_SHOWN:
            return False
        if tag in ("td", "th"):
            if _has_element_before(node):
                self.lines.next_cell()
        elif tag in ("img", "area", "input"):
            self._alternative(node, tag)
        elif tag == "button":
            self.lines.space()
        elif tag == "noframes":  # its content is raw text to a parser that knows frames
            self.lines.end_paragraph()
            raw = node.text() or ""
            self.lines.add_preformatted(strip_tags(raw) if self._is_inner else _text_of_html(raw, is_inner=True))
            return False
        else:
            self._apart(tag)
            if tag in _PREFORMATTED:
                self._preformatted.append(node.mem_id)
            elif tag == "li":
                self._number(node)
        return True

    def leave(self, node: LexborNode) -> None:
        """Take note that nothing more of a node follows."""
        if self._preformatted and self._preformatted[-1] == node.mem_id:
            self._preformatted.pop()
        if node.tag == "button":
            self.lines.space()
        else:
            self._apart(node.tag or "")

    def _apart(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self.lines.end_paragraph()
        elif tag in _LINES:
            self.lines.end_line()

    def _alternative(self, node: LexborNode, tag: str) -> None:
        """Add what stands for a picture, or what a form's field shows."""
        attributes = node.attributes
        is_field = tag == "input" and (attributes.get("type") or "").lower() in _SHOWN_VALUES
        self.lines.space()
        self.lines.add(attributes.get("value" if is_field else "alt") or "")
        self.lines.space()

    def _number(self, item: LexborNode) -> None:
        """Add the number that a browser shows before an item of a numbered list."""
        items = item.parent
        if items is None or items.tag != "ol" or (items.attributes.get("type") or "1") != "1":
            return
        if items.mem_id not in self._numbers:
            self._numbers[items.mem_id] = _integer(items.attributes.get("start"), 1)
        number = _integer(item.attributes.get("value"), self._numbers[items.mem_id])
        self._numbers[items.mem_id] = number + (-1 if "reversed" in items.attributes else 1)
        self.lines.add(f"{number}. ")


def _has_element_before(node: LexborNode) -> bool:
    before = node.prev
    while before is not None and not before.is_element_node:
        before = before.prev
    return before is not None


def _integer(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and _INTEGER.fullmatch(text) else otherwise
