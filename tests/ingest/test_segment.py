"""Pages cut into blocks by arrays: the same blocks as a walk over the tree finds, on any markup."""
# ruff: noqa: SIM905, RUF001

import re
from typing import Any

import numpy as np
import pytest
from lxml import etree

from ingest.maintext.hints import FRAMED, HINTS, hints_of
from ingest.maintext.segment import SKIPPED, TAG, segment, without
from ingest.maintext.wording import WORDING, wording
from ingest.tags import parse_page
from tests.benchmarks.hostile import KINDS, hostile

ODD = (
    "<p>one <b>t</b>wo<br>three</p><pre>a\n  b</pre><script>x</script>four",
    "<p>1 < 2 &amp;&amp; 3 > 2 &lt;b> &amp;lt; &nbsp; &eacute; &unknown; &#13;x</p>",
    "<a<b class=x>odd name</a<b><p a<b=c d\"e=f>odd attribute</p><p =x>another</p>",
    "<div title='a > b < c' class=\"q'><\">quoted</div><p title=\"<p>\">tags in values</p>",
    "<p>un<p>closed<li>item<table><tr><td>cell<td>cell</table></div></span>end",
    "<xmp><p>raw &amp; text</p></xmp><noframes><p>x</p></noframes><plaintext>to <b>the end",
    "<div/><p/>text<br/><br />more<span/>same<hr/>last<a href=x/>link</a>",
    "<!-- <p>no</p> --><![CDATA[ <p>c</p> ]]><?php echo '<p>' ?><!DOCTYPE x><p>yes</p>",
    "<p>a\x01b\x1fc\u00a0d\u2028e\u3000f\u200bg</p><p>\u00a0\u3000</p><p>\u0000z</p>",
    "<svg><title>no</title><p>in</p></svg><title>late</title><math><mi>x</mi></math>tail",
    "<td-tag>custom</td-tag><p:x>prefixed</p:x><blockquotes>s</blockquotes><H1>CASE</H1>",
    "<body>a<body class=x>b</body>c</html>d", "<p>", "x", "<br>", "<script>", "<frameset><frame>",
    "<pre>\n\n a &amp; <i>b</i>\n\tc  d \n</pre><div><pre><p>inner\n line</p>\n after\n it</pre>",
    "<a>one<a>two<p>three</a>four</p><b><p>five</b>six</p><strong>seven<div>eight</strong>nine",
    "<ul><li>日本語。<li>русский<li>😀 emoji 😀</ul>" + "<div>" * 300 + "deep" + "</div>" * 300,
)


def _walked(source: str) -> tuple[list[str], list[int], list[int]]:
    """Blocks, how many elements hold each, links in each: by a walk over every node."""
    root = parse_page(source)
    found: tuple[list[str], list[int], list[int]] = ([], [], [])
    parts: list[str] = []
    stack: list[int] = []
    links = 0
    walker: Any = () if root is None else etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        starts, number = event == "start", TAG.get(element.tag)
        if starts and element.tag in SKIPPED:
            walker.skip_subtree()
            continue
        if number is not None or (element.tag == "br" and starts):
            raw = re.sub("[\x01-\x08\x0b\x0c\x0e-\x1f]", " ", "".join(parts))
            if raw.split():
                lines = raw.strip().split("\n") if stack[-1] == TAG["pre"] else [raw]
                found[0].append("\n".join(" ".join(line.split()) for line in lines))
                found[1].append(len(stack))
                found[2].append(links)
            parts, links = [], 0
            if number is not None and starts:
                stack.append(number)
            elif number is not None:
                stack.pop()
        links += starts and element.tag == "a"
        parts.append((element.text if starts else element.tail) or "")
    return found


def _same(source: str) -> None:
    page = segment(parse_page(source))
    depths = (page.depth[page.element] + 1).tolist() if page.texts else []
    assert (page.texts, depths, list(page.links)) == _walked(source)


@pytest.mark.parametrize("source", ODD)
def test_odd_markup_gives_the_blocks_of_a_walk(source: str) -> None:
    _same(source)
    _same(f"<!DOCTYPE html><title>t</title><div class='a b'>{source}</div>{source}")


@pytest.mark.parametrize("number", range(4 * len(KINDS)))
def test_hostile_markup_gives_the_blocks_of_a_walk(number: int) -> None:
    _same(hostile(number)[1].decode("utf-8", "replace"))


def test_elements_of_a_page_form_its_tree() -> None:
    page = segment(parse_page(
        "<main><div class='article-body'><p>a <a>b</a></p><p>c</p></div><ul><li>d</ul></main>"
    ))
    assert page.tag.tolist() == [TAG[n] for n in "body body main div p p ul li".split()]
    assert page.parent.tolist() == [-1, 0, 1, 2, 3, 3, 2, 6]
    assert page.depth.tolist() == [0, 1, 2, 3, 4, 4, 3, 4]
    assert page.first.tolist() == [0, 0, 0, 0, 0, 1, 2, 2]
    assert page.last.tolist() == [3, 3, 3, 2, 1, 2, 3, 3]
    assert page.element.tolist() == [4, 5, 7]
    assert page.linked.tolist() == [0.5, 0, 0]
    assert [page.markup[a:b] for a, b in page.span[5:6].tolist()] == [b"<p>c</p>"]


def test_elements_are_left_out_whole() -> None:
    page = segment(parse_page(
        "<nav><ul><li>menu</ul></nav><p>one</p><form><p>two</p></form><p>three</p>"
    ))
    gone = np.isin(page.tag, [TAG["nav"], TAG["ul"], TAG["form"]])
    assert segment(parse_page(without(page, gone).decode())).texts == ["one", "three"]
    assert without(page, gone & False) == page.markup


def test_names_of_elements_say_what_they_are() -> None:
    kinds = list(HINTS)

    def of(tag: bytes) -> set[str]:
        bits = hints_of(tag)
        return {kind for bit, kind in enumerate(kinds) if bits >> bit & 1}

    assert of(b'<div class="sidebar-left" id="x">') == {"aside"}
    assert of(b'<div data-x="comment" aria-hidden="true">') == {"hidden"}
    assert of(b'<div style="color:red;display: none">') == of(b'<p hidden="">') == {"hidden"}
    assert of(b'<div class="ad">') == {"promo"}
    assert of(b'<div class="shadow" title=" class=&quot;ad&quot;">') == set()
    for name in (b"entry-content", b"articleBody", b"post__text", b"content"):
        assert hints_of(b'<div id="' + name + b'">') & FRAMED
    for name in (b"article-body-share", b"contents", b"row"):
        assert not hints_of(b'<div id="' + name + b'">') & FRAMED


def test_wording_counts_what_a_reader_sees() -> None:
    texts = [
        "The mill, the river: both were old. Gone!", "Share", "«Où est-il?»", "好的，谢谢。",
        "A\nB", "Share",
    ]
    known = dict(zip(WORDING, wording(texts, "The mills - Share").tolist(), strict=True))
    assert known["n"] == [len(text) for text in texts]
    assert known["words"] == [8, 1, 2, 1, 2, 1]
    assert known["stop"][0] == pytest.approx(3 / 8)
    assert known["commas"] == [1, 0, 0, 1, 0, 0]
    assert known["stops"] == [2, 0, 0, 1, 0, 0]
    assert known["end"] == [1, 0, 1, 1, 0, 0]
    assert known["quote"] == [0, 0, 1, 0, 0, 0]
    assert known["again"] == [0, 1, 0, 0, 0, 1]
    assert known["lexicon"] == [0, 1, 0, 0, 0, 1]
    assert known["upper"] == [0, 0, 0, 0, 1, 0]
