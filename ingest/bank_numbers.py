"""Accounts and payment cards, told from other figures by length, range and check digits.

IBAN: ISO 13616 and the lengths of its registry. Cards: ISO/IEC 7812, the ranges that the schemes
publish, and the groups in which their numbers are written.
"""

import re
from itertools import pairwise

__all__ = ["CARD", "IBAN", "card_span", "iban_span"]

LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BI": 27, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27,
    "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27,
    "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28,
    "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22,
    "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24,
    "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28,
    "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}
"""Of an account by its country."""
GAP = "[ \u00a0\u202f-]"
IBAN = re.compile(rf"(?<![\w-])[A-Za-z]{{2}}\d{{2}}(?:{GAP}?[A-Za-z0-9]){{11,30}}")
CARD = re.compile(rf"(?<![\w.,+-])\d(?:{GAP}?\d){{12,18}}(?!\w)")
RANGES = {
    # Visa, American Express, Diners, Discover, Mastercard, Maestro, UnionPay, JCB, Mir
    13: r"4", 14: r"30[0-59]|3[689]", 15: r"3[47]", 19: r"4|6",
    16: r"4|5[0-8]|2[2-7]|6|35[2-8]",
    17: r"6", 18: r"6",
}
GROUPS = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (6, 13), (4, 4, 4, 4, 3), (4, 4, 4, 1)}
NO_CARD = re.compile(
    r"\b(?:imei|meid|ean|gtin|upc|isbn|issn|iccid|sim|sku|asin|part|order|tracking|serial|article|"
    r"item|product|invoice|model|ticket|parcel|barcode|ref(?:erence)?)\b[^\d\n]{0,16}$",
    re.IGNORECASE,
)


def iban_span(found: re.Match[str]) -> tuple[int, int] | None:
    """The account in a row of letters and figures that may run on behind it."""
    text = found.group()
    length = LENGTHS.get(text[:2].upper(), 0)
    places = [place for place, char in enumerate(text) if char.isalnum()][:length]
    if not length or len(places) < length:
        return None
    end = places[-1] + 1
    code = "".join(text[place] for place in places).upper()
    digits = "".join(str(int(char, 36)) for char in code[4:] + code[:4] if char.isascii())
    runs_on = found.string[found.start() + end : found.start() + end + 1].isalnum()
    return (found.start(), found.start() + end) if int(digits) % 97 == 1 and not runs_on else None


def card_span(found: re.Match[str]) -> tuple[int, int] | None:
    """The card's number at the start of a row of figures: what follows may be its date."""
    text = found.group()
    pieces = list(re.finditer(r"\d+", text))
    if len(pieces) > 1 and len(pieces[0].group()) not in (4, 6):
        return None
    gaps = {text[a.end() : b.start()] for a, b in pairwise(pieces)}
    for last in range(len(pieces), 0, -1):
        sizes = tuple(len(piece.group()) for piece in pieces[:last])
        plain = "".join(piece.group() for piece in pieces[:last])
        grouped = sizes in GROUPS and (len(gaps) == 1 or last < len(pieces))
        if (last == 1 or grouped) and _is_card(plain):
            before = found.string[max(0, found.start() - 40) : found.start()]
            end = found.start() + pieces[last - 1].end()
            part = last == 1 and re.search(r"\d[ -]$", before)  # of a longer row
            return None if part or NO_CARD.search(before) else (found.start(), end)
    return None


def _is_card(plain: str) -> bool:
    known = re.match(RANGES.get(len(plain), "(?!)"), plain)
    figures = [int(char) for char in plain]
    doubled = [d * 2 - 9 * (d > 4) for d in figures[-2::-2]]
    return bool(known) and len(set(plain)) > 1 and (sum(figures[-1::-2]) + sum(doubled)) % 10 == 0
