"""Hostile encodings of plain text."""

from __future__ import annotations

import codecs

from zoo import Exact, Hostile, Refused, hostile

CAFE = "Ein Café in Zürich: naïve façade, 5 € – “quoted”."
RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю."
GREEK = "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, και την αλήθεια."
JAPANESE = "これは日本語の文章です。検索のために保存します。漢字とかなを含みます。"
CHINESE = "这是一个用于检索的中文文档。它包含许多汉字，应当完整地保存。"
TAIWAN = "這是一個用於檢索的中文文件。它包含許多漢字，應當完整地保存。"
KOREAN = "이것은 검색을 위한 한국어 문서입니다. 많은 한글을 포함합니다."
THAI = "นี่คือเอกสารภาษาไทยสำหรับการค้นหา"
HEBREW = "זהו מסמך בעברית לחיפוש"

NOT_UTF8 = Refused(r"not UTF-8 text \(byte 0x[0-9a-f]{2} at offset \d+\)")
# ESC $ and ~{ are ASCII, and so UTF-8: completed, they would be stored as escape sequences.
SEVEN_BIT = "(?i)iso-?2022|hz"


def _legacy(encoding: str, text: str, times: int = 4) -> Hostile:
    """A text in an encoding that nothing declares: never guessed."""
    data = "\n".join([text] * times).encode(encoding)
    return hostile(f"{encoding}.txt", f"undeclared {encoding}", data, NOT_UTF8)


ENTRIES = (
    hostile("utf8.txt", "UTF-8", CAFE.encode(), Exact(CAFE)),
    hostile("utf8_bom.txt", "a mark is no text", codecs.BOM_UTF8 + CAFE.encode(), Exact(CAFE)),
    hostile(
        "utf8_bom_twice.txt",
        "a second mark is invisible",
        codecs.BOM_UTF8 * 2 + b"abc",
        Exact("abc"),
        Exact("\ufeffabc"),
    ),
    hostile("utf16le.txt", "UTF-16 with its mark", codecs.BOM_UTF16_LE + CAFE.encode("utf-16-le"), Exact(CAFE)),
    hostile("utf16be.csv", "UTF-16, big endian", codecs.BOM_UTF16_BE + CAFE.encode("utf-16-be"), Exact(CAFE)),
    hostile(
        "utf16le_emoji.md", "surrogate pairs", codecs.BOM_UTF16_LE + "😀 ok".encode("utf-16-le"), Exact("😀 ok")
    ),
    hostile("utf16_bare.txt", "UTF-16 without a mark", "plain".encode("utf-16-le"), Refused("NUL|UTF-16")),
    hostile("utf16be_bare.txt", "the same, big endian", "plain".encode("utf-16-be"), Refused("NUL|UTF-16")),
    hostile("utf16_kanji_bare.txt", "without any NUL", JAPANESE.encode("utf-16-le"), Refused("not UTF-8|UTF-16")),
    hostile("utf16_odd.txt", "one byte too many", codecs.BOM_UTF16_LE + b"a\0b", Refused("not UTF-16")),
    hostile("utf16_lone.txt", "a lone surrogate", codecs.BOM_UTF16_LE + b"\0\xd8a\0", Refused("not UTF-16")),
    hostile(
        "utf32le.txt",
        "its mark begins as that of UTF-16",
        codecs.BOM_UTF32_LE + CAFE.encode("utf-32-le"),
        Exact(CAFE),
        Refused("NUL|UTF-32"),
    ),
    hostile("utf32be.txt", "UTF-32", codecs.BOM_UTF32_BE + CAFE.encode("utf-32-be"), Exact(CAFE), Refused(".")),
    _legacy("cp1252", CAFE),
    _legacy("latin-1", "Ein Café in Zürich: naïve façade."),
    _legacy("iso8859-15", "Ein Café, 5 €."),
    _legacy("cp437", "Ein Café in Zürich."),
    _legacy("cp1251", RUSSIAN),
    _legacy("koi8-r", RUSSIAN),
    _legacy("iso8859-5", RUSSIAN),
    _legacy("cp1253", GREEK),
    _legacy("cp1255", HEBREW),
    _legacy("cp874", THAI),
    _legacy("shift_jis", JAPANESE),
    _legacy("euc_jp", JAPANESE),
    _legacy("gbk", CHINESE),
    _legacy("gb18030", CHINESE),
    _legacy("big5", TAIWAN),
    _legacy("euc_kr", KOREAN),
    _legacy("johab", KOREAN),
    _legacy("mac_roman", CAFE),
    hostile("iso2022jp.txt", "7 bit", JAPANESE.encode("iso2022_jp"), Exact(JAPANESE), Refused(SEVEN_BIT)),
    hostile(
        "iso2022jp.csv",
        "7 bit",
        f"a,{JAPANESE}\n".encode("iso2022_jp"),
        Exact(f"a,{JAPANESE}"),
        Refused(SEVEN_BIT),
    ),
    hostile(
        "iso2022jp2004.txt", "7 bit", "Größe".encode("iso2022_jp_2004"), Exact("Größe"), Refused("(?i)iso.?2022")
    ),
    hostile("iso2022kr.txt", "7 bit", KOREAN.encode("iso2022_kr"), Exact(KOREAN), Refused(SEVEN_BIT)),
    hostile("hz.txt", "7 bit", CHINESE.encode("hz"), Exact(CHINESE), Refused(SEVEN_BIT)),
    hostile(
        "ansi.log",
        "colours are no encoding",
        b"\x1b[31mred\x1b[0m plain",
        Exact("\x1b[31mred\x1b[0m plain"),
        Exact("red plain"),
    ),
    hostile("tilde_brace.txt", "~{ alone is no HZ", b"regex ~{a} and {~}", Exact("regex ~{a} and {~}")),
    hostile("cesu8.txt", "surrogates as UTF-8", b"a \xed\xa0\xbd\xed\xb8\x80 b", NOT_UTF8),
    hostile("overlong.txt", "a slash in two bytes", b"a \xc0\xaf b", NOT_UTF8),
    hostile("truncated.txt", "ends within a character", "Zürich é".encode()[:-1], NOT_UTF8),
    hostile(
        "one_bad_byte.txt", "a single byte of Latin-1 in UTF-8", "Zürich ".encode() * 99 + b"caf\xe9", NOT_UTF8
    ),
    hostile("beyond_unicode.txt", "U+110000", b"a \xf4\x90\x80\x80", NOT_UTF8),
    hostile("ebcdic.txt", "EBCDIC", "HELLO WORLD".encode("cp037"), NOT_UTF8),
    hostile("nul.txt", "NUL cannot be stored", b"abc\0def", Refused("NUL character at offset 3")),
    hostile(
        "controls.txt", "other controls can", b"a\x01\x02b\x7fc", Exact("a\x01\x02b\x7fc"), Refused("control")
    ),
    hostile("blank.txt", "white space", b" \t\r\n\x0b\x0c ", Refused("empty document")),
    hostile("zero.txt", "no byte", b"", Refused("empty document: 0 bytes")),
    hostile("bom_only.txt", "a mark alone", codecs.BOM_UTF8, Refused("empty document")),
    hostile("bom16_only.txt", "a mark alone", codecs.BOM_UTF16_LE, Refused("empty document")),
    hostile(
        "zero_width.txt",
        "nothing to see",
        "\u200b\u200c\u200d\u2060\ufeff\u200e".encode(),
        Refused("empty document"),
    ),
    hostile("soft_hyphens.txt", "nothing to see", "\u00ad \u00ad".encode(), Refused("empty document")),
    hostile(
        "fillers.txt",
        "Unicode's white space",
        "\u3000\u00a0\u2003\u2028\u2029\u0085".encode(),
        Refused("empty document"),
    ),
    hostile("ascii_separators.txt", "U+001C to U+001F", b"\x1c\x1d\x1e\x1f", Refused("empty document")),
    hostile(
        "joiners.txt",
        "joiners between letters stay",
        "می\u200cخواهم 👩\u200d💻".encode(),
        Exact("می\u200cخواهم 👩\u200d💻"),
    ),
    hostile("line_ends.txt", "three kinds of line end", b"a\r\nb\rc\nd", Exact("a\nb\nc\nd")),
    hostile("bidi.txt", "directions stay", "a \u202eb\u202c c".encode(), Exact("a \u202eb\u202c c")),
    hostile("noncharacters.txt", "U+FFFE, U+FFFF are valid", "a\ufffe\uffffb".encode(), Exact("a\ufffe\uffffb")),
    hostile("decomposed.txt", "combining signs stay as they are", "Cafe\u0301".encode(), Exact("Cafe\u0301")),
    hostile("private_use.txt", "private signs", "a \ue000 \U000f0000".encode(), Exact("a \ue000 \U000f0000")),
)
