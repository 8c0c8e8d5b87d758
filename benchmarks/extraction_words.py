"""The words of a document, as an independent converter finds them, and those of ragops' text."""

from __future__ import annotations

import gzip
import html
import re
import subprocess
import unicodedata
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

Words = Counter[str]

# Scripts without spaces: a line break may stand anywhere, so that each sign counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
# A converter ends lines where a page or a screen does, and may mark what stands higher: `L^AT_EX`.
_HYPHENATED = re.compile(r"(?<=[^\W\d_])[-\u2010]\n\s*(?=[^\W\d_])|(?<=\w)\^(?=\w)")


def words_of(text: str) -> Words:
    """Return the words of a text as a multiset: NFKC, case folded, without punctuation and invisible signs."""
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).replace("\r", "")
    return Counter(_WORD.findall(_HYPHENATED.sub("", plain).casefold()))


@dataclass(frozen=True, slots=True)
class Converter:
    """A program that prints a document's text; `noise` matches what it adds of itself, with the reason."""

    name: str
    command: tuple[str, ...]
    noise: tuple[tuple[str, str], ...] = ()

    def raw(self, file: Path) -> str:
        """Return what it prints; "" where it fails."""
        if self.name == "gzip":
            return gzip.decompress(file.read_bytes()).decode("utf-8", "replace")
        if self.name == "a:t of slides":
            return _slides(file)
        encoding = _ENCODINGS.get(file.stem.split("-", 1)[-1], "UTF-8")
        command = [word.replace("FILE", str(file)).replace("ENCODING", encoding) for word in self.command]
        try:
            done = subprocess.run(command, capture_output=True, timeout=120, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return ""
        text = done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
        return html.unescape(text) if self.name == "xmllint" else text  # it writes texts as XML

    def without_noise(self, text: str) -> str:
        """Return what it printed without what it adds of itself."""
        for pattern, _ in self.noise:
            text = re.sub(pattern, " ", text, flags=re.M)
        return text


def _slides(file: Path) -> str:
    """Return the paragraphs of a presentation's slides: no small program prints these."""
    try:
        with zipfile.ZipFile(file) as package:
            slides = sorted(name for name in package.namelist() if re.fullmatch(r"ppt/slides/slide\d+\.xml", name))
            trees = [ElementTree.fromstring(package.read(name)) for name in slides]
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError):
        return ""
    drawing = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
    # The number of the slide and the date are fields, which a program fills in when it shows them.
    fields = {run for tree in trees for one in tree.iter(f"{drawing}fld") for run in one.iter(f"{drawing}t")}
    paragraphs = [line for tree in trees for line in tree.iter(f"{drawing}p")]
    return "\n".join(
        "".join(
            "\n" if run.tag == f"{drawing}br" else run.text or ""
            for run in line.iter()
            if run.tag in (f"{drawing}t", f"{drawing}br") and run not in fields
        )
        for line in paragraphs
    )


# Python's test files of encodings are named for them.
_ENCODINGS = {
    name: name.removesuffix("-utf8") if not name.endswith("-utf8") else "UTF-8"
    for base in (
        *("big5", "big5hkscs", "cp949", "euc_jisx0213", "euc_jp", "euc_kr", "gb18030", "gb2312", "gbk", "hz"),
        *("iso2022_jp", "iso2022_kr", "johab", "shift_jis", "shift_jisx0213"),
    )
    for name in (base, f"{base}-utf8")
}

_LIST_NUMBERS = (
    r"(?:^|[|•])\s*(?:\(?[0-9ivxlcIVXLC]{1,4}|[a-zA-Z])[.)]\s",
    "numbers of lists, which the file does not hold",
)
_PANDOC = (
    _LIST_NUMBERS,
    (r"\[\d+\]", "numbers of footnotes"),
    (r"^\s*\{\".*\}\s*$", "data of a notebook's widgets, which it prints as JSON"),
    (r"\\[A-Za-z]+", "TeX's names, in which pandoc writes MathML"),
)
_ODT2TXT = ((r"\[-- Image: .* --\]", "names of pictures' frames"),)
_MSHOW = (
    (r"^--- .*\bsize=\d+.*$", "its list of parts with their sizes"),
    (r"^no filter or default handler.*$", "what it says of parts that it cannot show"),
    (
        r"^(?i:return-path|received|delivered-to|message-id|mime-version|content-[a-z-]+|x-[a-z-]+|sender|reply-to"
        r"|references|in-reply-to|list-[a-z-]+|errors-to|precedence|resent-[a-z-]+): .*(?:\n[ \t].*)*$",
        "technical headers of a mail in the mail",
    ),
    (r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]*)?>", "tags of HTML parts, which it prints as they are"),
    (r"\(\d+ (?:year|month|week|day|hour).* ago\)", "the age of a date"),
)
_NUMBERS = ((r"\b[\d.,:/-]*\d[\d.,:/-]*\b", "numbers, whose formats differ between programs"),)


def _pandoc(source: str) -> tuple[Converter, ...]:
    command = ("pandoc", "-f", source, "-t", "plain", "--wrap=none", "FILE")
    return (Converter("pandoc", command, _PANDOC),)


_LYNX = (
    "lynx",
    "-dump",
    "-nolist",
    "-nonumbers",
    "-width=990",
    "-force_html",
    "-display_charset=utf-8",
    "-assume_charset=utf-8",
    "FILE",
)
_LYNX_NOISE = (
    _LIST_NUMBERS,
    (r"^\s*[*+o#@=~]\s", "bullets, which lynx writes as letters"),
    (r"\((?:BUTTON|IMAGE)\)|\[(?:IMAGE|INLINE|LINK|EMBED|USEMAP|ISMAP)\]|IFRAME:", "names of elements"),
    (r"^\s*#.*$", "targets of <link>, which no browser shows"),
)
_W3M = ("w3m", "-dump", "-T", "text/html", "-O", "UTF-8", "-cols", "990", "FILE")
_XMLLINT = ("xmllint", "--nonet", "--huge", "--noblanks", "--xpath")
# What an SVG shows: its metadata, styles and scripts are no text.
_SHOWN = (
    "//*[local-name()='text' or local-name()='title' or local-name()='desc' or local-name()='flowRoot']//text()"
)
_OPENDOCUMENT = Converter("odt2txt", ("odt2txt", "--width=-1", "--encoding=UTF-8", "FILE"), _ODT2TXT)

# Where two are named, a word counts that both found: what one adds of itself drops out.
CONVERTERS: dict[str, tuple[Converter, ...]] = {
    ".html": (Converter("lynx", _LYNX, _LYNX_NOISE), Converter("w3m", _W3M, (_LIST_NUMBERS,))),
    ".pdf": (
        Converter("pdftotext", ("pdftotext", "-enc", "UTF-8", "-nopgbrk", "FILE", "-")),
        Converter("mutool", ("mutool", "draw", "-q", "-F", "txt", "FILE")),
    ),
    ".docx": _pandoc("docx"),
    ".pptx": (Converter("a:t of slides", ()),),
    ".xlsx": (Converter("xlsx2csv", ("xlsx2csv", "-a", "FILE"), ((r"^-+ \d+ - ", "numbers of sheets"),)),),
    ".xls": (Converter("xls2csv", ("xls2csv", "-d", "utf-8", "FILE"), _NUMBERS),),
    ".doc": (
        Converter("catdoc", ("catdoc", "-w", "-d", "utf-8", "FILE")),
        Converter("antiword", ("antiword", "-w", "0", "-m", "UTF-8.txt", "FILE")),
    ),
    ".odt": (_OPENDOCUMENT, *_pandoc("odt")),
    ".ods": (_OPENDOCUMENT,),
    ".odp": (_OPENDOCUMENT,),
    ".rtf": (*_pandoc("rtf"), Converter("unrtf", ("unrtf", "--text", "--nopict", "FILE"))),
    ".epub": _pandoc("epub"),
    ".fb2": _pandoc("fb2"),
    ".ipynb": _pandoc("ipynb"),
    ".eml": (Converter("mshow", ("mshow", "FILE"), _MSHOW),),
    ".xml": (Converter("xmllint", (*_XMLLINT, "//text()", "FILE")),),
    ".svg": (Converter("xmllint", (*_XMLLINT, _SHOWN, "FILE")),),
    ".gz": (Converter("gzip", ()),),
    ".rst": _pandoc("rst"),
    ".md": _pandoc("gfm"),
    ".txt": (Converter("iconv", ("iconv", "-t", "UTF-8", "-f", "ENCODING", "FILE")),),
    ".py": (Converter("iconv", ("iconv", "-t", "UTF-8", "-f", "UTF-8", "FILE")),),
}
