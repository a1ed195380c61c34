"""Bank accounts and payment cards.

IBAN: ISO 13616 and its registry's structures; cards: ISO/IEC 7812 and the schemes' number ranges.
"""

import random
from collections.abc import Iterator

from tests.benchmarks.personal.case import LETTERS, Case, digits, letters, within

__all__ = ["cards", "iban_of", "ibans", "luhn_digit"]

BBAN = {
    "AD": "8n12c", "AE": "19n", "AL": "8n16c", "AT": "16n", "AZ": "4a20c", "BA": "16n",
    "BE": "12n", "BG": "4a6n8c", "BH": "4a14c", "BR": "23n1a1c", "CH": "5n12c", "CR": "18n",
    "CY": "8n16c", "CZ": "20n", "DE": "18n", "DK": "14n", "DO": "4c20n", "EE": "16n", "EG": "25n",
    "ES": "20n", "FI": "14n", "FO": "14n", "FR": "10n11c2n", "GB": "4a14n", "GE": "2a16n",
    "GI": "4a15c", "GL": "14n", "GR": "7n16c", "GT": "24c", "HR": "17n", "HU": "24n", "IE": "4a14n",
    "IL": "19n", "IS": "22n", "IT": "1a10n12c", "JO": "4a4n18c", "KW": "4a22c", "KZ": "3n13c",
    "LB": "4n20c", "LI": "5n12c", "LT": "16n", "LU": "3n13c", "LV": "4a13c", "MC": "10n11c2n",
    "MD": "20c", "ME": "18n", "MK": "3n10c2n", "MR": "23n", "MT": "4a5n18c", "MU": "4a19n3a",
    "NL": "4a10n", "NO": "11n", "PK": "4a16c", "PL": "24n", "PS": "4a21c", "PT": "21n",
    "QA": "4a21c", "RO": "4a16c", "RS": "18n", "SA": "2n18c", "SE": "20n", "SI": "15n", "SK": "20n",
    "SM": "1a10n12c", "TN": "20n", "TR": "6n16c", "UA": "6n19c", "XK": "16n",
}
"""What follows country and check digits: n digits, a letters, c either."""
IBAN_TOLD = ("IBAN: {0}", "Please pay to {0} by May.", "Account {0}", "Konto {0}, BIC TESTDEFF",
             "Our bank details: {0}", "IBAN {0}")

SCHEMES: dict[str, tuple[tuple[str, ...], int, tuple[int, ...]]] = {
    "visa": (("4",), 16, (4, 4, 4, 4)),
    "mastercard": (("51", "52", "53", "54", "55", "2221", "2499", "2720"), 16, (4, 4, 4, 4)),
    "amex": (("34", "37"), 15, (4, 6, 5)),
    "discover": (("6011", "644", "65"), 16, (4, 4, 4, 4)),
    "jcb": (("3528", "3560", "3589"), 16, (4, 4, 4, 4)),
    "diners": (("300", "305", "36", "38"), 14, (4, 6, 4)),
    "unionpay": (("62",), 16, (4, 4, 4, 4)),
    "unionpay 19": (("62",), 19, (6, 13)),
    "maestro": (("5018", "5020", "6304", "6759"), 16, (4, 4, 4, 4)),
    "mir": (("2200", "2204"), 16, (4, 4, 4, 4)),
}
CARD_TOLD = ("Card number: {0}", "paid with {0} yesterday", "Visa/Mastercard {0}",
             "CC {0} exp 04/29",
             "Kreditkarte {0}", "charge it to {0}, please", "card no. {0}")


def ibans(draw: random.Random, count: int) -> Iterator[Case]:
    """Of every country of the registry that is known here."""
    for number in range(count):
        country = list(BBAN)[number % len(BBAN)]
        plain = iban_of(draw, country)
        groups = [plain[i : i + 4] for i in range(0, len(plain), 4)]
        value = draw.choice((plain, " ".join(groups), " ".join(groups), "-".join(groups),
                             "\u00a0".join(groups), plain.lower()))
        yield Case("IBAN", country, value, within(draw, value, IBAN_TOLD))


def iban_of(draw: random.Random, country: str, slip: int = 0) -> str:
    """An account with right check digits, or with some that are off by `slip`."""
    account, length = "", ""
    for char in BBAN[country]:
        if char.isdigit():
            length += char
            continue
        alphabet = {"n": "0123456789", "a": LETTERS, "c": LETTERS + "0123456789"}[char]
        account += letters(draw, int(length), alphabet)
        length = ""
    figures = "".join(str(int(char, 36)) for char in f"{account}{country}00")
    check = 98 - int(figures) % 97
    return f"{country}{(check + slip - 2) % 97 + 2:02d}{account}"


def cards(draw: random.Random, count: int) -> Iterator[Case]:
    """Of ten ranges of the schemes."""
    for number in range(count):
        scheme = list(SCHEMES)[number % len(SCHEMES)]
        value = card_of(draw, scheme)
        yield Case("CARD", scheme, value, within(draw, value, CARD_TOLD))


def card_of(draw: random.Random, scheme: str) -> str:
    """A number in one of its spellings."""
    starts, length, sizes = SCHEMES[scheme]
    start = draw.choice(starts)
    body = start + "".join(draw.choices("0123456789", k=length - len(start) - 1))
    plain = body + luhn_digit(body)
    pieces, at = [], 0
    for size in sizes:
        pieces.append(plain[at : at + size])
        at += size
    return draw.choice((plain, " ".join(pieces), " ".join(pieces), "-".join(pieces),
                        "\u00a0".join(pieces)))


def luhn_digit(body: str) -> str:
    """The last digit that makes a number pass ISO/IEC 7812's check."""
    total = 0
    for place, char in enumerate(reversed(body)):
        value = int(char) * (2 if place % 2 == 0 else 1)
        total += value // 10 + value % 10
    return str(-total % 10)


def luhn_number(draw: random.Random, start: str, length: int) -> str:
    """A number of any kind that passes it."""
    body = start + digits(draw, length - len(start) - 1)
    return body + luhn_digit(body)
