"""Text of HTML and XML: all that a reader sees, once, in order, whatever the markup is like."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_file
from ragops.documents.markup import read_markup, text_of_html
from ragops.documents.reading import Partial
from ragops.documents.tags import missing_words, strip_tags
from ragops.documents.xml_text import read_xml, text_of_xml


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<html><body><h1>Head</h1><div>BODYWORD is text.</div></body></html>", "Head\n\nBODYWORD is text."),
        ("bare <p>one<p>two <b>b</b>old", "bare\n\none\n\ntwo bold"),
        ("<title>T &amp; t</title><p>x", "T & t\n\nx"),
        ("<ul><li>a<li>b</ul><ol start=3><li>c<li value=7>d<li>e</ol>", "a\nb\n\n3. c\n7. d\n8. e"),
        ("<ol reversed start=2><li>a<ol><li>b</ol><li>c</ol><ol type=a><li>d</ol>", "2. a\n\n1. b\n\n1. c\n\nd"),
        ("<dl><dt>term<dd>meaning</dl><blockquote>quoted</blockquote>", "term\nmeaning\n\nquoted"),
        ("<details><summary>sum</summary>more</details>", "sum\nmore"),
        ("<figure><img alt='a pic' src=x><figcaption>cap</figcaption></figure>", "a pic\ncap"),
        ("<a>a</a> <code>c</code> <font>f</font> <span>s</span>", "a c f s"),
        ("<form><label>Name<input value=Ann></label><input type=hidden value=no><button>Go</button>"
         "<input type=submit value=Send><textarea>\na  b</textarea></form>", "Name Ann Go Send\n\na  b"),
        ("<select><option>one<option>two</select>", "one\ntwo"),
        ("<noscript><p>ns</p></noscript><p hidden>later</p>", "ns\n\nlater"),
        ("<nav>n</nav><header>h</header><aside>a</aside><footer>f</footer>", "n\n\nh\n\na\n\nf"),
        ("<svg><title>st</title><text>s1<tspan>x</tspan></text><style>no</style></svg>", "st\n\ns1x"),
        ("<frameset><frame src=x><noframes><p>Hello <b>you</b></noframes></frameset>", "Hello you"),
        ("<pre>\n a\n   b\n</pre>c", "a\n   b\n\n\nc"),
        ("1<br>2<hr>3<wbr>4", "1\n2\n\n34"),
        ("a\u00a0b  c\n d", "a\u00a0b c d"),
        ("<math><semantics><mi>x</mi><annotation>\\TeX</annotation></semantics></math>", "x"),
        ("<p>x<script>no</script><style>no</style><!-- no --><iframe>no</iframe>", "x"),
        ("<p>x<template>no<template>no</template>no</template>y", "xy"),
        ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>", "漢(かん)"),
        ("<plaintext><b>raw</b>", "<b>raw</b>"),
    ],
)  # fmt: skip
def test_all_visible_text_of_html_is_kept_once_and_in_order(markup: str, text: str) -> None:
    assert text_of_html(markup) == text


def test_xhtml_is_read_as_xml_means_it() -> None:
    page = (
        '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="x"/>'
        '<style/></head><body><p>one<a id="x"/> two</p><textarea/><div/><p><![CDATA[a < b]]></p>'
        "<script>//<![CDATA[\nno()//]]>\n</script><iframe src='x' /><p>three</p></body></html>"
    )
    read = read_markup(page, is_html=True)
    assert (read.text.split(), read.missing) == (["one", "two", "a", "<", "b", "three"], ())
    assert text_of_html(page).split() == read.text.split()
    assert text_of_html('<html><script src="x"/>no</script>yes') == "yes"


def test_cells_are_apart_and_text_beside_a_nested_table_comes_once() -> None:
    inner = "<table><tr><td>in1<td>in2</table>"
    page = f"<table><caption>cap<tr><th>1<th>2<tr><td>before{inner}after<td>3</table>"
    assert text_of_html(page).split() == ["cap", "1", "2", "before", "in1", "in2", "after", "3"]
    assert "1\t2" in text_of_html(page)
    assert "in1\tin2" in text_of_html(page)


@pytest.mark.parametrize("tag", ["div", "b", "table><tr><td", "svg><g", "ul><li", "ruby><rt"])
def test_elements_may_be_nested_a_thousand_deep(tag: str) -> None:
    page = f"<{tag}>" * 1000 + "deep"
    assert text_of_html(page).endswith("deep")
    assert read_markup(page, is_html=True).missing == ()


def test_a_page_goes_through_the_parsers_process(tmp_path: Path) -> None:
    data = "<html><body><div>Grüße</div><script>x()</script><p>Hello</body></html>".encode()
    (tmp_path / "a.html").write_bytes(data)
    found = extract_file(tmp_path / "a.html")
    assert (found.text, found.media_type, found.partial) == ("Grüße\n\nHello", "text/html", None)
    assert found.content_hash == hashlib.sha256(data).hexdigest()


def test_an_empty_page_fails_and_ragops_own_mark_is_never_stored(tmp_path: Path) -> None:
    for body, reason in (
        ("<p>&#8203;&#xFEFF;</p>", "empty document: no text in the page"),
        ("<script>x</script><img src=x><img src=y>", "no text in the page, but 1 script, 2 pictures"),
    ):
        (tmp_path / "a.html").write_text(f"<html><head></head><body>{body}</body></html>", encoding="utf-8")
        with pytest.raises(Unreadable) as error:
            extract_file(tmp_path / "a.html")
        assert error.value.reason.endswith(reason)
    (tmp_path / "a.html").write_text("\ufeff<div>x</div>", encoding="utf-8")
    assert extract_file(tmp_path / "a.html").text == "x"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<a>1<b>x</b>y <c>d</c><d><![CDATA[<raw> &amp;]]></d><!-- no --><?pi no?></a>", "1xy d <raw> &amp;"),
        ("<rss><item><title>T</title><description>D &lt;b&gt;</description></item></rss>", "T\nD <b>"),
        ("<svg><style>no</style><style/><text><tspan>T</tspan>ext</text><desc>d</desc></svg>", "Text\nd"),
        ("<a><style>kept</style></a>", "kept"),
        ("<p>Foo<note>bar</note>baz</p>", "Foo bar baz"),
        ("<d><p><name>Al</name> was</p><p>x</p></d>", "Al was\nx"),
        ("<d><screen> a\n  b</screen></d>", "a\n  b"),
        ("<!DOCTYPE a SYSTEM 'http://localhost/y.dtd'><a>&nbsp;&eacute; &unknown;</a>", "\u00a0é &unknown;"),
        ("<!DOCTYPE a [<!ENTITY i 'inner'>]><a>1 &i; 2</a>", "1 inner 2"),
        ("<a>1 <b>not closed</a> and\n more", "1 not closed and\nmore"),
        ("<a>1</a><c>2</c>", "1 2"),
    ],
)  # fmt: skip
def test_the_text_of_all_elements_of_xml_is_kept(markup: str, text: str) -> None:
    assert text_of_xml(markup) == text
    assert text_of_xml(f"<?xml version='1.0' encoding='utf-16'?>\n{markup}") == text


def test_nothing_outside_of_xml_is_read_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("SECRET", encoding="utf-8")
    page = f"<!DOCTYPE a [<!ENTITY e SYSTEM '{(tmp_path / 'secret.txt').as_uri()}'>]><a>one &e; two</a>"
    text, elsewhere = read_xml(page)
    assert text == "one two"
    assert elsewhere == (f"entity e ({(tmp_path / 'secret.txt').as_uri()})",)
    (tmp_path / "a.xml").write_text(page, encoding="utf-8")
    found = extract_file(tmp_path / "a.xml")
    assert (found.text, found.media_type) == ("one two", "application/xml")
    assert found.partial is not None
    assert found.partial.missing == elsewhere


def test_entities_that_grow_without_bound_fail_alone(tmp_path: Path) -> None:
    names = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol"}">' for i in range(12))
    (tmp_path / "a.xml").write_text(f'<?xml version="1.0"?><!DOCTYPE a [{names}]><a>&l11;</a>', encoding="utf-8")
    with pytest.raises(Unreadable, match="entities that expand to far more than the document"):
        extract_file(tmp_path / "a.xml")


def test_words_that_only_the_other_way_finds_are_missing() -> None:
    page = "<p>" + "word " * 100 + "<p>one two three"
    assert missing_words(page, "word " * 100 + "one two three", is_html=True) == (103, {})
    total, missing = missing_words(page, "word " * 90 + "one", is_html=True)
    assert (total, missing) == (103, {"word": 10, "two": 1, "three": 1})


def test_a_page_whose_text_is_lost_is_partial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ragops.documents import markup
    from ragops.documents.readers.markup import read_markup_file

    monkeypatch.setattr(markup, "_text_of_html", lambda _: "one")
    read = read_markup_file(b"<p>one two three four", ".html")
    assert (read.text, read.found, read.expected, read.unit) == ("one", 1, 4, "words")
    assert str(Partial(read.found, read.expected, read.unit, read.missing)) == (
        "1 of 4 words; missing: words such as: two, three, four"
    )


@pytest.mark.parametrize(
    "piece",
    [
        "<!--",
        "<a '",
        '<a "',
        "<![CDATA[",
        "<?",
        "</",
        "<",
        "<script>",
        "<style",
        "&#",
        "<a b=c",
        "<!-- -- >",
        '<i ">"',
        "<template>",
    ],
)
def test_stripping_tags_takes_linear_time(piece: str) -> None:
    def seconds(count: int, *, is_html: bool) -> float:
        began = time.process_time()
        strip_tags(piece * count, is_html=is_html)
        return time.process_time() - began

    for is_html in (True, False):
        assert seconds(50_000, is_html=is_html) < 30  # quadratic time would be minutes
