"""Text of HTML and XML: all that a reader sees, once, in the order of the document.

Runs in the parser's process, because the HTML5 parser (Lexbor, through selectolax) is native code. Nothing here
recurses: a page may nest its elements a hundred thousand deep.

Kept is everything but what is never shown: also navigation, headers, footers, forms, the title, collapsed
details, elements with the attribute `hidden` (scripts show them on demand), the alternative texts of pictures and
the labels of buttons. Left out: scripts, styles, templates, comments, the head's metadata, other attributes, the
pages of other frames, and the TeX behind a formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragops.documents.lines import Lines
from ragops.documents.tags import missing_words, strip_tags
from ragops.documents.xml_text import text_of_xml

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


@dataclass(frozen=True, slots=True)
class MarkupText:
    """The text of a document, and how many words it should have by another way of reading it."""

    text: str
    found: int
    expected: int
    missing: tuple[str, ...] = ()
    """Some of the words that are not in the text."""


def read_markup(markup: str, *, is_html: bool) -> MarkupText:
    """Return the text of a decoded document, held against an independent estimate of its words."""
    text = text_of_html(markup) if is_html else text_of_xml(markup)
    expected, missing = missing_words(markup, text, is_html=is_html)
    return MarkupText(text, expected - sum(missing.values()), expected, tuple(missing))


def text_of_html(markup: str) -> str:
    """Return the visible text of HTML."""
    return _text_of_html(markup, is_inner=False)


def _text_of_html(markup: str, *, is_inner: bool) -> str:
    from selectolax.lexbor import LexborHTMLParser

    lines = Lines()
    node = LexborHTMLParser(markup).root
    preformatted = 0
    while node is not None:
        tag = node.tag or ""
        if node.is_text_node:
            content = node.text_content or ""
            if preformatted:
                lines.add_preformatted(content)
            else:
                lines.add(content)
        elif tag == "noframes":  # its content is raw text to a parser that knows frames
            lines.end_paragraph()
            raw = node.text() or ""
            lines.add_preformatted(strip_tags(raw) if is_inner else _text_of_html(raw, is_inner=True))
            lines.end_paragraph()
        elif tag not in _NEVER_SHOWN:
            _enter(lines, node, tag)
            if (child := node.first_child) is not None:
                preformatted += tag in _PREFORMATTED
                node = child
                continue
            _leave(lines, tag)
        while node is not None and node.next is None:
            node = node.parent
            if node is not None:
                preformatted -= (node.tag or "") in _PREFORMATTED
                _leave(lines, node.tag or "")
        node = None if node is None else node.next
    return lines.text()


def _enter(lines: Lines, node: LexborNode, tag: str) -> None:
    if tag in ("td", "th"):
        previous = node.prev
        while previous is not None and not previous.is_element_node:
            previous = previous.prev
        if previous is not None:
            lines.next_cell()
    elif tag in ("img", "area", "input"):
        attributes = node.attributes
        is_value = tag == "input" and (attributes.get("type") or "").lower() in _SHOWN_VALUES
        if shown := attributes.get("value" if is_value else "alt"):
            lines.space()
            lines.add(shown)
        if tag != "area":
            lines.space()
    elif tag == "button":
        lines.space()
    else:
        _leave(lines, tag)


def _leave(lines: Lines, tag: str) -> None:
    if tag in _PARAGRAPHS:
        lines.end_paragraph()
    elif tag in _LINES:
        lines.end_line()
    elif tag == "button":
        lines.space()
