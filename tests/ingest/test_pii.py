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
