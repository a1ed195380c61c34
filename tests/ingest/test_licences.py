"""A page's licence is found wherever it may stand, and named as SPDX names it."""

import json

import pytest

from ingest.licences import Stated, chosen, spdx_of
from ingest.licences import stated_in as stated_of_tree
from ingest.tags import parse_page

BY_SA = "https://creativecommons.org/licenses/by-sa/4.0/"


def stated_in(page: str, headers: tuple[tuple[str, str], ...] = ()) -> list[Stated]:
    return stated_of_tree(page, parse_page(page), headers)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (BY_SA, "CC-BY-SA-4.0"),
        ("http://www.creativecommons.org/licenses/BY-NC-ND/3.0/deed.fr", "CC-BY-NC-ND-3.0"),
        ("https://creativecommons.org/licenses/by/3.0/de/", "CC-BY-3.0-DE"),
        ("https://creativecommons.org/licenses/by-sa/2.0/uk/", "CC-BY-SA-2.0-UK"),
        ("https://creativecommons.org/licenses/by/3.0/igo/legalcode", "CC-BY-3.0-IGO"),
        ("https://creativecommons.org/licenses/by/3.0/pl/", "LicenseRef-CC-BY-3.0-PL"),
        ("https://creativecommons.org/licenses/by/", "LicenseRef-CC-BY"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("https://www.gnu.org/licenses/fdl-1.3.html", "GFDL-1.3-only"),
        ("https://www.gnu.org/licenses/gpl-3.0.en.html", "GPL-3.0-only"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("https://opensource.org/license/bsd-3-clause", "BSD-3-Clause"),
        ("https://spdx.org/licenses/Apache-2.0.html", "Apache-2.0"),
        ("http://www.apache.org/licenses/LICENSE-2.0", "Apache-2.0"),
        ("https://opendatacommons.org/licenses/odbl/1-0/", "ODbL-1.0"),
        ("https://nationalarchives.gov.uk/doc/open-government-licence/version/3/", "OGL-UK-3.0"),
        ("apache-2.0 or mit", "Apache-2.0 OR MIT"),
        ("CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0"),
        ("CC BY 4.0", "CC-BY-4.0"),
        ("Creative Commons Attribution-ShareAlike 3.0 Unported License", "CC-BY-SA-3.0"),
        ("https://example.org/terms", None),
        ("https://creativecommons.org/licenses/", None),
        ("All rights reserved", None),
    ],
)
def test_names(value: str, expected: str | None) -> None:
    assert spdx_of(value) == expected


@pytest.mark.parametrize(
    ("page", "where"),
    [
        (f'<a rel="license" href="{BY_SA}">terms</a>', "rel=license"),
        (f'<link rel="license" href="{BY_SA}">', "rel=license"),
        (f'<a property="dct:license" resource="{BY_SA}" href="{BY_SA}">x</a>', "rel=license"),
        (f'<meta name="dcterms.license" content="{BY_SA}">', "meta"),
        (f'<meta name="DC.Rights" content="{BY_SA}">', "meta"),
        ('<meta name="license" content="CC BY-SA 4.0">', "meta"),
        (f'<link itemprop="license" href="{BY_SA}">', "microdata"),
        ('<script type="application/ld+json">'
         + json.dumps({"@graph": [{"@type": "Article", "license": {"@id": BY_SA}}]})
         + "</script>", "JSON-LD"),
        (f'<script type="application/rsl+xml"><rsl><license><standard>{BY_SA}</standard></license>'
         "</rsl></script>", "rsl"),
        ("<!-- SPDX-License-Identifier: CC-BY-SA-4.0 -->", "SPDX tag"),
        (f'<p>See <a href="{BY_SA}">these licenses</a>.</p>', "link"),
        ("<p>Text is available under the Creative Commons Attribution-ShareAlike License 4.0; more "
         "terms may apply.</p>", "text"),
    ],
)
def test_places(page: str, where: str) -> None:
    licence, decision = chosen(stated_in(f"<html><body>{page}<p>Words.</p></body></html>"))
    assert licence == "CC-BY-SA-4.0"
    assert decision["licence"]["where"] == where


def test_header() -> None:
    assert stated_in("", (("Link", f'<{BY_SA}>; rel="license"'),)) == [Stated("Link header", BY_SA)]


def test_the_firmest_statement_is_taken_and_the_others_are_told() -> None:
    page = (
        '<p>The photograph: <a href="https://creativecommons.org/licenses/by/2.0/">CC BY</a>.</p>'
        f'<a rel="license" href="{BY_SA}">licence of this page</a>'
    )
    licence, decision = chosen(stated_in(page))
    assert licence == "CC-BY-SA-4.0"
    assert decision == {
        "licence": {"stated": BY_SA, "where": "rel=license", "also": ["CC-BY-2.0"]}
    }


@pytest.mark.parametrize("before", ["", "\u0130" * 9_000, "under the bridge " * 300, "x" * 9_000])
def test_a_sentence_is_found_wherever_it_stands(before: str) -> None:
    said = "This work is licensed\n   under   the terms of the CC BY-SA 4.0 licence."
    page = f"<p>{before}</p><p>Permits are under way.</p><p>{said}</p><p>{before}</p><p>{said}</p>"
    assert chosen(stated_in(page))[0] == "CC-BY-SA-4.0"


def test_an_unknown_licence_stays_as_it_was_stated() -> None:
    licence, decision = chosen(stated_in('<link rel="license" href="https://example.org/terms">'))
    assert licence == "https://example.org/terms"
    assert decision["licence"]["where"] == "rel=license"


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<p>Driving licence holders may apply.</p>",
        '<meta name="rights" content="All rights reserved">',
        '<script type="application/ld+json">{"license": </script>',
        '<script type="application/ld+json">' + "[" * 5000 + "</script>",
        "<p>He was licensed under the Act of 1890.</p>",
        '<a rel="license" href="">empty</a>',
    ],
)
def test_what_states_nothing(page: str) -> None:
    assert chosen(stated_in(page)) == (None, {})
