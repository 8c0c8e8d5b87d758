"""Hostile DOCX."""

from __future__ import annotations

import io
import zipfile

from zoo import Incomplete, Reads, Refused, hostile
from zoo_files import W, docx, p, zipped

_HEADER = f"<w:hdr {W}>{p('top')}</w:hdr>"
_FOOTER = f"<w:ftr {W}>{p('bottom')}</w:ftr>"
_COMMENTS = f'<w:comments {W}><w:comment w:id="0">{p("remark")}</w:comment></w:comments>'
_FOOTNOTES = f'<w:footnotes {W}><w:footnote w:id="1">{p("note")}</w:footnote></w:footnotes>'
_ENDNOTES = f'<w:endnotes {W}><w:endnote w:id="1">{p("note")}</w:endnote></w:endnotes>'
_BOX = (
    '<w:p><w:r><mc:AlternateContent><mc:Choice Requires="wps">'
    "<w:drawing><a:graphic><a:graphicData><wps:wsp><wps:txbx>"
    f"<w:txbxContent>{p('boxed')}</w:txbxContent></wps:txbx></wps:wsp></a:graphicData></a:graphic></w:drawing>"
    f"</mc:Choice><mc:Fallback><w:pict><v:textbox><w:txbxContent>{p('boxed')}</w:txbxContent></v:textbox></w:pict>"
    "</mc:Fallback></mc:AlternateContent></w:r></w:p>"
)
_LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "lol"}">' for n in range(10))
_CELL = "<w:tc>{}</w:tc>"


def _run(inner: str) -> str:
    return f"<w:p><w:r>{inner}</w:r></w:p>"


def _table(*rows: tuple[str, ...]) -> str:
    lines = ("".join(_CELL.format(p(cell)) for cell in one) for one in rows)
    return f"<w:tbl>{''.join(f'<w:tr>{line}</w:tr>' for line in lines)}</w:tbl>"


def _damaged(data: bytes) -> bytes:
    """Return the package with bytes of its document part overwritten, so that its checksum is wrong."""
    at = data.index(b"word/document.xml") + 60
    return data[:at] + b"\xff" * 8 + data[at + 8 :]


def _stored(data: bytes) -> bytes:
    """Return the package without compression."""
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        return zipped({name: package.read(name) for name in package.namelist()}, method=zipfile.ZIP_STORED)


_PLAIN = docx(p("one two"))
_LONG = docx("".join(p(f"line{n} {'word ' * 20}") for n in range(300)))

ENTRIES = (
    hostile("plain.docx", "two words", _PLAIN, Reads("one two")),
    hostile(
        "header_footer.docx",
        "headers and footers",
        docx(p("body"), header1=_HEADER, footer1=_FOOTER),
        Reads("top body bottom"),
        Reads("body top bottom"),
    ),
    hostile("comments.docx", "comments", docx(p("body"), comments=_COMMENTS), Reads("body remark")),
    hostile("footnotes.docx", "footnotes", docx(p("body"), footnotes=_FOOTNOTES), Reads("body note")),
    hostile("endnotes.docx", "endnotes", docx(p("body"), endnotes=_ENDNOTES), Reads("body note")),
    hostile(
        "alt_text.docx",
        "a picture's description",
        docx(
            p("body")
            + _run('<w:drawing><wp:inline><wp:docPr id="1" name="" descr="described"/></wp:inline></w:drawing>')
        ),
        Reads("body described"),
    ),
    hostile("text_box.docx", "a box and its fallback", docx(p("body") + _BOX), Reads("body boxed")),
    hostile("table.docx", "cells", docx(p("a") + _table(("b", "c"), ("d", "e")) + p("f")), Reads("a b c d e f")),
    hostile(
        "nested_table.docx",
        "a table in a cell",
        docx(f"<w:tbl><w:tr><w:tc>{p('a')}{_table(('b',))}{p('c')}</w:tc></w:tr></w:tbl>"),
        Reads("a b c"),
    ),
    hostile(
        "content_control.docx",
        "structured tags",
        docx(f"<w:sdt><w:sdtContent>{p('one')}</w:sdtContent></w:sdt>" + p("two")),
        Reads("one two"),
    ),
    hostile(
        "inline_control.docx",
        "structured tags within a line",
        docx("<w:p><w:sdt><w:sdtContent><w:r><w:t>one</w:t></w:r></w:sdtContent></w:sdt></w:p>"),
        Reads("one"),
    ),
    hostile(
        "deleted.docx",
        "tracked changes: what was deleted is no text",
        docx(
            "<w:p><w:del><w:r><w:delText>no</w:delText></w:r></w:del><w:ins><w:r><w:t>one</w:t></w:r></w:ins>"
            "</w:p>"
        ),
        Reads("one"),
    ),
    hostile(
        "moved.docx",
        "moved text stands once",
        docx(
            "<w:p><w:moveFrom><w:r><w:t>one</w:t></w:r></w:moveFrom></w:p><w:p><w:moveTo><w:r><w:t>one</w:t>"
            "</w:r></w:moveTo></w:p>"
        ),
        Reads("one"),
    ),
    hostile(
        "split_runs.docx",
        "a word in three runs",
        docx("<w:p><w:r><w:t>o</w:t></w:r><w:r><w:t>n</w:t></w:r><w:r><w:t>e</w:t></w:r></w:p>"),
        Reads("one"),
    ),
    hostile(
        "tabs_breaks.docx",
        "tabs and breaks part words",
        docx(_run("<w:t>one</w:t><w:tab/><w:t>two</w:t><w:br/><w:t>three</w:t><w:cr/><w:t>four</w:t>")),
        Reads("one two three four"),
    ),
    hostile(
        "hyphens.docx",
        "hyphens that do not break",
        docx(_run("<w:t>one</w:t><w:noBreakHyphen/><w:t>two</w:t>")),
        Reads("one two"),
    ),
    hostile(
        "link.docx",
        "hyperlinks",
        docx("<w:p><w:hyperlink><w:r><w:t>one</w:t></w:r></w:hyperlink></w:p>"),
        Reads("one"),
    ),
    hostile(
        "field.docx",
        "a field's result, not its code",
        docx(
            _run("<w:instrText>NO</w:instrText>") + "<w:p><w:fldSimple w:instr='NO'><w:r><w:t>one</w:t></w:r>"
            "</w:fldSimple></w:p>"
        ),
        Reads("one"),
    ),
    hostile(
        "smart_tag.docx",
        "old tags",
        docx("<w:p><w:smartTag><w:r><w:t>one</w:t></w:r></w:smartTag></w:p>"),
        Reads("one"),
    ),
    hostile("entities.docx", "references", docx(p("a &lt; b &amp; &#233;")), Reads("a b é")),
    hostile("empty.docx", "no text", docx("<w:p/>"), Refused("empty document")),
    hostile("blank.docx", "white space", docx(p(" \u00a0 ")), Refused("empty document")),
    hostile(
        "truncated.docx", "half of it", _LONG[: len(_LONG) // 2], Refused("(?i)zip|damaged|parser failed|package")
    ),
    hostile(
        "checksum.docx",
        "a damaged part",
        _damaged(_LONG),
        Refused("(?i)zip|crc|damaged|corrupt|parser failed|invalid|document.xml"),
    ),
    hostile(
        "broken_xml.docx",
        "its document ends early",
        zipped(
            {"[Content_Types].xml": "<Types/>", "word/document.xml": f"<w:document {W}><w:body>{p('one')}<w:p>"}
        ),
        Refused("(?i)xml|parser failed|damaged|package"),
        Incomplete("one", "."),
    ),
    hostile(
        "no_document.docx",
        "a package without its document",
        zipped({"[Content_Types].xml": "<Types/>"}),
        Refused("(?i)document|parser failed|package"),
    ),
    hostile(
        "bomb.docx",
        "100 MB of spaces",
        lambda: docx(p("one") + " " * 100_000_000),
        Reads("one"),
        Refused("(?i)bomb|large|memory|MiB|bytes|parser failed|characters|expand"),
    ),
    hostile(
        "laughs.docx",
        "entities in a part",
        zipped(
            {
                "[Content_Types].xml": "<Types/>",
                "word/document.xml": f"<!DOCTYPE a [{_LAUGHS}]><w:document {W}>"
                f"<w:body>{p('&a9;')}</w:body></w:document>",
            }
        ),
        Refused("(?i)entit|xml|parser failed|DTD|package"),
    ),
    hostile(
        "encrypted.docx",
        "an OLE container",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4096),
        Refused("(?i)parser failed|encrypted|password|OLE|zip|package|unsupported"),
    ),
    hostile(
        "text_named.docx",
        "plain text with that name",
        b"plain text\n",
        Reads("plain text"),
        Refused("(?i)zip|parser failed|package|but it is text"),
    ),
    hostile("stored.docx", "without compression", _stored(_PLAIN), Reads("one two")),
)
