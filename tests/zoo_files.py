"""Writers of Office, OpenDocument, EPUB, PDF and archive files, as small as their readers accept."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence

_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
W = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    f'xmlns:r="{_OFFICE}" xmlns:a="{_DRAWING}/main" xmlns:wp="{_DRAWING}/wordprocessingDrawing" '
    'xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
)
P = (
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    f'xmlns:a="{_DRAWING}/main" xmlns:r="{_OFFICE}"'
)
S = f'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="{_OFFICE}"'
_TYPES = "application/vnd.openxmlformats-officedocument"


def zipped(members: Mapping[str, str | bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP archive of these members, in this order and with a fixed date."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as package:
        for name, data in members.items():
            stored = zipfile.ZIP_STORED if name == "mimetype" else method
            package.writestr(zipfile.ZipInfo(name), data, stored)
    return file.getvalue()


def tarred(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    """Return a TAR archive; `mode` may name a compression (`w:gz`)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as package:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            package.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _relations(targets: Iterable[tuple[str, str]]) -> str:
    inner = "".join(
        f'<Relationship Id="r{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, start=1)
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{inner}</Relationships>'


def _package(main: str, kinds: Mapping[str, str], members: Mapping[str, str | bytes]) -> bytes:
    """Return an OOXML package; `kinds` are the content types of its parts."""
    types = "".join(f'<Override PartName="/{part}" ContentType="{kind}"/>' for part, kind in kinds.items())
    start = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" ContentType='
        f'"application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType='
        f'"application/xml"/>{types}</Types>',
        "_rels/.rels": _relations([("officeDocument", main)]),
    }
    return zipped({**start, **members})


def docx(body: str, **parts: str) -> bytes:
    """Return a DOCX: the XML within `w:body`, and parts (`header1`, `comments`, …) with their XML."""
    kinds = {"word/document.xml": f"{_TYPES}.wordprocessingml.document.main+xml"}
    kinds |= {f"word/{name}.xml": f"{_TYPES}.wordprocessingml.{name.rstrip('123')}+xml" for name in parts}
    members: dict[str, str | bytes] = {
        "word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>"
    }
    members |= {f"word/{name}.xml": xml for name, xml in parts.items()}
    members["word/_rels/document.xml.rels"] = _relations((name.rstrip("123"), f"{name}.xml") for name in parts)
    return _package("word/document.xml", kinds, members)


def p(text: str) -> str:
    """Return a paragraph of a DOCX."""
    return f'<w:p><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def pptx(*slides: str, notes: Sequence[str] = ()) -> bytes:
    """Return a PPTX: the XML within each slide's `p:spTree`, and the paragraphs of each slide's notes."""
    kind = f"{_TYPES}.presentationml"
    kinds = {"ppt/presentation.xml": f"{kind}.presentation.main+xml"}
    ids = "".join(f'<p:sldId id="{255 + n}" r:id="r{n}"/>' for n in range(1, len(slides) + 1))
    members: dict[str, str | bytes] = {
        "ppt/presentation.xml": f"<p:presentation {P}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": _relations(
            ("slide", f"slides/slide{n + 1}.xml") for n in range(len(slides))
        ),
    }
    for number, slide in enumerate(slides, start=1):
        kinds[f"ppt/slides/slide{number}.xml"] = f"{kind}.slide+xml"
        tree = f"<p:cSld><p:spTree>{slide}</p:spTree></p:cSld>"
        members[f"ppt/slides/slide{number}.xml"] = f"<p:sld {P}>{tree}</p:sld>"
        if number <= len(notes):
            kinds[f"ppt/notesSlides/notesSlide{number}.xml"] = f"{kind}.notesSlide+xml"
            tree = f"<p:cSld><p:spTree>{shape(notes[number - 1])}</p:spTree></p:cSld>"
            members[f"ppt/notesSlides/notesSlide{number}.xml"] = f"<p:notes {P}>{tree}</p:notes>"
            target = ("notesSlide", f"../notesSlides/notesSlide{number}.xml")
            members[f"ppt/slides/_rels/slide{number}.xml.rels"] = _relations([target])
    return _package("ppt/presentation.xml", kinds, members)


def shape(text: str) -> str:
    """Return a text box of a slide."""
    run = f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>"
    return f'<p:sp><p:nvSpPr><p:cNvPr id="2" name=""/></p:nvSpPr><p:txBody><a:bodyPr/>{run}</p:txBody></p:sp>'


def xlsx(*sheets: str, shared: Sequence[str] = (), states: Mapping[int, str] | None = None, **parts: str) -> bytes:
    """Return an XLSX: the XML within each sheet's `sheetData`, and the shared strings."""
    kind = f"{_TYPES}.spreadsheetml"
    kinds = {"xl/workbook.xml": f"{kind}.sheet.main+xml", "xl/sharedStrings.xml": f"{kind}.sharedStrings+xml"}
    named = "".join(
        f'<sheet name="S{n}" sheetId="{n}" r:id="r{n}" state="{(states or {}).get(n, "visible")}"/>'
        for n in range(1, len(sheets) + 1)
    )
    targets = [("worksheet", f"worksheets/sheet{n + 1}.xml") for n in range(len(sheets))]
    strings = "".join(f"<si><t>{text}</t></si>" for text in shared)
    members: dict[str, str | bytes] = {
        "xl/workbook.xml": f"<workbook {S}><sheets>{named}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": _relations([*targets, ("sharedStrings", "sharedStrings.xml")]),
        "xl/sharedStrings.xml": f"<sst {S}>{strings}</sst>",
    }
    for number, sheet in enumerate(sheets, start=1):
        kinds[f"xl/worksheets/sheet{number}.xml"] = f"{kind}.worksheet+xml"
        members[f"xl/worksheets/sheet{number}.xml"] = f"<worksheet {S}><sheetData>{sheet}</sheetData></worksheet>"
    for name, xml in parts.items():
        kinds[f"xl/{name}.xml"] = f"{kind}.{name.rstrip('123')}+xml"
        members[f"xl/{name}.xml"] = xml
        members["xl/worksheets/_rels/sheet1.xml.rels"] = _relations([(name.rstrip("123"), f"../{name}.xml")])
    return _package("xl/workbook.xml", kinds, members)


def row(number: int, *cells: str) -> str:
    """Return a row of cells with inline strings."""
    inner = "".join(
        f'<c r="{"ABCDEF"[i]}{number}" t="inlineStr"><is><t>{text}</t></is></c>' for i, text in enumerate(cells)
    )
    return f'<row r="{number}">{inner}</row>'


_ODF = (
    " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{space}:1.0"'
        for name, space in (
            *(("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing"), ("style", "style")),
            ("presentation", "presentation"),
        )
    )
    + ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
)


def odf(kind: str, body: str, *, styles: str = "") -> bytes:
    """Return an OpenDocument file of a kind (text, spreadsheet, presentation); `styles` is master page XML."""
    mimetype = f"application/vnd.oasis.opendocument.{kind}"
    entry = '<manifest:file-entry manifest:full-path="{}" manifest:media-type="{}"/>'
    space = 'xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"'
    listed = (
        entry.format("/", mimetype)
        + entry.format("content.xml", "text/xml")
        + entry.format("styles.xml", "text/xml")
    )
    content = f"<office:body><office:{kind}>{body}</office:{kind}></office:body>"
    master = f"<office:master-styles>{styles}</office:master-styles>"
    return zipped(
        {
            "mimetype": mimetype,
            "content.xml": f"<office:document-content {_ODF}>{content}</office:document-content>",
            "styles.xml": f"<office:document-styles {_ODF}>{master}</office:document-styles>",
            "META-INF/manifest.xml": f"<manifest:manifest {space}>{listed}</manifest:manifest>",
        }
    )


def epub(
    chapters: Mapping[str, str | bytes],
    spine: Sequence[str] | None = None,
    *,
    more: Mapping[str, bytes] | None = None,
) -> bytes:
    """Return an EPUB of these chapters (name → body), read in the order of `spine`."""
    order = list(chapters) if spine is None else spine
    items = "".join(
        f'<item id="i{n}" href="{c}" media-type="application/xhtml+xml"/>' for n, c in enumerate(order)
    )
    refs = "".join(f'<itemref idref="i{n}"/>' for n in range(len(order)))
    meta = '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"></metadata>'
    container = (
        '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
        'full-path="OEBPS/c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "OEBPS/c.opf": f'<package xmlns="http://www.idpf.org/2007/opf" version="3.0">{meta}'
        f"<manifest>{items}</manifest>"
        f"<spine>{refs}</spine></package>",
    }
    head = '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><body>'
    for name, body in chapters.items():
        path = f"OEBPS/{name.replace('%20', ' ')}"
        members[path] = body if isinstance(body, bytes) else f"{head}{body}</body></html>"
    return zipped({**members, **(more or {})})


def pdf(
    *pages: str | bytes,
    trailer: str = "",
    catalog: str = "",
    page_more: str = "",
    objects: Sequence[str] = (),
    packed: bool = False,
) -> bytes:
    """Return a PDF; a page is its text, or the bytes of its content stream. Objects from 100 on are `objects`."""
    parts: dict[int, bytes] = {1: f"<</Type/Catalog/Pages 2 0 R{catalog}>>".encode()}
    kids = " ".join(f"{10 + 2 * n} 0 R" for n in range(len(pages)))
    parts[2] = f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode()
    parts[3] = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"
    picture = zlib.compress(bytes(64 * 64))
    parts[4] = (
        b"<</Type/XObject/Subtype/Image/Width 64/Height 64/ColorSpace/DeviceGray/BitsPerComponent 8"
        b"/Filter/FlateDecode/Length %d>>stream\n%b\nendstream" % (len(picture), picture)
    )
    for number, page in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({page}) Tj ET".encode("cp1252") if isinstance(page, str) else page
        parts[10 + 2 * number] = (
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {11 + 2 * number} 0 R"
            f"/Resources<</Font<</F1 3 0 R>>/XObject<</X 4 0 R>>>>{page_more}>>"
        ).encode()
        packing = b"/Filter/FlateDecode" if packed else b""
        stream = zlib.compress(stream) if packed else stream
        parts[11 + 2 * number] = b"<<%b/Length %d>>stream\n%b\nendstream" % (packing, len(stream), stream)
    parts |= {100 + number: body.encode() for number, body in enumerate(objects)}
    file, offsets = b"%PDF-1.4\n", {}
    for number, body in sorted(parts.items()):
        offsets[number] = len(file)
        file += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(file)
    file += b"xref\n0 1\n0000000000 65535 f \n"
    file += b"".join(b"%d 1\n%010d 00000 n \n" % (number, offset) for number, offset in offsets.items())
    size = max(parts) + 1
    return file + f"trailer<</Size {size}/Root 1 0 R{trailer}>>\nstartxref\n{start}\n%%EOF\n".encode()


SCAN = b"q 612 0 0 792 0 0 cm /X Do Q"
"""The content stream of a page that is a picture."""
