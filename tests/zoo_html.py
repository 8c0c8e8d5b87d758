"""Hostile HTML: all visible text, once, in its order."""

from __future__ import annotations

from zoo import Exact, Hostile, Incomplete, Reads, Refused, hostile


def _page(name: str, body: str, words: str, *, head: str = "") -> Hostile:
    """A page with a heading, which once made everything outside known elements disappear."""
    data = f"<!DOCTYPE html><html><head>{head}</head><body><h1>Head</h1>{body}</body></html>".encode()
    return hostile(f"{name}.html", name, data, Reads(f"Head {words}"))


def _declared(name: str, head: str, encoding: str, text: str) -> Hostile:
    data = f"<html><head>{head}</head><body><p>".encode() + text.encode(encoding) + b"</p></body></html>"
    return hostile(f"{name}.html", head, data, Exact(text))


def _meta(label: str, encoding: str, text: str) -> Hostile:
    """A label of the WHATWG's list."""
    return _declared(f"meta_{label}", f'<meta charset="{label}">', encoding, text)


_JAPANESE, _CHINESE, _KOREAN, _RUSSIAN = "日本語の文章です", "中文文档内容", "한국어 문서입니다", "Русский текст"

_ELEMENTS = (
    _page("div", "<div>one two</div>", "one two"),
    _page("bare_body", "one two", "one two"),
    _page("span", "<span>one</span> <span>two</span>", "one two"),
    _page("link", '<a href="http://x.example/y">one</a> two', "one two"),
    _page("code", "<code>one</code> <kbd>two</kbd> <samp>three</samp> <var>four</var>", "one two three four"),
    _page("blockquote", "<blockquote>one <cite>two</cite></blockquote>", "one two"),
    _page("dl", "<dl><dt>term<dd>one<dt>next<dd>two</dl>", "term one next two"),
    _page("details", "<details><summary>one</summary>two</details>", "one two"),
    _page("figure", "<figure><figcaption>one</figcaption></figure>", "one"),
    _page("table", "<table><caption>one<tr><th>two<td>three<tr><td>four</table>", "one two three four"),
    _page("nested_table", "<table><tr><td>one<table><tr><td>two</table>three</table>", "one two three"),
    _page("text_beside_table", "one<table><tr><td>two</table>three", "one two three"),
    _page("font_center", "<center><font size=7>one</font></center>", "one"),
    _page("button", "<button>one</button>", "one"),
    _page("textarea", "<textarea>one two</textarea>", "one two"),
    _page("select", "<select><option>one<option>two</select>", "one two"),
    _page(
        "nav", "<nav>one</nav><header>two</header><footer>three</footer><aside>four</aside>", "one two three four"
    ),
    _page("form", "<form><label>one</label> <legend>two</legend></form>", "one two"),
    _page("svg", "<svg><text>one</text></svg>", "one"),
    _page("math", "<math><mi>one</mi><mo>+</mo><mn>2</mn></math>", "one 2"),
    _page(
        "formula",
        "<math><semantics><mrow><msup><mi>a</mi><mn>2</mn></msup><mo>+</mo><mi>b</mi></mrow>"
        '<annotation encoding="application/x-tex">a^2 + b</annotation></semantics></math> one',
        "a2 b one",
    ),
    _page("list", "<ul><li>one<ul><li>two</ul><li>three</ul>", "one two three"),
    _page("text_in_list", "<ul>one<li>two</li>three</ul>", "one two three"),
    _page("unclosed_p", "<p>one<p>two<div>three<p>four", "one two three four"),
    _page("misnested", "<b>one<i>two</b>three</i>", "onetwothree"),
    _page("blocks_part_words", "<div>one</div><div>two</div>three<br>four<hr>five", "one two three four five"),
    _page("inline_joins", "<b>o</b>n<i>e</i> t<wbr>wo", "one two"),
    _page("pre", "<pre>one\n  two</pre>", "one two"),
    _page("xmp", "<xmp>one <b>two</b></xmp>", "one b two b"),
    _page("plaintext", "<plaintext>one <b>two", "one b two body html"),
    _page("script_style", "<script>no()</script><style>p{no:1}</style>one", "one"),
    _page("comment", "one<!-- no --> two<!----> three", "one two three"),
    _page("conditional", "<!--[if IE]>no<![endif]-->one", "one"),
    _page("template", "<template>no</template>one", "one"),
    _page("entities", "&lt;one&gt; &amp; &eacute;t&eacute; &#x1F600; &#150; &notanentity;", "one été anentity"),
    _page("custom", "<x-card>one<slot>two</slot></x-card>", "onetwo"),
    _page("ruby", "<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby> one", "漢 kan one"),
    _page("attribute_with_tags", '<p title="<p>no</p>">one</p>', "one"),
    _page("unquoted_attributes", "<p class=a id=b>one", "one"),
    _page("base64", '<img src="data:image/png;base64,' + "QUJD" * 4000 + '">one', "one"),
    _page("uppercase", "<DIV>one</DIV><P>two", "one two"),
    _page("null_element", "<>one</> <1>two", "one 1 two"),
    _page("two_bodies", "<p>one</body></html><body><p>two", "one two"),
    hostile("no_html.html", "no tags at all", b"one two", Exact("one two")),
    hostile("title.html", "the title is text", b"<title>one</title><p>two</p>", Reads("one two")),
    hostile("frameset.html", "frames hold no text", b"<frameset><frame src=a.html></frameset>", Refused("empty")),
    hostile(
        "noscript.html", "shown where nothing runs", b"<body><p>one</p><noscript>two</noscript>", Reads("one two")
    ),
    hostile("empty_body.html", "a page of nothing", b"<html><body></body></html>", Refused("empty document")),
    hostile(
        "blank_body.html", "a space that does not break", b"<body>&nbsp;&#8203;</body>", Refused("empty document")
    ),
    hostile(
        "script_only.html",
        "an application's shell",
        b"<body><div id=app></div><script>x()</script></body>",
        Refused("empty document"),
    ),
    hostile(
        "deep.html",
        "200 elements deep",
        b"<p>Head</p>" + b"<div>" * 200 + b"one" + b"</div>" * 200,
        Reads("Head one"),
    ),
    hostile(
        "very_deep.html",
        "10,000 elements deep",
        b"<p>Head</p>" + b"<div>" * 10_000 + b"one",
        Reads("Head one"),
        Incomplete("Head", "1 of 2"),
        Refused("deep|nest|parser failed"),
    ),
    hostile("many.html", "50,000 paragraphs", b"<p>word" * 50_000, Reads("word " * 50_000)),
    hostile("long_word.html", "one word of 1 MB", b"<p>" + b"x" * 1_000_000, Exact("x" * 1_000_000)),
    hostile("nul.html", "NUL", b"<p>a\0b</p>", Refused("NUL character")),
    hostile(
        "page.xhtml",
        "XHTML",
        b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>one'
        b"</p><div>two</div></body></html>",
        Reads("one two"),
    ),
    hostile("truncated.html", "ends within a tag", b"<h1>Head</h1><div>one</div><a href=", Reads("Head one")),
    hostile("mail_quote.html", "ends within a comment", b"<h1>Head</h1>one<!-- ", Reads("Head one")),
)

_ENCODINGS = (
    _meta("iso-8859-1", "cp1252", "Café ’ € – “x”"),
    _meta("windows-1252", "cp1252", "Café €"),
    _meta("windows-1251", "cp1251", _RUSSIAN),
    _meta("koi8-r", "koi8-r", _RUSSIAN),
    _meta("x-sjis", "cp932", f"{_JAPANESE}①"),
    _meta("windows-31j", "cp932", f"{_JAPANESE}髙"),
    _meta("x-euc-jp", "euc_jp", _JAPANESE),
    _meta("iso-2022-jp", "iso2022_jp", _JAPANESE),
    _meta("gb2312", "gbk", f"{_CHINESE}镕"),
    _meta("gb18030", "gb18030", f"{_CHINESE}𠀀"),
    _meta("big5", "big5", "中文文件內容"),
    _meta("euc-kr", "cp949", f"{_KOREAN} 똠"),
    _meta("windows-874", "cp874", "ภาษาไทย €"),
    _meta("iso-8859-8-i", "iso8859-8", "עברית"),
    _meta("macintosh", "mac_roman", "Café"),
    _declared("charset_in_comment", '<!-- charset=koi8-r --><meta charset="windows-1252">', "cp1252", "café"),
    _declared(
        "script_charset",
        '<script charset="utf-8" src="x.js"></script><meta charset="windows-1252">',
        "cp1252",
        "café",
    ),
    _declared(
        "http_equiv",
        '<META HTTP-EQUIV=Content-Type CONTENT="text/html; CHARSET = windows-1251">',
        "cp1251",
        _RUSSIAN,
    ),
    _declared(
        "declared_after_title", f"<title></title>{'<meta name=a>' * 40}<meta charset=koi8-r>", "koi8-r", _RUSSIAN
    ),
    _declared("declares_utf16", '<meta charset="utf-16">', "utf-8", "café"),
    hostile(
        "hz.html",
        "hz is declared: browsers refuse it",
        f"<meta charset=hz-gb-2312><p>{_CHINESE}".encode("hz"),
        Exact(_CHINESE),
        Refused("hz-gb-2312"),
    ),
    hostile(
        "unicode_escape.html",
        "a codec of Python",
        b'<meta charset="unicode_escape"><p>caf\xe9 \\ud800',
        Refused("unicode_escape"),
    ),
    hostile(
        "raw_unicode_escape.html",
        "a codec of Python",
        b'<meta charset="raw_unicode_escape"><p>\xe9 \\ud800',
        Refused("raw_unicode_escape"),
    ),
    hostile("rot13.html", "a codec of Python", b'<meta charset="rot13"><p>caf\xe9', Refused("rot13")),
    hostile("zlib.html", "a codec of Python", b'<meta charset="zlib"><p>caf\xe9', Refused("zlib")),
    hostile("idna.html", "a codec of Python", b'<meta charset="idna"><p>caf\xe9', Refused("idna")),
    hostile("nonsense_charset.html", "no encoding", b'<meta charset="nonsense"><p>caf\xe9', Refused("nonsense")),
    hostile("undeclared.html", "nothing is declared", b"<p>caf\xe9 au lait", Refused("not UTF-8")),
    hostile("declared_utf8.html", "but it is not", b'<meta charset="utf-8"><p>caf\xe9', Refused("(?i)utf-8")),
    hostile(
        "bom_over_meta.html",
        "the mark counts",
        b"\xef\xbb\xbf<meta charset=koi8-r><p>" + "café".encode(),
        Exact("café"),
    ),
    hostile("utf16.html", "UTF-16 with its mark", "<p>café</p>".encode("utf-16"), Exact("café")),
    hostile(
        "utf8_declared_latin1.html",
        "UTF-8 that declares Latin-1",
        '<meta charset="iso-8859-1"><p>café ’</p>'.encode(),
        Exact("café ’"),
        Refused("."),
        Exact("cafÃ© â€™"),
    ),
)

ENTRIES = (*_ELEMENTS, *_ENCODINGS)
