"""Identity numbers that states give to people, told from other figures by form and check digits.

Only numbers that carry a check of their own, or a form that little else has, are found: a bare row
of nine digits is not, though in some countries it is one. Forms and checks as published by the
issuers; https://arthurdejong.org/python-stdnum/ documents them in one place.
"""

import re
from collections.abc import Callable
from datetime import date

__all__ = ["PATTERN", "country_of", "span"]

LETTER_OF_DNI = "TRWAGMYFPDXBNJZSQVHLCKE"
ODD_OF_CODICE = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21,
         2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)
CURP_ALPHABET = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
DIHEDRAL = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)
"""Multiplication in D5, for Verhoeff's check."""
TURNS = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)


def _digits(text: str) -> list[int]:
    return [int(char) for char in text if char.isdigit()]


def _weighted(digits: list[int], weights: tuple[int, ...]) -> int:
    return sum(d * w for d, w in zip(digits, weights, strict=False))


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _is_short_date(yymmdd: list[int]) -> bool:
    y1, y2, m1, m2, d1, d2 = yymmdd
    return _is_date(2000 + 10 * y1 + y2, 10 * m1 + m2, 10 * d1 + d2)


def _us(text: str) -> bool:
    plain = text.replace("-", "").replace(" ", "")
    area, group, serial = plain[:3], plain[3:5], plain[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _gb(text: str) -> bool:
    return text.replace(" ", "")[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _es(text: str) -> bool:
    plain = text.replace("-", "").replace(" ", "").replace(".", "")
    number = int(plain[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2"))
    return LETTER_OF_DNI[number % 23] == plain[-1]


def _it(text: str) -> bool:
    total = 0
    for place, char in enumerate(text[:15]):
        even = int(char) if char.isdigit() else ord(char) - 65
        total += even if place % 2 else ODD_OF_CODICE[char]
    return chr(65 + total % 26) == text[15]


def _fr(text: str) -> bool:
    plain = text.replace(" ", "")
    number = plain[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(plain[13:])


def _br(text: str) -> bool:
    digits = _digits(text)
    if len(set(digits)) == 1:
        return False
    for length in (9, 10):
        weights = tuple(range(length + 1, 1, -1))
        if _weighted(digits[:length], weights) * 10 % 11 % 10 != digits[length]:
            return False
    return True


def _se(text: str) -> bool:
    digits = _digits(text)[-10:]
    born = [*digits[:4], digits[4] % 6, digits[5]]  # people without a number have 60 days more
    doubled = (d * 2 - 9 * (d > 4) for d in digits[0::2])
    return _is_short_date(born) and (sum(doubled) + sum(digits[1::2])) % 10 == 0


def _in(text: str) -> bool:
    check = 0
    for place, digit in enumerate(reversed(_digits(text))):
        check = int(DIHEDRAL[check][int(TURNS[place % 8][digit])])
    return check == 0


def _cn(text: str) -> bool:
    digits = _digits(text[:17])
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    born = _is_date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    return born and "10X98765432"[_weighted(digits, weights) % 11] == text[17].upper()


def _kr(text: str) -> bool:
    digits = _digits(text)
    sums = _weighted(digits[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5))
    return _is_short_date(digits[:6]) and (11 - sums % 11) % 10 == digits[12]


def _mx(text: str) -> bool:
    total = sum((18 - place) * CURP_ALPHABET.index(char) for place, char in enumerate(text[:17]))
    return (10 - total % 10) % 10 == int(text[17])


def _fi(text: str) -> bool:
    check = int(text[:6] + text[7:10]) % 31
    month, day = int(text[2:4]), int(text[:2])
    return _is_date(2000, month, day) and "0123456789ABCDEFHJKLMNPRSTUVWXY"[check] == text[10]


def _de(text: str) -> bool:
    """The tax number of eleven digits, written in its groups: ISO 7064, mod 11, 10."""
    digits = _digits(text)
    product = 10
    for digit in digits[:10]:
        product = ((digit + product) % 10 or 10) * 2 % 11
    return digits[0] != 0 and (11 - product) % 10 == digits[10]


def _luhn(text: str) -> bool:
    digits = _digits(text)
    doubled = (d * 2 - 9 * (d > 4) for d in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _be(text: str) -> bool:
    plain = "".join(map(str, _digits(text)))
    checks = {97 - int(century + plain[:9]) % 97 for century in ("", "2")}
    return int(plain[2:4]) <= 52 and int(plain[9:]) in checks


def _ca(text: str) -> bool:
    return text[0] not in "08" and _luhn(text)


def _ch(text: str) -> bool:
    digits = _digits(text)
    return -_weighted(digits[:12], (1, 3) * 6) % 10 == digits[12]


def _cl(text: str) -> bool:
    plain = text.replace(".", "")
    body, check = plain[:-2], plain[-1].upper()
    total = _weighted([int(d) for d in reversed(body)], (2, 3, 4, 5, 6, 7, 2, 3))
    return "0123456789K0"[11 - total % 11] == check


def _dk(text: str) -> bool:
    born = _is_date(2000, int(text[2:4]), int(text[:2]))
    return born and _weighted(_digits(text), (4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def _nl(text: str) -> bool:
    digits = _digits(text)
    return any(digits) and _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _no(text: str) -> bool:
    digits = _digits(text)
    first = _weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    second = _weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11
    return first == second == 0 and _is_date(2000, int(text[2:4]) % 40, int(text[:2]) % 40)


def _pl(text: str) -> bool:
    digits = _digits(text)
    born = _is_date(2000, int(text[2:4]) % 20, int(text[4:6]))
    return born and _weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _ro(text: str) -> bool:
    digits = _digits(text)
    check = _weighted(digits[:12], (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return _is_short_date(digits[1:7]) and check % 10 + check // 10 == digits[12]


def _sg(text: str) -> bool:
    total = _weighted(_digits(text), (2, 7, 6, 5, 4, 3, 2)) + (4 if text[0] in "TG" else 0)
    return ("JZIHGFEDCBA" if text[0] in "ST" else "XWUTRQPNMLK")[total % 11] == text[8]


def _tr(text: str) -> bool:
    d = _digits(text)
    return d[9] == (7 * sum(d[0:9:2]) - sum(d[1:8:2])) % 10 and d[10] == sum(d[:10]) % 10


def _za(text: str) -> bool:
    return _is_short_date(_digits(text)[:6]) and _luhn(text)


FORMS: dict[str, tuple[str, str, Callable[[str], bool]]] = {
    # the form that stands for itself, further ones where a word beside it says what it is, check
    "US": (r"\d{3}-\d{2}-\d{4}", r"\d{3} \d{2} \d{4}|\d{9}", _us),
    "GB": (r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]", "", _gb),
    "ES": (r"(?:\d{2}\.?\d{3}\.?\d{3}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z]", "", _es),
    "IT": (r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]",
           r"(?i:[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z])", _it),
    "FR": (r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}", "",
           _fr),
    "BR": (r"\d{3}\.\d{3}\.\d{3}-\d{2}", r"\d{11}", _br),
    "SE": (r"(?:19|20)?\d{6}[-+]\d{4}", r"(?:19|20)?\d{10}", _se),
    "FI": (r"\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]", "", _fi),
    "IN": (r"[2-9]\d{3} \d{4} \d{4}", r"[2-9]\d{11}|[2-9]\d{3}-\d{4}-\d{4}", _in),
    "CN": (r"[1-9]\d{5}(?:19|20)\d{9}[\dXx]", "", _cn),
    "KR": (r"\d{6}-\d{7}", "", _kr),
    "MX": (r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d", "", _mx),
    "DE": (r"\d{2} \d{3} \d{3} \d{3}", r"\d{11}", _de),
    "BE": (r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", r"\d{11}", _be),
    "CA": (r"\d{3}-\d{3}-\d{3}", r"\d{3} \d{3} \d{3}|\d{9}", _ca),
    "CH": (r"756\.\d{4}\.\d{4}\.\d{2}", r"756\d{10}", _ch),
    "CL": (r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]", r"\d{7,8}-[\dkK]", _cl),
    "DK": (r"\d{6}-\d{4}", r"\d{10}", _dk),
    "NL": ("", r"\d{9}|\d{4}\.\d{2}\.\d{3}", _nl),
    "NO": (r"\d{6} \d{5}", r"\d{11}", _no),
    "PL": ("", r"\d{11}", _pl),
    "RO": ("", r"[1-8]\d{12}", _ro),
    "SG": (r"[STFG]\d{7}[A-Z]", "", _sg),
    "TR": ("", r"[1-9]\d{10}", _tr),
    "ZA": ("", r"\d{13}|\d{6} \d{4} \d{3}", _za),
}
SAID = {
    "US": r"ssn|social security", "GB": r"nino|national insurance|ni n", "ES": r"dni|nif|nie",
    "IT": r"c\.?f\.|codice fiscale", "FR": r"nir|sécurité sociale", "BR": r"cpf",
    "SE": r"personn(?:umme)?r", "FI": r"hetu|henkilötunnus", "IN": r"aadhaar|uid",
    "CN": r"id card|身份证",
    "KR": r"rrn|주민등록번호", "MX": r"curp", "DE": r"steuer\w*|idnr|tin",
    "BE": r"rijksregister|niss|nrn",
    "CA": r"sin|social insurance", "CH": r"ahv|avs", "CL": r"rut|run", "DK": r"cpr",
    "NL": r"bsn|burgerservice", "NO": r"fødselsn|fnr|personn", "PL": r"pesel", "RO": r"cnp",
    "SG": r"nric|fin", "TR": r"tckn|kimlik", "ZA": r"id n|sa id|identity",
}
"""Words of each country's own for its number."""
TOLD = {
    country: re.compile(rf"(?<![^\W_])(?:{words})[^\d\n]{{0,20}}$", re.IGNORECASE)
    for country, words in SAID.items()
}
PATTERN = re.compile(
    # Nearly all words end at the second line: no figure is near enough.
    r"(?<![\w.,/-])(?<!\d[ -])(?=[A-Za-z]{0,6}[ -]?\d)(?:"
    + "|".join(form for one in FORMS.values() for form in one[:2] if form)
    + r")(?![\w/-]|[., ]\d)"
)


def span(found: re.Match[str]) -> tuple[int, int] | None:
    """Where the number stands, None if it is none."""
    return found.span() if country_of(found) else None


def country_of(found: re.Match[str]) -> str | None:
    """Whose number a match of PATTERN is, None if its check fails or nothing says that it is one.

    Where forms overlap, each country's check is asked.
    """
    text = found.group()
    before = found.string[max(0, found.start() - 44) : found.start()]
    for country, (alone, told, holds) in FORMS.items():
        own = alone and re.fullmatch(alone, text)
        said = told and re.fullmatch(told, text) and TOLD[country].search(before)
        if (own or said) and holds(text.upper()):
            return country
    return None
