"""Read PDF page by page: the text layer, values of form fields, comments; pages without text are named."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator

import pypdfium2
import pypdfium2.raw as pdfium

from ragops.documents.errors import Unreadable
from ragops.documents.readers.pdf_damage import Contents
from ragops.documents.readers.result import Read, visible

MEDIA_TYPE = "application/pdf"
# What pdfium writes for a hyphen at the end of a line, and for what its fonts map to nothing.
_HYPHEN = re.compile("[\x02\xad\ufffe](?:\r?\n)?")
_SPACE = re.compile(r"\s+")
_UNMAPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd\uffff]")
# More than this share of characters that mean nothing: the page looks right and reads as rubbish.
_MOST_UNMAPPED = 0.2
# A page of some rules and boxes is empty; outlines of letters are paths by the hundred.
_DRAWING = 100
# Room for a space, as a share of the height of a line: half of a narrow space.
_ROOM = 0.13
# A picture of less than this share of a page is no scan.
_SCAN = 0.3
# Pages without text that miss nothing: blank, with small pictures, or with no object at all.
_BLANK = ("blank", "pictures", "nothing")
_COMMENTS = frozenset(
    {
        *(
            pdfium.FPDF_ANNOT_TEXT,
            pdfium.FPDF_ANNOT_FREETEXT,
            pdfium.FPDF_ANNOT_HIGHLIGHT,
            pdfium.FPDF_ANNOT_STAMP,
        ),
        *(pdfium.FPDF_ANNOT_UNDERLINE, pdfium.FPDF_ANNOT_STRIKEOUT, pdfium.FPDF_ANNOT_SQUIGGLY),
        *(pdfium.FPDF_ANNOT_CARET, pdfium.FPDF_ANNOT_SQUARE, pdfium.FPDF_ANNOT_CIRCLE, pdfium.FPDF_ANNOT_POLYGON),
    }
)
_VALUES = frozenset(
    {pdfium.FPDF_FORMFIELD_TEXTFIELD, pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX}
)


def read_pdf(data: bytes) -> Read:
    """Return the text of all pages. Raises Unreadable for a scan, a password, and a file that is damaged."""
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        code = getattr(error, "err_code", None)
        if code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise Unreadable("encrypted: a password is needed") from None
        raise Unreadable("damaged: no PDF that can be opened, or one without pages") from None
    pages = len(document)
    if document.get_formtype() != pdfium.FORMTYPE_NONE:
        document.init_forms()
    contents = Contents(data)
    texts: list[str] = []
    missing: list[str] = []
    blank = pictures = 0
    for number in range(1, pages + 1):
        text, reason = _page(document, number)
        if number in contents.damaged or (reason == "nothing" and contents.shows_something(number)):
            reason = "damaged"
        if reason in _BLANK:
            blank += 1
            pictures += reason == "pictures"
        elif reason:
            missing.append(f"page {number} ({reason})")
        if text:
            texts.append(text)
    if document.get_formtype() == pdfium.FORMTYPE_XFA_FULL:
        missing.append("the dynamic form (XFA)")
    if not texts:
        raise Unreadable(_without_text(pages, pictures, missing))
    expected = max(pages - blank, len(missing) + 1)
    return Read("\n\n".join(texts), MEDIA_TYPE, expected - len(missing), expected, "pages", tuple(missing))


def _without_text(pages: int, pictures: int, missing: list[str]) -> str:
    where = "its page has no" if pages == 1 else f"none of its {pages} pages has a"
    if pictures or any("scan" in one or "outlines" in one for one in missing):
        advice = "add a text layer, for example with OCRmyPDF"
        return f"empty document: {where} text layer (a scan?); ragops does no OCR: {advice}"
    if missing:
        return f"no text can be read: {', '.join(missing)}"
    return (
        f"empty document: all of its {pages} pages are blank" if pages > 1 else "empty document: its page is blank"
    )


def _page(document: pypdfium2.PdfDocument, number: int) -> tuple[str, str]:
    """Return a page's text, and why it is not whole ("" if it is)."""
    try:
        notes = list(_annotations(document, document[number - 1]))
        page = _flattened(document, number - 1)
        layer = page.get_textpage()
        text = _spaced(layer)
    except pypdfium2.PdfiumError:
        return "", "damaged"
    text = _HYPHEN.sub(_hyphen, text).replace("\0", "").strip()
    unmapped = len(_UNMAPPED.findall(text))
    if unmapped > _MOST_UNMAPPED * max(visible(text), 1):
        text, reason = "", "its fonts do not say which characters they show"
    else:
        text, reason = _UNMAPPED.sub("", text), ""
    seen = _SPACE.sub("", text)
    beside = "\n".join(note for note in notes if _SPACE.sub("", note) not in seen)
    if not text and not reason:
        reason = _why_empty(page)
        reason = "" if beside and reason in _BLANK else reason
    layer.close()
    page.close()
    return "\n".join(part for part in (text, beside) if part), reason


def _flattened(document: pypdfium2.PdfDocument, index: int) -> pypdfium2.PdfPage:
    """Return a page whose form fields and notes are drawn as part of it, so that their text is found as well."""
    page = document[index]
    if pdfium.FPDFPage_GetAnnotCount(page) and pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY) == 1:
        page.close()
        page = document[index]
    return page


def _spaced(layer: pypdfium2.PdfTextPage) -> str:
    """Return a page's text with spaces where there is room for one: pdfium leaves some of them out."""
    text = str(layer.get_text_range())
    if len(text) != layer.count_chars():
        return text
    box = pdfium.FS_RECTF()
    parts: list[str] = []
    begin = 0
    right = bottom = top = 0.0
    before = " "
    for index, character in enumerate(text):
        if character.isspace() or not pdfium.FPDFText_GetLooseCharBox(layer, index, box):
            before = " "
            continue
        height = box.top - box.bottom
        is_same_line = box.bottom < top and box.top > bottom
        if before != " " and is_same_line and box.left - right > _ROOM * height:
            parts += [text[begin:index], " "]
            begin = index
        before, right, bottom, top = character, box.right, box.bottom, box.top
    return "".join([*parts, text[begin:]])


def _hyphen(found: re.Match[str]) -> str:
    """Return a hyphen at the end of a line as it is printed; a soft one inside a line is not seen."""
    return "" if found[0] == "\xad" else f"-{found[0][1:]}"


def _why_empty(page: pypdfium2.PdfPage) -> str:
    """Return what a page without text holds."""
    paths = 0
    reason = "nothing"
    for one in page.get_objects(max_depth=5):
        reason = reason if reason == "pictures" else "blank"
        if one.type == pdfium.FPDF_PAGEOBJ_IMAGE:
            if _covers(page, one):
                return "probably a scan"
            reason = "pictures"
        paths += one.type in (pdfium.FPDF_PAGEOBJ_PATH, pdfium.FPDF_PAGEOBJ_SHADING)
        if paths > _DRAWING:
            return "outlines without text"
    return reason


def _covers(page: pypdfium2.PdfPage, picture: pypdfium2.PdfObject) -> bool:
    """Return whether a picture is large enough to hold the text of a page."""
    if picture.level:
        return True  # its place within a form is not known
    left, bottom, right, top = picture.get_bounds()
    width, height = page.get_size()
    return bool((right - left) * (top - bottom) >= _SCAN * width * height)


def _annotations(document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage) -> Iterator[str]:
    """Yield the values of a page's form fields and its comments."""
    form = document.formenv
    for index in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        kind = pdfium.FPDFAnnot_GetSubtype(annotation)
        value = ""
        if kind == pdfium.FPDF_ANNOT_WIDGET and form is not None:
            if pdfium.FPDFAnnot_GetFormFieldType(form, annotation) in _VALUES:
                value = _string(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation)
        elif kind in _COMMENTS:
            value = _string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents")
        pdfium.FPDFPage_CloseAnnot(annotation)
        if value.strip():
            yield value.strip()


def _string(function: object, *arguments: object) -> str:
    """Return what a function of pdfium writes into a buffer as UTF-16."""
    assert callable(function)
    length = int(function(*arguments, None, 0))
    if length <= 2:
        return ""
    buffer = ctypes.create_string_buffer(length)
    function(*arguments, ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), length)
    return buffer.raw[:length].decode("utf-16-le", "replace").rstrip("\0")
