"""Small documents of foreign formats, made by hand: ZIP packages, PDF, OLE compound files."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence

TYPES = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_KIND = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
NAMESPACES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
        "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
        "p": "http://schemas.openxmlformats.org/presentationml/2006/main",
        "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
        "x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
        "xdr": "http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing",
        "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
        "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
        "v": "urn:schemas-microsoft-com:vml",
    }.items()
)
ODF = " ".join(
    f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for prefix, name in {
        "office": "office",
        "text": "text",
        "table": "table",
        "draw": "drawing",
        "style": "style",
        "svg": "svg-compatible",
        "presentation": "presentation",
    }.items()
)


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """Return a ZIP file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in parts.items():
            package.writestr(name, data)
    return file.getvalue()


def relations(targets: Mapping[str, str]) -> str:
    """Return a part of relations: `{"rId1 header": "header1.xml"}`."""
    inner = "".join(
        f'<Relationship Id="{key.split()[0]}" Type="{_KIND}{key.split()[1]}" Target="{target}"/>'
        for key, target in targets.items()
    )
    return f'<Relationships xmlns="{_RELATIONS}">{inner}</Relationships>'


def office(main: str, parts: Mapping[str, str | bytes]) -> bytes:
    """Return an OOXML package; names of namespaces are declared for every part that begins with `<X:`."""
    whole: dict[str, str | bytes] = {
        "[Content_Types].xml": TYPES,
        "_rels/.rels": relations({"r1 officeDocument": main}),
    }
    for name, part in parts.items():
        whole[name] = _declared(part) if isinstance(part, str) and not part.startswith("<Rel") else part
    return zipped(whole)


def _declared(part: str) -> str:
    head, sign, rest = part.partition(">")
    closing = "/" if head.endswith("/") else ""
    return f"{head.removesuffix('/')} {NAMESPACES}{closing}{sign}{rest}"


def docx(body: str, **more: str) -> bytes:
    """Return a DOCX; `more` are parts by their kind: header, footer, footnotes, endnotes, comments."""
    parts = {"word/document.xml": f"<w:document><w:body>{body}</w:body></w:document>"}
    for kind, inner in more.items():
        parts[f"word/{kind}1.xml"] = f"<w:{kind}>{inner}</w:{kind}>"
    parts["word/_rels/document.xml.rels"] = relations({f"{kind} {kind}": f"{kind}1.xml" for kind in more})
    return office("word/document.xml", parts)


def paragraph(text: str) -> str:
    """Return a paragraph of Word."""
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def odf(content: str, styles: str = "", kind: str = "text") -> bytes:
    """Return an ODF package."""
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f"<office:document-content {ODF}><office:body>{content}</office:body>"
            "</office:document-content>",
            "styles.xml": f"<office:document-styles {ODF}>{styles}</office:document-styles>",
        }
    )


def text_page(text: str) -> bytes:
    """Return the content of a page of PDF with one line of text."""
    return f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode("latin-1")


SCAN = b"q 600 0 0 800 0 0 cm /Im1 Do Q"


def pdf(pages: Sequence[bytes], *, annotations: Mapping[int, str] | None = None, form: str = "") -> bytes:
    """Return a PDF whose pages have these contents; `annotations` are the objects of notes, by page from 0."""
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {form} >>".encode(),
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /BitsPerComponent 8 /ColorSpace /DeviceGray "
        b"/Length 1 >>\nstream\n\x80\nendstream",
    ]
    kids = []
    for index, content in enumerate(pages):
        packed = zlib.compress(content)
        objects.append(b"<< /Filter /FlateDecode /Length %d >>\nstream\n%b\nendstream" % (len(packed), packed))
        note = (annotations or {}).get(index)
        extra = b""
        if note:
            objects.append(note.encode("latin-1"))
            extra = b"/Annots [%d 0 R] " % len(objects)
        stream = len(objects) - (1 if note else 0)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R %b"
            b"/Resources << /Font << /F1 3 0 R >> /XObject << /Im1 4 0 R >> >> >>" % (stream, extra)
        )
        kids.append(len(objects))
    listed = " ".join(f"{kid} 0 R" for kid in kids)
    objects[1] = f"<< /Type /Pages /Kids [{listed}] /Count {len(kids)} >>".encode()
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode()
    return bytes(out)


def compound(streams: Mapping[str, bytes]) -> bytes:
    """Return an OLE compound file of version 3; each stream is padded to at least 4,096 bytes.

    Storages are named by slashes. Source of the format: [MS-CFB].
    """
    tree: dict[str, object] = {}
    for path, data in streams.items():
        *folders, name = path.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})  # type: ignore[assignment]
        place[name] = data
    names, kinds, below, contents = ["Root Entry"], [5], [0xFFFFFFFF], [b""]
    siblings: dict[int, int] = {}

    def add(folder: Mapping[str, object], parent: int) -> None:
        before = -1
        for name, value in folder.items():
            index = len(names)
            names.append(name)
            kinds.append(2 if isinstance(value, bytes) else 1)
            below.append(0xFFFFFFFF)
            contents.append(value if isinstance(value, bytes) else b"")
            if before < 0:
                below[parent] = index
            else:
                siblings[before] = index
            before = index
            if isinstance(value, dict):
                add(value, index)

    add(tree, 0)
    sectors: list[bytes] = []
    table: list[int] = []

    def store(data: bytes) -> int:
        begin = len(sectors)
        pieces = [data[at : at + 512].ljust(512, b"\0") for at in range(0, len(data), 512)]
        sectors.extend(pieces)
        table.extend([*range(begin + 1, begin + len(pieces)), 0xFFFFFFFE])
        return begin

    starts = {}
    for index, kind in enumerate(kinds):
        if kind == 2:
            starts[index] = store(contents[index].ljust(4096, b"\0"))
    directory = b""
    for index, (name, kind, child) in enumerate(zip(names, kinds, below, strict=True)):
        label = name.encode("utf-16-le") + b"\0\0"
        size = max(len(contents[index]), 4096) if kind == 2 else 0
        directory += struct.pack(
            "<64sHBBIII16sIQQIQ",
            *(label, len(label), kind, 1, 0xFFFFFFFF, siblings.get(index, 0xFFFFFFFF), child, b"", 0, 0, 0),
            *(starts.get(index, 0xFFFFFFFE if index == 0 else 0), size),
        )
    first = store(directory)
    count = (len(sectors) + 127) // 127 + 1
    places = [len(sectors) + at for at in range(count)]
    table += [0xFFFFFFFD] * count
    table += [0xFFFFFFFF] * (count * 128 - len(table))
    packed = struct.pack(f"<{len(table)}I", *table)
    head = struct.pack(
        "<8s16sHHHHH6sIIIIIIIII109I",
        *(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"", 0x3E, 3, 0xFFFE, 9, 6, b"", 0, count, first, 0, 4096),
        *(0xFFFFFFFE, 0, 0xFFFFFFFE, 0, *places, *[0xFFFFFFFF] * (109 - count)),
    )
    return head + b"".join(sectors) + packed
