"""From bytes to a text: characters, extraction, language."""

import pytest

from ingest.decode import decode
from ingest.examine import ExamineConfig, Finding, Job, examine
from ingest.extract import extract
from ingest.language import declared, language_of, surely_other
from ingest.tags import parse_page

PROSE = (
    "The river rises in the hills above the town and runs west for forty miles. In spring it "
    "carries snow water and the meadows along its banks are flooded for a week or two. People "
    "have built mills here since the Middle Ages, and some of them still turn. "
)
MILL = (
    "The upper mill was owned by one family until the great flood, when its wheel was torn away "
    "and found again in a field two miles further down. They sold the stones and moved to town."
)
FISH = (
    "Fish have come back since the tannery closed. Anglers count trout and grayling each autumn, "
    "and a small hatchery that volunteers run has set free more than nine thousand salmon."
)
LONG = "\n".join([PROSE.strip(), MILL, FISH])


@pytest.mark.parametrize(
    ("body", "header", "expected"),
    [
        ("é".encode(), "text/html", "é"),
        ("é".encode("cp1252"), "text/html; charset=utf-8", "é"),
        ("é".encode(), "text/html; charset=iso-8859-1", "é"),
        ("é “q”".encode("cp1252"), "text/html; charset=iso-8859-1", "é “q”"),
        ("привет".encode("koi8-r"), "text/html; charset=KOI8-R", "привет"),
        (
            b"<meta charset='shift_jis'>" + "日本".encode("shift_jis"),
            "",
            "<meta charset='shift_jis'>日本",
        ),
        ("é".encode("utf-16"), "text/html", "é"),
        (b"\xef\xbb\xbfa", "", "a"),
        (b"a\xff", "text/html; charset=no-such-thing", "aÿ"),
        (b"a\xff", "text/html; charset=rot13", "aÿ"),
    ],
)
def test_decoding(body: bytes, header: str, expected: str) -> None:
    assert decode(body, header) == expected


def _page(before: str, after: str) -> bytes:
    paragraphs = "".join(f"<p>{line}</p>" for line in LONG.split("\n"))
    return (
        "<html><head><title>Mills &amp; more</title></head><body><nav><a href=/>Start</a>"
        f"<a href=/b>Products</a></nav>{before}<h1>Mills</h1>{paragraphs}{after}"
        "<footer>All rights reserved. Imprint. Privacy.</footer></body></html>"
    ).encode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<article>", "</article>"),
        ("<div id='content'>", "</div>"),
        ("<table><tr><td><a href=/x>Menu entry</a></td><td class='post'>", "</td></tr></table>"),
    ],
)
def test_main_text_without_the_clutter(before: str, after: str) -> None:
    document = extract(_page(before, after), "http://x.example/")
    assert document is not None
    assert all(line in document.text.split("\n") for line in LONG.split("\n"))
    for clutter in ("Products", "Imprint", "Menu entry", "|"):
        assert clutter not in document.text
    assert document.title == "Mills & more"


def test_pages_without_text() -> None:
    assert extract(b"") is None
    assert extract(b"<html><body></body></html>") is None
    assert extract(b"   ", content_type="text/plain") is None


def test_plain_text_is_taken_as_it_is() -> None:
    document = extract(b"one \t two\r\n\r\n\r\n\r\nthree\x00", content_type="text/plain")
    assert document is not None
    assert document.text == "one two\n\nthree"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (PROSE, "en"),
        ("La rivière prend sa source dans les collines et coule vers l'ouest.", "fr"),
        ("El río nace en las colinas que dominan la ciudad y corre hacia el oeste.", "es"),
        ("", "und"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert language_of(text)[0] == language


@pytest.mark.parametrize(
    ("page", "code"),
    [("<html lang=en-GB>x", "en"), ("<html xml:lang='DE'>x", "de"), ("<p lang=fr>x", ""), ("", "")],
)
def test_the_language_that_a_page_declares(page: str, code: str) -> None:
    assert declared(parse_page(page)) == code


def test_a_page_that_is_surely_in_another_language_needs_no_extraction() -> None:
    german = (
        "Der Fluss entspringt in den Hügeln über der Stadt und fließt vierzig Meilen nach Westen; "
        "im Frühling führt er das Wasser der Schneeschmelze und überschwemmt die Wiesen am Ufer. "
    ) * 2
    found = surely_other(["Home", german, german, german], ("en",))
    assert found is not None
    assert found[1] == "de"
    assert "entspringt" in found[0]
    blocks: list[str]
    wanted: tuple[str, ...]
    for blocks, wanted in (
        (["Home", german, german, german], ("de", "en")),
        (["Home", german, german, german], ()),
        (["Home", german, LONG, german], ("en",)),
        (["Home", LONG, LONG], ("en",)),
        (["Home", german], ("en",)),  # too little to be sure
        ([], ("en",)),
    ):
        assert surely_other(blocks, wanted) is None


def test_main_text_is_not_looked_for_on_pages_surely_in_other_languages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    german = "Der Fluss entspringt in den Hügeln über der Stadt und fließt vierzig Meilen. " * 4

    def never(*_: object) -> None:
        raise AssertionError

    def read(tag: str) -> Finding:
        body = f"{tag}<p>{german}</p><p>{german}</p>".encode()
        return examine(Job("http://x.example/", 0, "", (), body, ExamineConfig()))

    monkeypatch.setattr("ingest.examine.surely_other", never)
    found = read("<html lang=en>")  # it says otherwise, so its text decides
    assert (found.reason, found.language) == ("language", "de")
    monkeypatch.undo()
    monkeypatch.setattr("ingest.examine.main_text", never)
    found = read("<html lang=de>")
    assert (found.reason, found.language) == ("language", "de")
    assert found.text.startswith("Der Fluss")
