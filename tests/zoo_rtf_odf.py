"""Hostile RTF, OpenDocument and EPUB."""

from __future__ import annotations

from zoo import Exact, Hostile, Incomplete, Outcome, Reads, Refused, hostile
from zoo_files import epub, odf, zipped


def _rtf(name: str, about: str, body: str, *must: Outcome, head: str = "") -> Hostile:
    return hostile(name, about, f"{{\\rtf1\\ansi\\ansicpg1252\\deff0{head} {body}}}".encode("latin-1"), *must)


def _odt(name: str, about: str, body: str, *must: Outcome, styles: str = "") -> Hostile:
    return hostile(name, about, odf("text", body, styles=styles), *must)


def _tp(text: str) -> str:
    return f"<text:p>{text}</text:p>"


_ROW = r"\trowd\cellx1000\cellx2000\pard\intbl a\cell b\cell\row\pard "
_MASTER = (
    f"<style:master-page style:name='S'><style:header>{_tp('top')}</style:header><style:footer>{_tp('bottom')}"
)
_MASTER += "</style:footer></style:master-page>"

_RTF = (
    _rtf("plain.rtf", "paragraphs", r"one\par two\par", Reads("one two")),
    _rtf("hex.rtf", "bytes of the code page", r"caf\'e9 \'80 \'93x\'94", Exact("café € “x”")),
    _rtf(
        "unicode.rtf", "signs with a fallback", r"\u26085?\u26412? \u-10179?\u-8704? \uc2\u233 ee", Reads("日本 é")
    ),
    _rtf(
        "cyrillic.rtf",
        "a font's character set",
        r"{\f1 \'d0\'f3\'f1\'f1\'ea\'e8\'e9}",
        Reads("Русский"),
        head=r"{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset204 B;}}",
    ),
    _rtf(
        "japanese.rtf",
        "two bytes of Shift-JIS",
        r"{\f1 \'93\'fa\'96\'7b}",
        Reads("日本"),
        head=r"{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset128 B;}}",
    ),
    _rtf(
        "header.rtf",
        "headers and footers",
        r"{\header top\par}{\footer bottom\par}body\par",
        Reads("top bottom body"),
        Reads("top body bottom"),
        Reads("body top bottom"),
    ),
    _rtf("table.rtf", "cells", rf"x\par {_ROW}y\par", Reads("x a b y")),
    _rtf("open_paragraph_table.rtf", "a paragraph that the table ends", rf"x {_ROW}y\par", Reads("x a b y")),
    _rtf("footnote.rtf", "a note", r"body{\footnote note}\par", Reads("body note")),
    _rtf(
        "stylesheet.rtf",
        "tables of fonts and styles are no text",
        r"{\stylesheet{\s1 no;}}{\*\generator no;}{\info{\author no}}one\par",
        Reads("one"),
        Reads("no one"),
    ),
    _rtf("field.rtf", "a link's text", r"{\field{\*\fldinst HYPERLINK no}{\fldrslt one}}\par", Reads("one")),
    _rtf("picture.rtf", "a picture's bytes are no text", r"one{\pict\pngblip 89504e470d0a1a0a}\par", Reads("one")),
    _rtf("bin.rtf", "raw bytes", "one{\\pict\\bin4 }}{{} two\\par", Reads("one two"), Reads("onetwo")),
    _rtf("hidden.rtf", "hidden text", r"one{\v no}\par", Reads("one"), Reads("oneno"), Reads("one no")),
    _rtf(
        "specials.rtf",
        "dashes, bullets, tabs",
        r"a\tab b\line c\emdash d\~e\_f\lquote g\rquote",
        Reads("a b c d e f g"),
    ),
    _rtf("braces.rtf", "escaped signs", r"\{one\} \\two", Reads("one two")),
    _rtf("empty.rtf", "no text", r"\par\par", Refused("empty document")),
    _rtf(
        "deep.rtf", "20,000 groups", "{" * 20_000 + "one" + "}" * 20_000, Reads("one"), Refused("deep|nest|parser")
    ),
    hostile(
        "truncated.rtf",
        "ends early",
        rb"{\rtf1\ansi one\par two\par {\b three",
        Reads("one two three"),
        Incomplete("one two three", "."),
        Refused("ends|parser|RTF"),
    ),
    hostile("no_rtf.rtf", "plain text with that name", b"one two", Reads("one two"), Refused("(?i)rtf|parser")),
)

_ODF = (
    _odt("plain.odt", "paragraphs", _tp("one") + "<text:h>two</text:h>", Reads("one two")),
    _odt(
        "spaces.odt",
        "repeated spaces, tabs, breaks part words",
        _tp('one<text:s text:c="3"/>two<text:tab/>three<text:line-break/>four'),
        Reads("one two three four"),
    ),
    _odt(
        "spans.odt", "a word in two spans", _tp("<text:span>on</text:span><text:span>e</text:span>"), Reads("one")
    ),
    _odt("link.odt", "links", _tp("<text:a>one</text:a> two"), Reads("one two")),
    _odt(
        "list.odt",
        "lists",
        "<text:list><text:list-header><text:p>a</text:p></text:list-header><text:list-item>"
        "<text:p>b</text:p></text:list-item></text:list>",
        Reads("a b"),
    ),
    _odt(
        "table.odt",
        "cells",
        "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>"
        "<table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>",
        Reads("a b"),
    ),
    _odt(
        "header_footer.odt",
        "headers and footers",
        _tp("body"),
        Reads("top body bottom"),
        Reads("body top bottom"),
        Reads("top bottom body"),
        styles=_MASTER,
    ),
    _odt(
        "footnote.odt",
        "a note",
        _tp(
            "body<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>note</text:p>"
            "</text:note-body></text:note>"
        ),
        Reads("body note"),
        Reads("body 1 note"),
        Reads("body1 note"),
    ),
    _odt(
        "annotation.odt",
        "a comment",
        _tp("body<office:annotation><text:p>remark</text:p></office:annotation>"),
        Reads("body remark"),
    ),
    _odt(
        "deleted.odt",
        "tracked deletions are no text",
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>no</text:p></text:deletion>"
        f"</text:changed-region></text:tracked-changes>{_tp('one')}",
        Reads("one"),
    ),
    _odt(
        "frame.odt",
        "a text box",
        _tp("<draw:frame><draw:text-box><text:p>one</text:p></draw:text-box></draw:frame>"),
        Reads("one"),
    ),
    _odt("section.odt", "sections", f"<text:section>{_tp('one')}</text:section>", Reads("one")),
    _odt(
        "index.odt",
        "an index",
        f"<text:table-of-content><text:index-body>{_tp('one')}</text:index-body></text:table-of-content>",
        Reads("one"),
    ),
    _odt("empty.odt", "no text", "<text:p/>", Refused("empty document")),
    hostile(
        "sheet.ods",
        "cells",
        odf(
            "spreadsheet",
            "<table:table table:name='S'><table:table-row><table:table-cell>"
            "<text:p>one</text:p></table:table-cell><table:table-cell><text:p>two</text:p></table:table-cell>"
            "</table:table-row></table:table>",
        ),
        Reads("one two"),
        Reads("S one two"),
    ),
    hostile(
        "repeated.ods",
        "a million repeated rows",
        odf(
            "spreadsheet",
            "<table:table table:name='S'><table:table-row>"
            "<table:table-cell><text:p>one</text:p></table:table-cell></table:table-row><table:table-row "
            'table:number-rows-repeated="1048575"><table:table-cell table:number-columns-repeated="16384"/>'
            "</table:table-row></table:table>",
        ),
        Reads("one"),
        Reads("S one"),
    ),
    hostile(
        "slides.odp",
        "slides and notes",
        odf(
            "presentation",
            f"<draw:page><draw:frame><draw:text-box>{_tp('one')}</draw:text-box></draw:frame>"
            f"<presentation:notes><draw:frame><draw:text-box>{_tp('said')}</draw:text-box></draw:frame>"
            "</presentation:notes></draw:page>",
        ),
        Reads("one said"),
    ),
    hostile(
        "no_content.odt",
        "no content.xml",
        zipped({"mimetype": "application/vnd.oasis.opendocument.text"}),
        Refused("(?i)content|parser failed|archive"),
    ),
    hostile(
        "truncated.odt", "half of it", odf("text", _tp("word " * 999))[:400], Refused("(?i)zip|parser|damaged")
    ),
)

_EPUB = (
    hostile(
        "plain.epub", "two chapters", epub({"a.xhtml": "<p>one</p>", "b.xhtml": "<p>two</p>"}), Reads("one two")
    ),
    hostile(
        "spine.epub",
        "the spine's order",
        epub({"a.xhtml": "<p>two</p>", "b.xhtml": "<p>one</p>"}, ["b.xhtml", "a.xhtml"]),
        Reads("one two"),
    ),
    hostile(
        "two_spaces.epub",
        "two spaces before a link",
        epub({"a.xhtml": '<p>One.  Use the “<a href="http://x.example">Code</a>” service.</p>'}),
        Reads("One Use the Code service"),
    ),
    hostile(
        "terms.epub",
        "lists of terms",
        epub({"a.xhtml": "<dl><dt>one</dt><dd>two</dd></dl><div>three</div>"}),
        Reads("one two three"),
    ),
    hostile("escaped_name.epub", "a space in a name", epub({"a%20b.xhtml": "<p>one</p>"}), Reads("one")),
    hostile(
        "missing_chapter.epub",
        "a chapter is not there",
        epub({"a.xhtml": "<p>one</p>"}, ["a.xhtml", "b.xhtml"]),
        Incomplete("one", "b.xhtml|1 of 2"),
        Refused("b.xhtml|chapter"),
    ),
    hostile(
        "broken_chapter.epub",
        "a chapter of tag soup",
        epub({"a.xhtml": b"<html><body><p>one<p>two<br>three"}),
        Reads("one two three"),
        Refused("(?i)xml|a.xhtml"),
    ),
    hostile(
        "latin1_chapter.epub",
        "a chapter that declares Latin-1",
        epub(
            {
                "a.xhtml": '<?xml version="1.0" encoding="iso-8859-1"?><html><body>café</body></html>'.encode(
                    "latin-1"
                )
            }
        ),
        Reads("café"),
    ),
    hostile(
        "protected.epub",
        "encrypted by a shop",
        epub(
            {"a.xhtml": bytes(range(256)) * 9},
            more={
                "META-INF/encryption.xml": b"<encryption xmlns='urn:oasis:"
                b"names:tc:opendocument:xmlns:container'><EncryptedData xmlns='http://www.w3.org/2001/04/xmlenc#'>"
                b"<CipherData><CipherReference URI='OEBPS/a.xhtml'/></CipherData></EncryptedData></encryption>"
            },
        ),
        Refused("(?i)encrypt|protect|DRM|not UTF-8|NUL|a.xhtml"),
    ),
    hostile("empty.epub", "no text", epub({"a.xhtml": "<p></p>"}), Refused("empty document")),
)

ENTRIES = (*_RTF, *_ODF, *_EPUB)
