"""Strip the tags off markup without building a tree: another way to the words that a document's text must have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import unescape

_WORD = re.compile(r"\w+")
# Elements within a line of their parent: of HTML, and of the kinds of XML that people write by hand.
_INLINE_NAMES = """
    a abbr acronym anchor b bdi bdo big bold citation cite citetitle classname code command computeroutput
    constant data del dfn em emphasis envar filename firstterm font foreignphrase function glossterm guibutton
    guilabel guimenu guimenuitem hi i indexterm ins italic kbd keycap label link literal mark methodname nobr olink
    parameter phrase productname q quote ref replaceable s samp small span strike strong structfield sub subscript
    sup superscript symbol systemitem time tspan tt type u ulink userinput var varname wbr wordasword xref
"""
WITHIN_WORDS = frozenset(_INLINE_NAMES.split())
_RAW = frozenset({"script", "style", "iframe", "noembed", "annotation", "annotation-xml"})
_RAW_XML = frozenset({"script", "style"})
_NAME = re.compile(r"/?([^\W\d][^\s/>]*)")
_QUOTED_REST = re.compile(r"""[^"'>]*(?:"[^"]*"[^"'>]*|'[^']*'[^"'>]*)*>""")
# Of 1,935 real pages (documentation of Debian and Rust, test data of packages) none lacked a word that the other
# way found; of 1,675 XML files one lacked two.
_TOLERATED_SHARE = 0.002
_TOLERATED_WORDS = 2
# The parts of a page of 64 MB would take more memory than the page's tree.
_PARTS = 100_000


def missing_words(markup: str, text: str, *, is_html: bool) -> tuple[int, Counter[str]]:
    """Return the number of words in a document, and those that its text lacks; none within what is tolerated."""
    expected: Counter[str] = Counter()
    for piece in _stripped(markup, is_html=is_html):
        expected.update(_WORD.findall(piece))
    missing = expected - Counter(_WORD.findall(text))
    total = expected.total()
    if missing.total() <= max(_TOLERATED_WORDS, _TOLERATED_SHARE * total):
        missing.clear()
    return total, missing


def local_name(tag: str) -> str:
    """Return the name of an element without its namespace's prefix, in lower case."""
    return tag.rpartition(":")[2].lower()


def strip_tags(markup: str, *, is_html: bool = True) -> str:
    """Return the text between the tags of HTML or XML, with its references resolved, in linear time."""
    return "".join(_stripped(markup, is_html=is_html))


def _stripped(markup: str, *, is_html: bool) -> Iterator[str]:
    """Yield the text between the tags in pieces that end between two words."""
    parts: list[str] = []
    at, end = 0, len(markup)
    # What is not closed is looked for once only; otherwise a file of `<!--` takes quadratic time.
    unclosed: set[str] = set()
    raw: frozenset[str] | None = None
    templates: list[int] = []

    def past(closing: str, start: int) -> int:
        if closing in unclosed:
            return -1
        found = markup.find(closing, start)
        if found < 0:
            unclosed.add(closing)
        return found

    while at < end:
        tag = markup.find("<", at)
        if tag < 0:
            tag = end
        parts.append(unescape(markup[at:tag]))
        if tag == end:
            break
        if markup.startswith("<!--", tag):
            closing = past("-->", tag + 2)
            at = end if closing < 0 and is_html else tag + 4 if closing < 0 else closing + 3
        elif not is_html and markup.startswith("<![CDATA[", tag):
            closing = past("]]>", tag)
            parts.append(markup[tag + 9 : closing if closing >= 0 else end])
            at = end if closing < 0 else closing + 3
        elif not is_html and markup.startswith("<?", tag):
            closing = past("?>", tag)
            at = tag + 2 if closing < 0 else closing + 2
        elif (name := _NAME.match(markup, tag + 1)) is not None:
            plain = local_name(name[1])
            at = _past_tag(markup, name.end(), unclosed)
            parts.append("" if plain in WITHIN_WORDS else " ")
            if raw is None:
                raw = _RAW if is_html else _RAW_XML if plain in ("svg", "html") else frozenset()
            if plain == "template" and is_html:  # the only one of these that may contain itself
                if markup[tag + 1] != "/":
                    templates.append(len(parts))
                elif templates:
                    del parts[templates.pop() :]
            elif plain in raw and markup[tag + 1] != "/" and (is_html or markup[at - 2 : at] != "/>"):
                at = _past_raw(markup, name[1], at)
        elif markup.startswith(("<!", "</", "<?"), tag):
            closing = past(">", tag)
            at = end if closing < 0 else closing + 1
        else:
            parts.append("<")
            at = tag + 1
        if len(parts) > _PARTS and parts[-1] == " " and not templates:
            yield "".join(parts)
            parts.clear()
    yield "".join(parts[: templates[0]] if templates else parts)


def _past_tag(markup: str, at: int, unclosed: set[str]) -> int:
    """Return where a tag ends, past a `>` within quotes."""
    if (match := None if "quote" in unclosed else _QUOTED_REST.match(markup, at)) is not None:
        return match.end()
    # Some quote is not closed: a browser drops what follows, and this count shows that. It is looked for once.
    unclosed.add("quote")
    closing = markup.find(">", at)
    return len(markup) if closing < 0 else closing + 1


def _past_raw(markup: str, name: str, at: int) -> int:
    closing = re.compile(rf"</{re.escape(name)}(?=[\s/>])", re.IGNORECASE).search(markup, at)
    return len(markup) if closing is None else closing.start()
