"""Personal data of a known form is replaced; figures that only look like it are not."""

import random

import pytest

from ingest.demo.pii import plant
from ingest.pii import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to a.b+c@mail.example.org.", "Write to [EMAIL]."),
        ("desk [at] example.org", "[EMAIL]"),
        ("Call (202) 555-0142 now", "Call [PHONE] now"),
        ("Call +1 202-555-0142, or 202.555.0142.", "Call [PHONE], or [PHONE]."),
        ("Tel. +44 1632 960123", "Tel. [PHONE]"),
        ("Tel. 01 99 00 12 34 le matin", "Tel. [PHONE] le matin"),
        ("from 192.0.2.17 and 2001:db8::ff00:42", "from [IP] and [IP]"),
        ("account GB82 WEST 1234 5698 7654 32", "account [IBAN]"),
        ("account GB82WEST12345698765432.", "account [IBAN]."),
        ("card 4111 1111 1111 1111 and 378282246310005", "card [CARD] and [CARD]"),
    ],
)
def test_found(text: str, expected: str) -> None:
    assert redact(text)[0] == expected
    assert redact(expected) == (expected, {})


@pytest.mark.parametrize(
    "text",
    [
        "1,234,567,890 people on 17,098,242 sq km",
        "from 1999-2000 to 2010-2015, or 1914-1918",
        "at 12:30:45 on 2024-05-17",
        "version 10.5.3 and section 1.2.3.4.5",
        "GB82 WEST 1234 5698 7654 33",
        "4111 1111 1111 1112",
        "46 00 N, 2 00 E",
        "ISBN 978-3-16-148410-0",
        "3.644 trillion, 0.1234567890123456",
        "the @ sign, user@localhost",
        "ratio 3::2 and std::vector",
        "999.999.999.999",
    ],
)
def test_left_alone(text: str) -> None:
    assert redact(text) == (text, {})


def test_all_that_the_demo_plants_is_found() -> None:
    draw = random.Random(3)
    for index in range(200):
        sentence, ((kind, value),) = plant(index, draw)
        redacted, counts = redact(f"Before it. {sentence} After it.")
        assert value not in redacted
        assert counts == {kind: 1}


def test_long_input_is_linear() -> None:
    for text in (
        "a." * 100_000 + "@",
        "1 " * 100_000,
        "+1 " * 60_000,
        "a:" * 80_000,
        "(2" * 90_000,
    ):
        redact(text)


IDS = {
    "US": "123-45-6789",
    "GB": "AB 12 34 56 C",
    "ES": "12345678Z",
    "ES, foreigner": "X-1234567-L",
    "IT": "RSSMRA85T10A562S",
    "FR": "2 55 08 14 168 025 38",
    "BR": "111.444.777-35",
    "SE": "811218-9876",
    "FI": "131052-308T",
    "IN": "2341 2341 2346",
    "CN": "11010519491231002X",
    "KR": "971013-9019902",
    "MX": "BOXW310820HNERXN09",
    "DE": "36 574 261 809",
}
"""Specimens that the issuers or manuals print; they are nobody's."""


@pytest.mark.parametrize("value", IDS.values(), ids=IDS.keys())
def test_identity_numbers_are_found_and_slips_are_not(value: str) -> None:
    assert redact(f"His number was {value}, she said.") == (
        "His number was [ID], she said.",
        {"ID": 1},
    )
    place = max(index for index, char in enumerate(value[:-1]) if char.isdigit())
    other = str((int(value[place]) + 1) % 10)
    wrong = value[:place] + other + value[place + 1 :]
    if value not in (IDS["US"], IDS["GB"]):  # these carry no check
        assert "ID" not in redact(f"His number was {wrong}, she said.")[1]


@pytest.mark.parametrize(
    "text",
    [
        "000-12-3456 and 666-12-3456",
        "section 123-45-678, part 1234-56-7890",
        "on 811299-9876",
        "111.111.111-11",
        "BG 12 34 56 A",
        "ORDER85T10A562",
    ],
)
def test_figures_that_only_look_like_identity_numbers(text: str) -> None:
    assert "ID" not in redact(text)[1]


def secret(alphabet: str, length: int) -> str:
    return "".join(random.Random(length).choices(alphabet, k=length))


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
KEYS = {
    "AWS": "AKIA" + secret("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
    "GitHub": "ghp_" + secret(LETTERS, 36),
    "GitLab": "glpat-" + secret(LETTERS, 20),
    "Slack": "xoxb-" + secret("0123456789", 12) + "-" + secret(LETTERS, 24),
    "Google": "AIza" + secret(LETTERS, 35),
    "Stripe": "sk_live_" + secret(LETTERS, 24),
    "provider": "sk-proj-" + secret(LETTERS, 40),
    "token": "eyJ" + ".eyJ".join(secret(LETTERS, n) for n in (20, 30)) + "." + secret(LETTERS, 43),
    "PEM": "-----BEGIN RSA PRIVATE KEY-----\n"
    + secret(LETTERS, 300)
    + "\n-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("value", KEYS.values(), ids=KEYS.keys())
def test_keys_are_found(value: str) -> None:
    assert redact(f"export KEY={value}\nand so on") == (
        "export KEY=[KEY]\nand so on",
        {"KEY": 1},
    )


def test_placeholders_are_no_keys() -> None:
    for text in ("sk_live_" + "x" * 24, "AKIA" + "X" * 16, "a sk-8 road", "ghp_short"):
        assert redact(text) == (text, {})
