"""Hostile XML and SVG."""

from __future__ import annotations

from zoo import Exact, Incomplete, Reads, Refused, hostile

_ENTITIES = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "lol"}">' for i in range(10))
_SVG = '<svg xmlns="http://www.w3.org/2000/svg">'
_JAPANESE = "日本語の文章です"

ENTRIES = (
    hostile("plain.xml", "mixed content", b"<a><b>one</b> two <c/>three</a>", Reads("one two three")),
    hostile("cdata.xml", "CDATA", b"<a><![CDATA[one <b> & two]]></a>", Reads("one b two")),
    hostile(
        "comment.xml", "comments and instructions are no text", b"<a><!-- no --><?no no?>one</a>", Reads("one")
    ),
    hostile("namespaces.xml", "prefixes", b'<x:a xmlns:x="u:x"><x:b>one</x:b></x:a>', Reads("one")),
    hostile("blocks.xml", "elements part words", b"<a><p>one</p><p>two</p></a>", Reads("one two")),
    hostile(
        "laughs.xml",
        "a billion laughs",
        f'<?xml version="1.0"?><!DOCTYPE a [{_ENTITIES}]><a>one &e9;</a>'.encode(),
        Refused("entit|parser failed|XML|xml"),
        Reads("one"),
        Reads("one e9"),
    ),
    hostile(
        "external.xml",
        "a file of this machine",
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>one &x; two</a>',
        Incomplete("one two", "entity x"),
        Reads("one x two"),
        Incomplete("one two", "entity x"),
        Refused("entit"),
    ),
    hostile(
        "remote_dtd.xml",
        "a DTD of another machine",
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><a>one</a>',
        Reads("one"),
    ),
    hostile(
        "broken.xml", "not well-formed", b"<a><b>one</a>two", Reads("one two"), Reads("onetwo"), Refused("(?i)xml")
    ),
    hostile(
        "latin1.xml",
        "declared",
        '<?xml version="1.0" encoding="ISO-8859-1"?><a>café</a>'.encode("latin-1"),
        Exact("café"),
    ),
    hostile(
        "koi8.xml",
        "declared",
        '<?xml version="1.0" encoding="koi8-r"?><a>Русский</a>'.encode("koi8-r"),
        Exact("Русский"),
    ),
    hostile(
        "sjis.xml",
        "declared",
        f'<?xml version="1.0" encoding="Shift_JIS"?><a>{_JAPANESE}</a>'.encode("cp932"),
        Exact(_JAPANESE),
    ),
    hostile(
        "iso2022jp.xml",
        "declared, 7 bit",
        f'<?xml version="1.0" encoding="ISO-2022-JP"?><a>{_JAPANESE}</a>'.encode("iso2022_jp"),
        Exact(_JAPANESE),
    ),
    hostile(
        "utf16_declared_8bit.xml",
        "declares UTF-16, and is ASCII",
        b'<?xml version="1.0" encoding="UTF-16"?><a>plain text of eight bits </a>',
        Reads("plain text of eight bits"),
        Refused("(?i)utf-16"),
    ),
    hostile(
        "utf16_declared_latin1.xml",
        "declares UTF-16, and is Latin-1",
        b'<?xml version="1.0" encoding="UTF-16"?><a>caf\xe9 au lait</a>',
        Refused("(?i)utf-16|not UTF-8"),
    ),
    hostile(
        "utf16.xml",
        "UTF-16 with its mark",
        '<?xml version="1.0" encoding="UTF-16"?><a>café</a>'.encode("utf-16"),
        Exact("café"),
    ),
    hostile(
        "utf16_bare.xml",
        "UTF-16 without a mark",
        '<?xml version="1.0" encoding="UTF-16LE"?><a>café</a>'.encode("utf-16-le"),
        Exact("café"),
        Refused("(?i)NUL|utf-16"),
    ),
    hostile(
        "python_codec.xml",
        "a codec of Python",
        b'<?xml version="1.0" encoding="unicode_escape"?><a>\xe9</a>',
        Refused("unicode_escape"),
    ),
    hostile(
        "truncated.xml",
        "ends early",
        b'<?xml version="1.0"?><a><p>one</p><p>two</p><p>th',
        Incomplete("one two th", "end"),
        Refused("(?i)xml|ends"),
    ),
    hostile(
        "truncated.svg",
        "ends early",
        f"{_SVG}<text>one</text><text>two".encode(),
        Incomplete("one two", "end"),
        Refused("(?i)xml|ends"),
    ),
    hostile("empty.xml", "no text", b"<a><b/></a>", Refused("empty document")),
    hostile(
        "text.svg",
        "texts of a drawing",
        f"{_SVG}<title>one</title><text>two<tspan>three</tspan></text></svg>".encode(),
        Reads("one twothree"),
        Reads("one two three"),
    ),
    hostile(
        "paths.svg",
        "a drawing without text",
        f'{_SVG}<path d="M0 0L9 9"/></svg>'.encode(),
        Refused("empty document"),
    ),
    hostile(
        "style.svg",
        "style and script are no text",
        f"{_SVG}<style>no</style><script>no</script><text>one</text></svg>".encode(),
        Reads("one"),
    ),
    hostile(
        "deep.xml",
        "60,000 elements deep",
        b"<a>" * 60_000 + b"one" + b"</a>" * 60_000,
        Reads("one"),
        Refused("deep|nest|parser failed|(?i)xml"),
    ),
)
