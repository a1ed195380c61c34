"""Identity numbers of 25 countries, made by the issuers' published rules and not by the detector's.

The rules: SSA, HMRC, Ministerio del Interior, Agenzia delle Entrate, INSEE, Receita Federal,
Skatteverket, DVV, UIDAI, GB 11643, KRRN, RENAPO, BZSt, and so on; each function says its own.
"""

import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta

from tests.benchmarks.personal.case import LETTERS, Case, letters, within
from tests.benchmarks.personal.money import luhn_digit

__all__ = ["identities"]

Maker = Callable[[random.Random], str]


def _born(draw: random.Random) -> date:
    return date(1935, 1, 1) + timedelta(days=draw.randrange(27_000))


def _n(draw: random.Random, count: int) -> str:
    return "".join(draw.choices("0123456789", k=count))


def _dot(figures: str, weights: str) -> int:
    """Sum of products; a weight is a digit, or A for 10."""
    return sum(int(f) * int(w, 16) for f, w in zip(figures, weights, strict=True))


def _us(draw: random.Random) -> str:
    area = draw.choice([a for a in range(1, 900) if a != 666])
    return f"{area:03d}-{draw.randrange(1, 100):02d}-{draw.randrange(1, 10_000):04d}"


def _gb(draw: random.Random) -> str:
    first = draw.choice("ABCEGHJKLMNOPRSTWXYZ")
    second = draw.choice("ABCEGHJKLMNPRSTWXYZ")
    if first + second in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ"):
        return _gb(draw)
    return f"{first}{second} {_n(draw, 2)} {_n(draw, 2)} {_n(draw, 2)} {draw.choice('ABCD')}"


def _es(draw: random.Random) -> str:
    """DNI, or NIE of a foreigner: number modulo 23 names the letter."""
    table = "TRWAGMYFPDXBNJZSQVHLCKE"
    if draw.random() < 0.6:
        number = draw.randrange(10_000_000, 100_000_000)
        return f"{number}-{table[number % 23]}"
    kind, rest = draw.randrange(3), _n(draw, 7)
    return f"{'XYZ'[kind]}-{rest}-{table[int(f'{kind}{rest}') % 23]}"


def _it(draw: random.Random) -> str:
    """Codice fiscale: odd and even places have tables of their own."""
    born = _born(draw)
    month = "ABCDEHLMPRST"[born.month - 1]
    day = born.day + draw.choice((0, 40))
    code = f"{letters(draw, 6, 'BCDFGLMNRSTV')}{born:%y}{month}{day:02d}"
    code += f"{draw.choice('ABCDEFGHIL')}{_n(draw, 3)}"
    odd = dict(zip(LETTERS, (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14,
                             16, 10, 22, 25, 24, 23), strict=True))
    value = 0
    for place, char in enumerate(code, 1):
        letter = LETTERS[int(char)] if char.isdigit() else char
        value += odd[letter] if place % 2 else LETTERS.index(letter)
    return code + LETTERS[value % 26]


def _fr(draw: random.Random) -> str:
    """NIR: 97 minus the number modulo 97; Corsica counts as 19 and 18."""
    born = _born(draw)
    department = draw.choice(["75", "69", "13", "2A", "2B", "33", "59"])
    head = (draw.choice("12"), f"{born:%y}", f"{born:%m}", department, _n(draw, 3), _n(draw, 3))
    number = int("".join(head).replace("2A", "19").replace("2B", "18"))
    return " ".join((*head, f"{97 - number % 97:02d}"))


def _br(draw: random.Random) -> str:
    body = _n(draw, 9)
    for first in (10, 11):
        rest = sum(int(d) * (first - i) for i, d in enumerate(body)) % 11
        body += str(0 if rest < 2 else 11 - rest)
    return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"


def _se(draw: random.Random) -> str:
    born = _born(draw)
    body = f"{born:%y%m%d}{_n(draw, 3)}"
    century = draw.choice(("", f"{born.year // 100}"))
    return f"{century}{body[:6]}-{body[6:]}{luhn_digit(body)}"


def _fi(draw: random.Random) -> str:
    born, number = _born(draw), f"{draw.randrange(2, 900):03d}"
    check = "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(f"{born:%d%m%y}{number}") % 31]
    return f"{born:%d%m%y}{'-' if born.year < 2000 else 'A'}{number}{check}"


def _in(draw: random.Random) -> str:
    """Aadhaar: Verhoeff's check, here from the dihedral group itself and not from a table."""
    body = str(draw.randrange(2, 10)) + _n(draw, 10)

    def times(a: int, b: int) -> int:
        turned = (a + (b if a < 5 else -b)) % 5
        return turned + (5 if (a < 5) != (b < 5) else 0)

    turn, powers = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4), [list(range(10))]
    for _ in range(7):
        powers.append([turn[value] for value in powers[-1]])
    for last in range(10):
        value = 0
        for place, char in enumerate(reversed(f"{body}{last}")):
            value = times(value, powers[place % 8][int(char)])
        if value == 0:
            whole = f"{body}{last}"
            return f"{whole[:4]} {whole[4:8]} {whole[8:]}"
    raise AssertionError("one of ten digits fits")


def _cn(draw: random.Random) -> str:
    """GB 11643: powers of 2 modulo 11."""
    body = f"{draw.choice(('110101', '310104', '440305', '510107'))}{_born(draw):%Y%m%d}"
    body += _n(draw, 3)
    total = sum(int(d) * pow(2, 17 - place, 11) for place, d in enumerate(body))
    return body + "0123456789X"[(12 - total) % 11]


def _kr(draw: random.Random) -> str:
    born = _born(draw)
    body = f"{born:%y%m%d}{draw.choice('12') if born.year < 2000 else draw.choice('34')}"
    body += _n(draw, 5)
    return f"{body[:6]}-{body[6:]}{(11 - _dot(body, '234567892345') % 11) % 10}"


def _mx(draw: random.Random) -> str:
    born, consonants = _born(draw), "BCDFGHJKLMNPQRSTVXYZ"
    body = f"{draw.choice(consonants)}{draw.choice('AEIOU')}{letters(draw, 2, consonants)}"
    body += f"{born:%y%m%d}{draw.choice('HM')}{draw.choice(('DF', 'JC', 'NL', 'OC', 'NE'))}"
    body += letters(draw, 3, consonants) + ("0" if born.year < 2000 else "A")
    order = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    total = sum((18 - place) * order.index(char) for place, char in enumerate(body))
    return f"{body}{(10 - total % 10) % 10}"


def _de(draw: random.Random) -> str:
    """Steuer-IdNr.: one figure twice, one not at all; ISO 7064 MOD 11,10."""
    figures = draw.sample("0123456789", 9)
    figures.insert(draw.randrange(9), draw.choice(figures))
    if figures[0] == "0":
        return _de(draw)
    carry = 10
    for figure in figures:
        total = (int(figure) + carry) % 10
        carry = (2 * (total or 10)) % 11
    body = "".join(figures) + str((11 - carry) % 10)
    return f"{body[:2]} {body[2:5]} {body[5:8]} {body[8:]}"


def _be(draw: random.Random) -> str:
    born, number = _born(draw), f"{draw.randrange(1, 998):03d}"
    told = int(("2" if born.year >= 2000 else "") + f"{born:%y%m%d}{number}")
    return f"{born:%y.%m.%d}-{number}.{97 - told % 97:02d}"


def _ca(draw: random.Random) -> str:
    body = draw.choice("1234567") + _n(draw, 7)
    whole = body + luhn_digit(body)
    return f"{whole[:3]}-{whole[3:6]}-{whole[6:]}"


def _ch(draw: random.Random) -> str:
    """AHV: EAN-13 under Switzerland's 756."""
    body = "756" + _n(draw, 9)
    check = -sum(int(d) * (3 if place % 2 else 1) for place, d in enumerate(body)) % 10
    return f"{body[:3]}.{body[3:7]}.{body[7:11]}.{body[11:]}{check}"


def _cl(draw: random.Random) -> str:
    number = draw.randrange(5_000_000, 26_000_000)
    total = sum(int(d) * (2 + place % 6) for place, d in enumerate(reversed(str(number))))
    return f"{number:,}".replace(",", ".") + "-" + "0123456789K0"[11 - total % 11]


def _dk(draw: random.Random) -> str:
    """Modulo 11, as for nearly all who were born before October 2007."""
    body = f"{_born(draw):%d%m%y}{_n(draw, 3)}"
    check = -_dot(body, "432765432") % 11
    return f"{body[:6]}-{body[6:]}{check}" if check < 10 else _dk(draw)


def _nl(draw: random.Random) -> str:
    body = "1" + _n(draw, 7)
    check = _dot(body, "98765432") % 11
    return f"{body}{check}" if check < 10 else _nl(draw)


def _no(draw: random.Random) -> str:
    body = f"{_born(draw):%d%m%y}{_n(draw, 3)}"
    for weights in ("376189452", "5432765432"):
        check = -_dot(body, weights) % 11
        if check == 10:
            return _no(draw)
        body += str(check)
    return f"{body[:6]} {body[6:]}"


def _pl(draw: random.Random) -> str:
    born = _born(draw)
    month = born.month + (20 if born.year >= 2000 else 0)
    body = f"{born:%y}{month:02d}{born:%d}{_n(draw, 4)}"
    return f"{body}{-_dot(body, '1379137913') % 10}"


def _ro(draw: random.Random) -> str:
    born = _born(draw)
    body = f"{draw.choice('12') if born.year < 2000 else draw.choice('56')}{born:%y%m%d}"
    body += f"{draw.randrange(1, 47):02d}{_n(draw, 3)}"
    check = _dot(body, "279146358279") % 11
    return f"{body}{1 if check == 10 else check}"


def _sg(draw: random.Random) -> str:
    kind, body = draw.choice("STFG"), _n(draw, 7)
    total = _dot(body, "2765432") + (4 if kind in "TG" else 0)
    return f"{kind}{body}{('JZIHGFEDCBA' if kind in 'ST' else 'XWUTRQPNMLK')[total % 11]}"


def _tr(draw: random.Random) -> str:
    d = [draw.randrange(1, 10), *(draw.randrange(10) for _ in range(8))]
    d.append((7 * sum(d[0:9:2]) - sum(d[1:8:2])) % 10)
    d.append(sum(d) % 10)
    return "".join(map(str, d))


def _za(draw: random.Random) -> str:
    body = f"{_born(draw):%y%m%d}{_n(draw, 4)}{draw.choice('01')}8"
    return f"{body}{luhn_digit(body)}"


PLAIN, DASHES, NARROW = "plain", "dashes", "narrow"
COUNTRIES: dict[str, tuple[Maker, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    # maker, what precedes it, spellings that stand alone, spellings that need to be told
    "US": (_us, ("SSN: {0}", "Social Security number {0}"), ("",), (" ", PLAIN)),
    "GB": (_gb, ("NI number {0}", "National Insurance no. {0}", "NINO {0}"), ("", PLAIN), ()),
    "ES": (_es, ("DNI {0}", "NIF: {0}", "con DNI {0}", "NIE {0}"), ("", PLAIN), ()),
    "IT": (_it, ("C.F. {0}", "Codice fiscale: {0}"), ("",), ("lower",)),
    "FR": (_fr, ("NIR : {0}", "n° de sécurité sociale {0}"), ("", PLAIN), ()),
    "BR": (_br, ("CPF: {0}", "CPF nº {0}"), ("",), (PLAIN,)),
    "SE": (_se, ("personnummer {0}", "Personnr: {0}"), ("",), (PLAIN,)),
    "FI": (_fi, ("henkilötunnus {0}", "HETU: {0}"), ("",), ()),
    "IN": (_in, ("Aadhaar: {0}", "Aadhaar no. {0}", "UID {0}"), ("",), (PLAIN, DASHES)),
    "CN": (_cn, ("ID card {0}", "身份证号: {0}"), ("",), ()),
    "KR": (_kr, ("RRN {0}", "주민등록번호 {0}"), ("",), ()),
    "MX": (_mx, ("CURP: {0}", "con CURP {0}"), ("",), ()),
    "DE": (_de, ("Steuer-ID {0}", "IdNr. {0}", "Steueridentifikationsnummer: {0}"), ("",),
           (PLAIN,)),
    "BE": (_be, ("Rijksregisternummer {0}", "NISS: {0}"), ("",), (PLAIN,)),
    "CA": (_ca, ("SIN: {0}", "Social Insurance Number {0}"), ("",), (" ", PLAIN)),
    "CH": (_ch, ("AHV-Nr. {0}", "N° AVS {0}"), ("",), (PLAIN,)),
    "CL": (_cl, ("RUT {0}", "RUN: {0}"), ("",), (NARROW,)),
    "DK": (_dk, ("CPR-nr. {0}", "CPR: {0}"), ("",), ()),
    "NL": (_nl, ("BSN {0}", "Burgerservicenummer: {0}"), (), ("",)),
    "NO": (_no, ("fødselsnummer {0}", "Fnr: {0}"), ("",), (PLAIN,)),
    "PL": (_pl, ("PESEL: {0}", "nr PESEL {0}"), (), ("",)),
    "RO": (_ro, ("CNP {0}", "CNP: {0}"), (), ("",)),
    "SG": (_sg, ("NRIC {0}", "FIN: {0}", "NRIC No. {0}"), ("",), ()),
    "TR": (_tr, ("T.C. Kimlik No: {0}", "TCKN {0}"), (), ("",)),
    "ZA": (_za, ("ID number {0}", "SA ID: {0}"), (), ("",)),
}


def identities(draw: random.Random, count: int) -> Iterator[Case]:
    """Spellings that little else has, half of them unsaid; bare rows of figures only where the
    sentence says what they are."""
    for number in range(count):
        country = list(COUNTRIES)[number % len(COUNTRIES)]
        make, told, alone, needy = COUNTRIES[country]
        spelling = draw.choice(alone * 2 + needy)
        value = _spelt(make(draw), spelling)
        bare = 0.5 if spelling in alone else 0.0
        yield Case("ID", country, value, within(draw, value, told, bare))


def _spelt(value: str, spelling: str) -> str:
    if spelling == "lower":
        return value.lower()
    if spelling == NARROW:
        return value.replace(".", "")
    if spelling == DASHES:
        return value.replace(" ", "-")
    if spelling == " ":
        return value.replace("-", " ")
    return "".join(c for c in value if c.isalnum()) if spelling == PLAIN else value
