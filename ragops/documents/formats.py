"""Name a document's format: by its suffix, and by its first bytes where these say something else."""

from __future__ import annotations

import re
from enum import Enum, auto
from pathlib import PurePosixPath

MARKDOWN = frozenset({".md", ".markdown", ".mdown", ".mkd", ".mkdn", ".rmd", ".qmd"})
HTML = frozenset({".html", ".htm", ".shtml", ".xhtml", ".xht"})
_MARKUP_SUFFIXES = """
    .html .htm .xhtml .xht .xml .svg .rss .atom .rdf .owl .docbook .dbk .tei .kml .gpx .xlf .xliff .tmx .tbx
"""
MARKUP = frozenset(_MARKUP_SUFFIXES.split()) | HTML
# Source code is text: a parser of programming languages would fetch and load compiled grammars.
_TEXT_SUFFIXES = """
    .txt .text .rst .rest .adoc .asciidoc .org .textile .creole .mediawiki .wiki .pod .rd .man .mdoc .me .ms
    .log .out .err .csv .tsv .psv .ssv .json .jsonl .ndjson .json5 .jsonc .jsonld .geojson .webmanifest .yaml
    .yml .toml .ini .inf .cfg .cnf .conf .config .properties .prefs .env .reg .rc .lock .list .mf .sum .pc .la
    .in .am .ac .m4 .tex .ltx .sty .cls .bib .bst .bbl .latex .texi .texinfo .txi .typ .ly .nfo .diz .ris .enw
    .nbib .po .pot .srt .vtt .sub .ass .ssa .lrc .ics .ifb .vcf .vcard .ldif .opml .ttl .n3 .nt .nq .trig
    .wsdl .xsd .xsl .xslt .dtd .rng .rnc .ent .plist .resx .xaml .fxml .pom .py .pyi .pyw .pyx .pxd .pxi .sage
    .ipy .sql .psql .pgsql .ddl .dml .plsql .pks .pkb .cql .hql .sh .bash .zsh .fish .ksh .csh .tcsh .awk .sed
    .ps1 .psm1 .psd1 .bat .cmd .nsi .vbs .vb .vba .bas .frm .ahk .au3 .c .h .cc .hh .cpp .hpp .cxx .hxx .c++
    .h++ .inl .ipp .tpp .cu .cuh .cl .m .mm .d .di .zig .nim .v .vh .sv .svh .vhd .vhdl .cs .csx .fs .fsi .fsx
    .go .rs .ron .java .kt .kts .scala .sc .sbt .groovy .gradle .gvy .clj .cljs .cljc .edn .bb .swift .js .mjs
    .cjs .ts .mts .cts .tsx .jsx .vue .svelte .astro .coffee .ls .elm .purs .res .resi .re .rei .rb .rake
    .gemspec .erb .haml .slim .pl .pm .t .pl6 .raku .php .phtml .php3 .twig .blade .lua .moon .tcl .tk .exp .r
    .jl .f .for .f77 .f90 .f95 .f03 .f08 .pas .pp .dpr .lpr .lfm .inc .ada .adb .ads .cob .cbl .cpy .asm .s
    .nasm .hs .lhs .cabal .ml .mli .mll .mly .sml .sig .fun .ex .exs .eex .heex .leex .erl .hrl .dart .lisp
    .lsp .cl .el .scm .ss .rkt .hy .fnl .janet .pro .prolog .p .pde .ino .sol .vy .move .cairo .idr .agda
    .lean .thy .coq .q .k .apl .j .ijs .css .scss .sass .less .styl .pcss .j2 .jinja .jinja2 .tmpl .tpl
    .mustache .hbs .handlebars .ejs .liquid .njk .pug .jade .proto .thrift .avsc .avdl .capnp .fbs .graphql
    .gql .smithy .tf .tfvars .hcl .nomad .rego .cue .dhall .jsonnet .libsonnet .nix .bzl .bazel .star .cmake
    .make .mak .mk .ninja .gn .gni .gyp .gypi .ebuild .spec .dsc .control .install .service .socket .timer
    .target .mount .path .slice .desktop .directory .theme .rules .cron .logrotate .dockerfile .containerfile
    .vim .vimrc .glsl .vert .frag .geom .comp .hlsl .wgsl .metal .shader .gd .tscn .tres .gdshader .uc
    .feature .story .robot .resource .http .curl .puml .plantuml .iuml .mmd .mermaid .dot .gv .d2 .gnuplot
    .plt .gp .diff .patch .rej .ed .debian .dirs .docs .examples .manpages .changelog .changes .news .authors
    .copyright .license .licence .readme .todo .gitignore .gitattributes .editorconfig .dockerignore
    .npmignore .htaccess .xbm .gcode .nmea .fasta .fa .faa .fna .fastq .gb .gff .gtf .bed .pdb .cif .mol .sdf
    .smi .cnxml .gmi .gemini .gophermap
"""
# "" for README, LICENSE, Makefile. Sections of the manual are numbers: `ls.1`.
TEXT = frozenset(_TEXT_SUFFIXES.split()) | {""}
_NUMBER = re.compile(r"\.[0-9][0-9a-z]{0,15}")
_PLAIN = re.compile(r"\.[A-Za-z0-9_+-]{1,16}")

# What the parser's process reads; the readers are named in `readers/__init__.py`.
_OFFICE_SUFFIXES = """
    .docx .docm .dotx .dotm .xlsx .xlsm .xltx .xltm .pptx .pptm .ppsx .ppsm .potx .potm
    .odt .ott .odm .oth .ods .ots .odp .otp .odg .otg .odf .odc .fodt .fods .fodp .fodg
    .doc .dot .xls .xlt .xlsb .ppt .pps .pot .hwp .hwpx .pages .numbers .key .fb2 .dbf
"""
# What no reader of ragops reads: old workbooks, Word 6, and formats of other programs.
LEFT_TO_KREUZBERG = frozenset(
    {".xls", ".xlt", ".xlsb", ".doc", ".dot", ".hwp", ".hwpx", ".pages", ".numbers", ".key", ".dbf"}
)
MAIL = frozenset({".eml", ".mbox", ".mht", ".mhtml", ".msg"})
PARSED = frozenset(_OFFICE_SUFFIXES.split()) | MAIL | {".pdf", ".rtf", ".epub", ".ipynb"}

_PICTURE_SUFFIXES = """
    .png .apng .jpg .jpeg .jpe .jfif .gif .bmp .dib .tif .tiff .webp .ico .cur .heic .heif .avif .jp2 .j2k
    .jpx .jxl .psd .xcf .kra .ora .ppm .pgm .pbm .pnm .pam .xpm .tga .pcx .dds .exr .hdr .raw .cr2 .nef .arw
    .dng .emf .wmf .djvu .djv .ps .eps .ai .svgz
"""
PICTURES = frozenset(_PICTURE_SUFFIXES.split()) - {".svgz"}
_ARCHIVE_SUFFIXES = """
    .zip .tar .tgz .tbz .tbz2 .txz .tzst .7z .rar .jar .war .ear .apk .deb .rpm .whl .egg .cab .iso .cpio .ar
    .zst .lz4 .lzma .lz
"""
ARCHIVES = frozenset(_ARCHIVE_SUFFIXES.split())
# One member, which is read as the file that it is.
COMPRESSED = {".gz": "gzip", ".svgz": "gzip", ".bz2": "bzip2", ".xz": "xz"}
_MEDIA_SUFFIXES = """
    .mp3 .ogg .oga .opus .flac .wav .m4a .aac .wma .mid .midi .mp4 .m4v .mkv .webm .avi .mov .wmv .mpg .mpeg
    .ogv .flv
"""
MEDIA = frozenset(_MEDIA_SUFFIXES.split())
_BINARY_SUFFIXES = """
    .elf .exe .dll .so .dylib .o .a .lib .class .wasm .pyc .pyo .bin .dat .db .sqlite .sqlite3 .mdb .accdb .mo
    .qm .npy .npz .parquet .feather .orc .avro .arrow .pkl .pickle .h5 .hdf5 .onnx .safetensors .gguf .pt .pth
    .ttf .otf .woff .woff2 .eot .pfb .swf .img .vmdk .qcow2 .p12 .pfx .jks
"""
BINARIES = frozenset(_BINARY_SUFFIXES.split())


def is_markdown(location: str) -> bool:
    """Return whether a document is cut as Markdown, by its name; a compressed one by its member's."""
    path = PurePosixPath(location)
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return path.suffix.lower() in MARKDOWN


class Kind(Enum):
    """How a document is read."""

    TEXT = auto()
    MARKDOWN = auto()
    MARKUP = auto()
    PARSED = auto()
    """In the parser's process."""
    COMPRESSED = auto()
    PICTURE = auto()
    ARCHIVE = auto()
    MEDIA = auto()
    BINARY = auto()
    """Programs and databases."""
    UNKNOWN = auto()


_KINDS: dict[str, Kind] = {
    **dict.fromkeys(MEDIA, Kind.MEDIA),
    **dict.fromkeys(BINARIES, Kind.BINARY),
    **dict.fromkeys(ARCHIVES, Kind.ARCHIVE),
    **dict.fromkeys(PICTURES, Kind.PICTURE),
    **dict.fromkeys(PARSED, Kind.PARSED),
    **dict.fromkeys(COMPRESSED, Kind.COMPRESSED),
    **dict.fromkeys(TEXT, Kind.TEXT),
    **dict.fromkeys(MARKDOWN, Kind.MARKDOWN),
    **dict.fromkeys(MARKUP, Kind.MARKUP),
}

# (offset, bytes, suffix of what they begin). No author writes such bytes at the head of a text by chance.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF-", ".pdf"),
    (0, b"{\\rtf", ".rtf"),
    (0, b"PK\x03\x04", ".zip"),
    (0, b"PK\x05\x06", ".zip"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".ole"),
    (0, b"\x1f\x8b", ".gz"),
    (0, b"BZh", ".bz2"),
    (0, b"\xfd7zXZ\0", ".xz"),
    (0, b"\x28\xb5\x2f\xfd", ".zst"),
    (0, b"7z\xbc\xaf\x27\x1c", ".7z"),
    (0, b"Rar!\x1a\x07", ".rar"),
    (0, b"!<arch>\n", ".ar"),
    (257, b"ustar", ".tar"),
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"GIF87a", ".gif"),
    (0, b"GIF89a", ".gif"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (8, b"WEBP", ".webp"),
    (0, b"8BPS", ".psd"),
    (0, b"AT&TFORM", ".djvu"),
    (0, b"%!PS-Adobe", ".ps"),
    (0, b"ID3", ".mp3"),
    (0, b"OggS", ".ogg"),
    (0, b"fLaC", ".flac"),
    (4, b"ftyp", ".mp4"),
    (0, b"\x7fELF", ".elf"),
    (0, b"SQLite format 3\0", ".sqlite"),
    (0, b"\0asm", ".wasm"),
    (0, b"\xca\xfe\xba\xbe", ".class"),
)
_BINARY_ONLY = frozenset({".bz2", ".mp3", ".mp4", ".ps", ".ar"})  # these bytes may also begin a text
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_READ_BY_CONTENT = frozenset({".pdf", ".rtf", ".zip", ".ole", ".eml", ".mbox"})
_MAYBE_MAIL = frozenset({"", ".txt", ".text", ".eml", ".mbox", ".mht", ".mhtml", ".msg"})
_LINE_OF_HEADER = re.compile(rb"[!-9;-~]{1,76}:(?:[ \t].*)?$|[ \t].*$")
_HEADERS_OF_MAIL = frozenset(
    {b"received", b"message-id", b"mime-version", b"delivered-to", b"return-path", b"x-mailer", b"dkim-signature"}
)


def suffix_of(name: str) -> str:
    """Return the suffix in lower case; "" for one that names no format (`v1.2 notes`, `ls.1`)."""
    dot = name.rstrip().rfind(".")
    suffix = name.rstrip()[dot:].lower() if dot > 0 else ""
    if not _PLAIN.fullmatch(suffix) or (_NUMBER.fullmatch(suffix) and suffix not in _KINDS):
        return ""
    return suffix


def kind_of(suffix: str) -> Kind:
    """Return how a format is read, by its suffix in lower case."""
    return _KINDS.get(suffix, Kind.UNKNOWN)


def suffix_by_content(data: bytes) -> str | None:
    """Return the suffix of the format that the first bytes are of; None for what may be text or is not known.

    `.zip` and `.ole` are containers of several formats. `.eml` is a mail's header with the fields that only
    transport and mail programs write.
    """
    for offset, magic, suffix in _MAGIC:
        if data.startswith(magic, offset) and (suffix not in _BINARY_ONLY or has_controls(data[:4096])):
            return suffix
    # A PDF may stand behind other bytes within its first 1,024 (ISO 32000-1, annex H, note 13).
    if b"%PDF-1." in data[:1024] and b"\nendobj" in data[: 1024 * 1024].replace(b"\r", b"\n"):
        return ".pdf"
    return _mail(data[:65536])


def has_controls(data: bytes) -> bool:
    """Return whether bytes hold control characters that no text has."""
    return _CONTROL.search(data) is not None


def _mail(head: bytes) -> str | None:
    """Return `.eml` or `.mbox` for what begins with the header of a mail, else None."""
    is_box = head.startswith(b"From ")
    if is_box:
        head = head.partition(b"\n")[2]
    names: set[bytes] = set()
    ended = False
    for line in head.replace(b"\r\n", b"\n").split(b"\n"):
        if not line:
            ended = True
            break
        if not _LINE_OF_HEADER.match(line):
            return None
        if not line[:1].isspace():
            names.add(line.partition(b":")[0].lower())
    sender = names & {b"from", b"sender", b"return-path"}
    if not (ended and sender and (names & _HEADERS_OF_MAIL or is_box)):
        return None
    return ".mbox" if is_box else ".eml"


def format_of(name: str, data: bytes) -> tuple[str, Kind]:
    """Return the suffix and kind that a file is read by: by its bytes where the name is wrong."""
    suffix = suffix_of(name)
    kind = kind_of(suffix)
    content = suffix_by_content(data)
    if content in MAIL and suffix not in _MAYBE_MAIL and kind is not Kind.UNKNOWN:
        content = None  # `git format-patch` writes such headers as well
    if content is None or kind is Kind.ARCHIVE or (kind is Kind.PARSED and content in _READ_BY_CONTENT):
        return suffix, kind
    if content in _READ_BY_CONTENT:
        return content, Kind.PARSED
    return content, kind_of(content)


def refusal_of(suffix: str, kind: Kind) -> str | None:
    """Return why a format is not read; None for one that is, or that is not known."""
    if suffix in (".ps", ".eps"):
        return f"PostScript ({suffix}): it draws pages and has no text to read; convert it to PDF"
    if kind is Kind.PICTURE:
        return f"a picture ({suffix}): it has no text to read, and ragops does no OCR"
    if kind is Kind.ARCHIVE:
        return f"an archive ({suffix}): unpack it into the corpus, where each member is one document"
    if kind is Kind.MEDIA:
        return f"sound or film ({suffix}): it has no text to read"
    if kind is Kind.BINARY:
        return f"unsupported format: {suffix} (a program or data, with no text to read)"
    return None
