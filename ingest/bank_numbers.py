"""Accounts and payment cards, told from other figures by length, range and check digits.

IBAN: ISO 13616 and the lengths of its registry. Cards: ISO/IEC 7812, the ranges that the schemes
publish, and the groups in which their numbers are written.
"""

import re

__all__ = ["CARD", "IBAN", "card_span", "iban_span"]

LENGTHS = {
    code[:2]: int(code[2:])
    for code in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 "
        "DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 "
        "IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 "
        "MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 "
        "SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
    ).split()
}
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
    gaps = {text[a.end() : b.start()] for a, b in zip(pieces, pieces[1:], strict=False)}
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
