"""Main text by blocks: both modes, what they ask of trafilatura, the trees in numpy."""

import json
from importlib.resources import files

import numpy as np
import pytest

from ingest.extract import Mode, extract, trafilatura_text
from ingest.maintext.choose import choose, hopeful
from ingest.maintext.features import FEATURES, features
from ingest.maintext.forest import Forest, shipped
from ingest.maintext.segment import segment
from ingest.maintext.votes import VOTES, votes
from tests.benchmarks.extraction.metric import compare, f1, outcome
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
    page = segment(b"<p>one <b>t</b>wo<br>three</p><pre>a\n  b</pre><script>x</script>four")
    assert page.texts == ["one two", "three", "a\nb", "four"]


def test_advice_is_asked_for_only_when_needed() -> None:
    asked: list[bytes | None] = []

    def advise(markup: bytes | None) -> str:
        asked.append(markup)
        return "\n".join(TEXT)

    long = _page("<article>" + "".join(f"<p>{t}</p>" for t in TEXT * 6) + "</article>")
    choose(segment(long), advise, always=False)
    assert asked == []
    choose(segment(long), advise, always=True)
    assert asked == [None]
    choose(segment(b"<p>A line.</p><p>Another one, no longer.</p>"), advise, always=False)
    assert asked[1:] == [b"<html><body><p>A line.</p><p>Another one, no longer.</p></body></html>"]
    for always in (False, True):
        assert choose(segment(b"<hr>" * 500 + b"<p>A line.</p>"), advise, always) != "\n".join(TEXT)
    assert len(asked) == 2


def test_advice_is_asked_about_the_page_without_sure_clutter() -> None:
    page = segment(_page("<h1>Mills</h1><div/><p>A &lt; b.</p><section><p>Maybe.</p></section>"))
    likely = np.array([0.9 if text in ("A < b.", "Maybe.") else 0.001 for text in page.texts])
    left = segment(hopeful(page, likely))
    assert left.texts == ["Mills", "A < b.", "Maybe."]
    assert trafilatura_text(hopeful(page, likely)) == "Mills\nA < b.\nMaybe."
    in_xhtml = page.markup.replace(b"<html", b'<html xmlns="http://www.w3.org/1999/xhtml"')
    assert trafilatura_text(in_xhtml)


@pytest.mark.parametrize("body", ["<p>x</p>", "<o:p>x</o:p><a<b>y</a<b>", "<div>" * 600 + "x"])
def test_advice_about_hopeless_or_odd_pages_is_about_all_of_them(body: str) -> None:
    page = segment(body.encode())
    assert hopeful(page, np.zeros(len(page.texts))) == page.markup
    trafilatura_text(page.markup)
    assert trafilatura_text(b"") == ""


@pytest.mark.parametrize(
    "source", [b"<p>x</p>", b"<h1>x</h1>y", b"<a href=/>x</a>" * 9, "<p>日本語。</p>".encode() * 3]
)
def test_features_of_any_page_are_numbers(source: bytes) -> None:
    page = segment(source)
    known = features(page)
    assert known.shape == (len(FEATURES), len(page.texts))
    assert np.isfinite(known).all()


@pytest.mark.parametrize(("name", "extra"), [("alone", []), ("advised", list(VOTES))])
def test_shipped_trees_were_trained_on_these_features(name: str, extra: list[str]) -> None:
    plain = json.loads(files("ingest.maintext").joinpath(f"{name}.json").read_text("utf-8"))
    assert plain["features"] == [*FEATURES, *extra]


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
    forest = Forest(feature, threshold, mask, leaf)
    assert forest(x) == pytest.approx(1 / (1 + np.exp(-score)))
    assert Forest.from_json(json.loads(json.dumps(forest.to_json())))(x) == pytest.approx(forest(x))


def test_every_tree_ends_in_a_leaf_that_it_has() -> None:
    rng = np.random.default_rng(0)
    for forest in (shipped().alone, shipped().advised):
        x = rng.normal(0, 5, (len(FEATURES) + len(VOTES), 50)).astype(np.float32)
        likely = forest(x)
        assert ((likely > 0) & (likely < 1)).all()
        assert forest.mask.shape == forest.feature.shape


def test_votes_are_shares_of_blocks() -> None:
    got = votes(["a b c", "x y", "one two three four five six seven"], "q a b c! one two three four"
                " five six z")
    assert got[0].tolist() == [1, 0, 1]
    assert got[1].tolist() == [-1, 1, 0]
    assert got[2].tolist() == [0, 1, -1]
    repeated = ["Share", "one two three four five", "Share", "six seven eight nine ten", "Share"]
    got = votes(repeated, "one two three four five Share six seven eight nine ten")
    assert got[0].tolist() == [0, 1, 1, 1, 0]


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
    assert set(TEXT[1:]) <= set(trafilatura_text(page).splitlines())


@pytest.mark.parametrize("number", range(2 * len(KINDS)))
def test_hostile_pages_do_no_harm(number: int) -> None:
    kind, data = hostile(number)
    assert (kind, data) == hostile(number)
    modes: tuple[Mode, ...] = ("fast", "quality")
    for mode in modes:
        document = extract(data, mode=mode)
        assert document is None or document.text
