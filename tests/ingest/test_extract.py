"""Main text by blocks: both modes, what they ask of trafilatura, the trees in numpy."""

import json
from importlib.resources import files

import numpy as np
import pytest

from ingest.extract import Mode, extract, trafilatura_text
from ingest.maintext.choose import choose, disagreement, hopeful
from ingest.maintext.features import FEATURES, features
from ingest.maintext.forest import Forest, shipped
from ingest.maintext.segment import Page, segment
from ingest.tags import parse_page
from tests.benchmarks.extraction.metric import compare, f1, outcome
from tests.benchmarks.extraction.pages import Sample
from tests.benchmarks.extraction.thinned import thinned
from tests.benchmarks.extraction.train import families
from tests.benchmarks.hostile import KINDS, hostile

TEXT = (
    "The upper mill was owned by one family until the great flood, when its wheel was torn away.",
    "They sold the stones, moved to town, and never spoke of the river again, or so it is said.",
    "Fish have come back since the tannery closed. Anglers count trout and grayling each autumn.",
    "A small hatchery that volunteers run has set free more than nine thousand salmon by now.",
    "In spring the meadows along its banks are flooded for a week or two, as they always were.",
)
CLUTTER = (
    "<header><nav><ul><li><a href=/>Start</a></li><li><a href=/n>News</a></li></ul></nav></header>",
    "<div class='comments'><h3>2 comments</h3><div class='comment'><p>I liked this a lot, thanks "
    "for writing it, my uncle worked there.</p></div></div><aside class='related'><h3>Read more"
    "</h3><ul><li><a href=/1>Ten mills that you must see before winter</a></li><li><a href=/2>"
    "Why rivers flood, and what towns do</a></li></ul></aside><footer>© Imprint. Privacy.</footer>",
)


def _page(body: str) -> bytes:
    before, after = CLUTTER
    return f"<html><title>Mills</title><body>{before}{body}{after}</body></html>".encode()


def _cut(source: bytes) -> Page:
    return segment(parse_page(source.decode()))


@pytest.mark.parametrize("mode", ["fast", "quality"])
@pytest.mark.parametrize(
    "body",
    [
        "<article><h1>Mills</h1>" + "".join(f"<p>{t}</p>" for t in TEXT) + "</article>",
        "<div id=content>" + "<br><br>".join(TEXT) + "</div>",
        "<main>" + "".join(f"<div><span>{t}</span></div>" for t in TEXT) + "</main>",
    ],
)
def test_main_text_and_nothing_else(body: str, mode: Mode) -> None:
    document = extract(_page(body), mode=mode)
    assert document is not None
    assert document.title == "Mills"
    assert set(TEXT) <= set(document.text.split("\n"))
    for clutter in ("News", "uncle", "Ten mills", "Imprint"):
        assert clutter not in document.text


def test_blocks_keep_words_apart_and_lines_of_code_together() -> None:
    page = _cut(b"<p>one <b>t</b>wo<br>three</p><pre>a\n  b</pre><script>x</script>four")
    assert page.texts == ["one two", "three", "a\nb", "four"]


def test_advice_is_asked_for_only_when_needed() -> None:
    asked: list[bytes] = []

    def advise(markup: bytes) -> str:
        asked.append(markup)
        return "\n".join(TEXT)

    long = _page("<article>" + "".join(f"<p>{t}</p>" for t in TEXT * 6) + "</article>")
    choose(_cut(long), advise, "fast")
    assert asked == []
    nothing = _page("")  # but clutter
    assert choose(_cut(nothing), advise, "fast") == "\n".join(TEXT)
    assert len(asked) == 1
    for mode in ("fast", "quality"):  # asked would be trafilatura, for seconds
        assert choose(_cut(b"<hr>" * 500 + b"<p>A line.</p>"), advise, mode) != "\n".join(TEXT)
    assert len(asked) == 1


def test_parts_that_choose_alike_do_not_disagree() -> None:
    texts = ["a" * 60, "b" * 40]
    assert disagreement(texts, np.array([[0.9, 0.1], [0.6, 0.3]])) == 0
    assert disagreement(texts, np.array([[0.9, 0.45], [0.6, 0.42]])) == 0  # both chosen by all
    assert disagreement(texts, np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.6]])) == pytest.approx(
        (1 - 120 / 160) / 3
    )
    assert disagreement(texts, np.array([[0.1, 0.1], [0.2, 0.1]])) == 1


def test_advice_is_asked_about_the_page_without_sure_clutter() -> None:
    page = _cut(_page("<h1>Mills</h1><div/><p>A &lt; b.</p><section><p>Maybe.</p></section>"))
    likely = np.array([0.9 if text in ("A < b.", "Maybe.") else 0.001 for text in page.texts])
    left = _cut(hopeful(page, likely))
    assert left.texts == ["Mills", "A < b.", "Maybe."]
    assert trafilatura_text(hopeful(page, likely)) == "Mills\nA < b.\nMaybe."
    in_xhtml = page.markup.replace(b"<html", b'<html xmlns="http://www.w3.org/1999/xhtml"')
    assert trafilatura_text(in_xhtml)


@pytest.mark.parametrize("body", ["<p>x</p>", "<o:p>x</o:p><a<b>y</a<b>", "<div>" * 600 + "x"])
def test_advice_about_hopeless_or_odd_pages_is_about_all_of_them(body: str) -> None:
    page = _cut(body.encode())
    assert hopeful(page, np.zeros(len(page.texts))) == page.markup
    trafilatura_text(page.markup)
    assert trafilatura_text(b"") == ""


@pytest.mark.parametrize(
    "source", [b"<p>x</p>", b"<h1>x</h1>y", b"<a href=/>x</a>" * 9, "<p>日本語。</p>".encode() * 3]
)
def test_features_of_any_page_are_numbers(source: bytes) -> None:
    page = _cut(source)
    known = features(page)
    assert known.shape == (len(FEATURES), len(page.texts))
    assert np.isfinite(known).all()


def test_shipped_trees_were_trained_on_these_features() -> None:
    plain = json.loads(files("ingest.maintext").joinpath("trees.json").read_text("utf-8"))
    assert plain["features"] == list(FEATURES)
    assert shipped().limits["fast"] > shipped().limits["quality"]


def test_trees_in_numpy_are_trees() -> None:
    """(x0 <= 1 ? (x1 <= 5 ? .1 : .2) : .3) and a stump, against the same written out."""
    inf = np.inf
    feature = np.zeros((7, 2), np.int64)
    feature[1, 0] = 1
    threshold = np.full((7, 2), inf, np.float32)
    threshold[0] = (1, 2)
    threshold[1, 0] = 5
    mask = np.full((7, 2), 255, np.uint8)
    mask[0] = (0b11111100, 0b11111110)
    mask[1, 0] = 0b11111110
    leaf = np.zeros((2, 8))
    leaf[0, :3], leaf[1, :2] = (0.1, 0.2, 0.3), (-1, 1)
    x = np.array([[0, 0, 1, 1.5, 3], [5, 6, 9, 0, 9]], np.float32)
    score = np.array([0.1 - 1, 0.2 - 1, 0.2 - 1, 0.3 - 1, 0.3 + 1])
    forest = Forest(feature, threshold, mask, leaf, parts=1)
    assert forest(x)[0] == pytest.approx(1 / (1 + np.exp(-score)))
    kept = json.loads(json.dumps(forest.to_json()))
    assert Forest.from_json(kept)(x) == pytest.approx(forest(x))
    assert Forest.from_json(kept | {"parts": 2})(x)[1] == pytest.approx(
        1 / (1 + np.exp([1, 1, 1, 1, -1]))
    )


def test_every_tree_ends_in_a_leaf_that_it_has() -> None:
    forest = shipped().forest
    likely = forest(np.random.default_rng(0).normal(0, 5, (len(FEATURES), 50)).astype(np.float32))
    assert ((likely > 0) & (likely < 1)).all()
    assert forest.mask.shape == forest.feature.shape
    assert len(likely) == forest.parts


def test_thinned_copies_are_pages_with_some_of_the_article() -> None:
    page = _cut(_page("<article>" + "".join(f"<p>{t}</p>" for t in TEXT) + "</article>"))
    true = np.array([float(text in TEXT) for text in page.texts])
    copies = list(thinned(page, true, 30, (0, 1)))
    assert [copy.texts for copy, _ in copies] == [
        copy.texts for copy, _ in thinned(page, true, 30, (0, 1))
    ]
    for copy, kept in copies:
        assert copy.texts == [text for text, keeps in zip(page.texts, kept, strict=True) if keeps]
        assert any(text in TEXT for text in copy.texts)
        assert copy.first[0] == 0
        assert copy.last[0] == len(copy.texts)
        assert np.isfinite(features(copy)).all()
    lengths = {sum(text in TEXT for text in copy.texts) for copy, _ in copies}
    assert len(lengths) > 2
    assert {copy.title for copy, _ in copies} == {"", "Mills"}


def test_pages_without_text_keep_their_place_among_those_to_train_on() -> None:
    article = Sample(_page(f"<p>{TEXT[0]}</p>"), TEXT[0], "")
    empty = Sample(b"<html></html>", "", "")
    first, none, last = families([article, empty, article], 0, 1.0, 0)
    assert none == []
    assert first[0].true.tolist() == last[0].true.tolist()
    assert first[0].page.texts[int(first[0].true.argmax())] == TEXT[0]


def test_metric_of_the_article_benchmark() -> None:
    assert outcome("a b c d e", "a b c d e") == (1, 0, 0)
    assert outcome("a b c d e", "a b c d x") == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert outcome("a b c d", "") == (0, 0, 1)
    pages = [(1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.0, 0.0, 1.0)]
    # Nothing extracted: no precision of that page, but recall 0.
    assert f1(pages) == pytest.approx((0.75, 2 / 3, 2 * 0.75 * (2 / 3) / (0.75 + 2 / 3)))
    same = compare(pages, pages, resamples=50)
    assert same["low"] == same["high"] == 0


def test_paragraphs_within_a_broken_one_stay_apart() -> None:
    page = f"<html><body><article><p>{TEXT[0]}<ver,>{''.join(f'<p>{t}</p>' for t in TEXT[1:])}"
    assert set(TEXT[1:]) <= set(trafilatura_text(_cut(page.encode()).markup).splitlines())


@pytest.mark.parametrize("number", range(2 * len(KINDS)))
def test_hostile_pages_do_no_harm(number: int) -> None:
    kind, data = hostile(number)
    assert (kind, data) == hostile(number)
    modes: tuple[Mode, ...] = ("fast", "quality")
    for mode in modes:
        document = extract(data, mode=mode)
        assert document is None or document.text
