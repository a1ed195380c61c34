"""Figures and words that look like personal data and are none."""

import hashlib
import ipaddress
import random
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from tests.benchmarks.personal.case import Case, digits, letters, spelt
from tests.benchmarks.personal.identities import COUNTRIES
from tests.benchmarks.personal.keys import HEX, MIXED
from tests.benchmarks.personal.money import BBAN, SCHEMES, iban_of, luhn_digit, luhn_number

__all__ = ["lookalikes"]


def _version(draw: random.Random) -> tuple[str, str]:
    parts = [draw.randrange(1, 30), draw.randrange(40), draw.randrange(20), draw.randrange(20)]
    value = ".".join(map(str, parts[: draw.choice((3, 4, 4))]))
    return value, draw.choice(("version {0}", "v{0}", "Release {0} is out.", "Firmware {0} (2019)",
                               "upgraded from 2.0 to {0}", "lib-{0}.tar.gz", "Chrome/{0} Safari"))


def _section(draw: random.Random) -> tuple[str, str]:
    value = ".".join(str(draw.randrange(1, 15)) for _ in range(draw.choice((3, 4, 4, 5))))
    return value, draw.choice(("Section {0} says", "see § {0}", "{0} Scope of the rules",
                               "clause {0}, table 2", "chapters 2 to {0}", "as in Art. {0}"))


def _isbn(draw: random.Random) -> tuple[str, str]:
    body = "978" + "".join(draw.choices("0123456789", k=9))
    check = -sum(int(d) * (3 if place % 2 else 1) for place, d in enumerate(body)) % 10
    whole = f"{body}{check}"
    ten = spelt(draw, draw.choice(("0-###-#####-#", "3-16-######-X", "99921-58-##-#")))
    hyphens = f"978-{whole[3]}-{whole[4:6]}-{whole[6:12]}-{whole[12]}"
    value = draw.choice((whole, hyphens, hyphens, ten, f"978 {whole[3:7]} {whole[7:]}"))
    return value, draw.choice(("ISBN {0}", "ISBN: {0}", "({0}, 300 pages)", "Paperback, {0}"))


def _order(draw: random.Random) -> tuple[str, str]:
    form = draw.choice(("N##-#######-#######", "2024-#####", "#N#####", "PO-#######",
                        "INV/20##/####",
                        "#N##.###.##", "N##-####-##", "S/N N#########", "N#########"))
    return spelt(draw, form), draw.choice(("Order {0} was sent.", "order number {0}", "No. {0}",
                                           "Invoice {0}", "Ticket {0}", "Ref. {0}", "Part no. {0}"))


def _date(draw: random.Random) -> tuple[str, str]:
    when = datetime(1900, 1, 1) + timedelta(hours=draw.randrange(1_100_000))
    form = draw.choice(("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%y", "%Y%m%d", "%d %m %Y",
                        "%Y-%m-%dT%H:%M:%S+01:00", "%H:%M:%S", "%Y.%m.%d %H.%M", "%Y%m%d%H%M%S",
                        "%d-%m-%Y", "%y%m%d"))
    return when.strftime(form), draw.choice(("on {0}", "Posted {0} by the editor", "{0}",
                                             "since {0},"))


def _span(draw: random.Random) -> tuple[str, str]:
    first = draw.randrange(1000, 2010)
    value = draw.choice((f"{first}-{first + 9}", f"{first}\u2013{first + 4}",
                         f"{first}-{first + 3}-{first + 7}", f"{first}/{first + 1}"))
    return value, draw.choice(("in {0}", "({0})", "the years {0} and after", "John Smith, {0}"))


def _place(draw: random.Random) -> tuple[str, str]:
    lat, lon = draw.uniform(-90, 90), draw.uniform(-180, 180)
    value = draw.choice((
        f"{lat:.6f}, {lon:.6f}", f"{lat:.4f} {lon:.4f}",
        f"{abs(int(lat))} 15 30 N, {abs(int(lon))} 20 45 E",
        f"{abs(int(lat))}°15'30\"N {abs(int(lon))}°20'45\"E",
        f"+{abs(lat):.4f}+{abs(lon):08.4f}/", f"geo:{lat:.5f},{lon:.5f}",
        f"32U {draw.randrange(100000, 999999)} {draw.randrange(1000000, 9999999)}",
    ))
    return value, draw.choice(("at {0}", "Coordinates: {0}", "{0}", "UTM or degrees {0}"))


def _hash(draw: random.Random) -> tuple[str, str]:
    raw = str(draw.random()).encode()
    value = draw.choice((
        hashlib.md5(raw).hexdigest(), hashlib.sha1(raw).hexdigest(),
        hashlib.sha256(raw).hexdigest(),
        str(uuid.UUID(int=draw.getrandbits(128))), hashlib.sha1(raw).hexdigest()[:7],
        "sha256:" + hashlib.sha256(raw).hexdigest(), f"0x{draw.getrandbits(64):x}",
    ))
    return value, draw.choice(("commit {0}", "sha1sum: {0}", "{0}  image.iso", "etag {0}",
                               "Digest {0}.", "id={0}"))


def _number(draw: random.Random) -> tuple[str, str]:
    value = draw.choice((
        f"{draw.randrange(10**6, 10**10):,}", f"{draw.randrange(10**6, 10**10):,}".replace(",",
                                                                                           " "),
        f"{draw.randrange(10**6, 10**10):,}".replace(",", "."), f"{draw.random():.16f}",
        digits(draw, draw.choice((8, 9, 10, 11, 12))),
        f"{draw.randrange(10**9)}.{draw.randrange(100):02d}",
        f"{draw.randrange(100, 1000)}-{draw.randrange(100, 1000)}",
        " ".join(str(draw.randrange(100, 1000)) for _ in range(3)),
        " ".join(str(draw.randrange(1, 100)) for _ in range(6)),
        "{}-{}, {}-{}".format(*(draw.randrange(1, 99) for _ in range(4))),
    ))
    return value, draw.choice(("{0} people", "a total of {0}", "{0}", "about {0} km",
                               "scored {0} points",
                               "GDP of {0} dollars", "population {0} (2019)", "row: {0}"))


def _phone_like(draw: random.Random) -> tuple[str, str]:
    form, told = draw.choice((
        ("100-200-3000", "Form {0}"), ("N##-##-##", "catalogue {0}"), ("555-####", "serial {0}"),
        ("19##-20##", "seasons {0}"), ("N##.##.####", "patent {0}"), ("(###) ####",
                                                                      "Ann. Math. {0}"),
        ("N##:####-####", "J. Phys. {0}"), ("EP 1 ### ### B1", "{0}"), ("US N,###,###", "{0}"),
        ("#-####-####-#", "hymn {0}"), ("12-34-56", "combination {0}"), ("+## to +##",
                                                                         "from {0} degrees"),
        ("+1.N##", "odds {0}"), ("+ ### ### kr", "{0}"), ("0.N### ####", "constant {0}"),
        ("N## ### ###", "weighs {0} kg"), ("CAS ##-##-#", "{0}"), ("CAS N###-##-#", "{0}"),
        ("10.1016/j.N##.####.##.###", "doi:{0}"), ("PMID N#######", "{0}"), ("arXiv:2###.#####",
                                                                             "{0}"),
        ("UPC 0 ##### ##### #", "{0}"), ("0## ## ## ##", "postcode and box {0} in the table"),
        ("ISSN ####-####", "{0}"), ("NSN ####-##-###-####", "{0}"), ("N##-N##-N##", "model {0}"),
    ))
    return spelt(draw, form), told


def _luhn(draw: random.Random) -> tuple[str, str]:
    """IMEI, SIM card numbers, and products whose makers chose the same check."""
    start, length, told = draw.choice((
        ("35", 15, "IMEI {0}"), ("86", 15, "IMEI: {0}"), ("01", 15, "IMEI {0}"),
        ("8944", 19, "ICCID {0}"), ("8901", 19, "SIM {0}"), ("9", 16, "article {0}"),
        ("1", 16, "Product code {0}"), ("7", 14, "item {0}"), ("8", 13, "SKU {0}"),
        ("0", 14, "GTIN {0}"), ("4", 16, "Part no. {0}"), ("5", 16, "order number {0}"),
        ("4", 13, "EAN {0}"), ("62", 16, "tracking number {0}"), ("36", 14, "serial no. {0}"),
    ))
    value = luhn_number(draw, start, length)
    if told.startswith("IMEI") and draw.random() < 0.5:
        value = f"{value[:2]}-{value[2:8]}-{value[8:14]}-{value[14]}"
    return value, told


def _bad_card(draw: random.Random) -> tuple[str, str]:
    starts, length, sizes = SCHEMES[draw.choice(list(SCHEMES))]
    body = draw.choice(starts) + "".join(draw.choices("0123456789", k=length - len(starts[0]) - 1))
    wrong = (int(luhn_digit(body)) + draw.randrange(1, 10)) % 10
    plain, pieces = f"{body}{wrong}", []
    for size in sizes:
        pieces, plain = [*pieces, plain[:size]], plain[size:]
    value = draw.choice(("".join(pieces), " ".join(pieces)))
    return value, draw.choice(("{0}", "the sequence {0} is wrong", "number {0}"))


def _bad_iban(draw: random.Random) -> tuple[str, str]:
    plain = iban_of(draw, draw.choice(list(BBAN)), slip=draw.randrange(1, 96))
    if draw.random() < 0.3:
        plain = letters(draw, 2) + digits(draw, 2) + digits(draw, 12)
    value = draw.choice((plain, " ".join(plain[i : i + 4] for i in range(0, len(plain), 4))))
    return value, draw.choice(("{0}", "model {0}", "licence {0}", "the code {0} did not pass"))


def _bad_id(draw: random.Random) -> tuple[str, str]:
    """Identity numbers with one figure changed, where the form has a check, said to be products."""
    country = draw.choice([c for c in COUNTRIES if c not in ("US", "GB", "DK")])
    value = COUNTRIES[country][0](draw)
    place = max(i for i, c in enumerate(value[:-1]) if c.isdigit())
    other = str((int(value[place]) + draw.randrange(1, 10)) % 10)
    return value[:place] + other + value[place + 1 :], draw.choice(("part {0}", "{0} units", "{0}"))


def _special_ip(draw: random.Random) -> tuple[str, str]:
    value = draw.choice(("127.0.0.1", "0.0.0.0", "192.168.1.1", "10.0.0.12", "255.255.255.0",
                         "172.16.4.1", "::1", "169.254.10.1", "224.0.0.251", "fe80::1",
                         "999.1.2.300",
                         "256.100.50.25", "1.2.3",
                         str(ipaddress.IPv4Address(draw.randrange(2**24)))))
    return value, draw.choice(("listens on {0}", "{0}", "ping {0}", "the mask {0}"))


def _at(draw: random.Random) -> tuple[str, str]:
    word = letters(draw, 5).lower()
    value = draw.choice((f"@{word}", f"{word}@localhost", f"{word}@2x.png", f"{word}@18.2.0",
                         f"@{word}/core@1.4.2", "3 @ 5.00", "@app.route", f"@{word}:matrix", "a@b",
                         f"{word} at home dot", f"ping {word}@", f"{word}@3x.jpg", f"{word}@v2.1",
                         "arrived at noon. Dot and Ann", f"r@{word}", f"look at {word}.com"))
    return value, draw.choice(("see {0}", "{0}", "npm install {0}", "follow {0} today"))


def _key_like(draw: random.Random) -> tuple[str, str]:
    word = letters(draw, 8).lower()
    value = draw.choice((
        "sk_live_" + "x" * 24, "AKIA" + "X" * 16, "api_key = YOUR_API_KEY", "password = ********",
        "token: <your token here>", "ghp_short", "API_KEY=os.environ['API_KEY']", f"sk-{word}",
        "password: forgot your password?", "secret_key = settings.SECRET_KEY",
        "Bearer of good news",
        f"https://www.youtube.com/watch?v={letters(draw, 11, MIXED)}", "public_key.pem",
        "-----BEGIN PUBLIC KEY-----\n" + letters(draw, 64, MIXED) + "\n-----END PUBLIC KEY-----",
        f"data:image/png;base64,iVBORw0KGgo{letters(draw, 60, MIXED)}", f"class=\"css-{word}\"",
        f"integrity=\"sha384-{letters(draw, 64, MIXED)}\"", f"key-value-{word}", "AIza is a prefix",
        "password=${DB_PASSWORD}", "the token: a small coin",
        f"/static/{letters(draw, 20, HEX)}.js",
        "postgres://localhost:5432/shop", "the access token is renewed each day",
        f"ObjectId('{letters(draw, 24, HEX)}')", "keyboard-interactive",
        f"tracking_id = UA-{digits(draw, 8)}-1",
    ))
    return value, draw.choice(("{0}", "# {0}", "use {0} here"))


SORTS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "version number": _version, "section number": _section, "ISBN": _isbn, "order number": _order,
    "date or time": _date, "span of years": _span, "coordinates": _place, "hash or UUID": _hash,
    "plain number": _number, "phone-like number": _phone_like, "passes Luhn": _luhn,
    "card with a slip": _bad_card, "IBAN with a slip": _bad_iban, "ID with a slip": _bad_id,
    "address of no one": _special_ip, "with an @": _at, "key-like": _key_like,
}


def lookalikes(draw: random.Random, count: int) -> Iterator[Case]:
    """Of 17 sorts in turn."""
    for number in range(count):
        group = list(SORTS)[number % len(SORTS)]
        value, told = SORTS[group](draw)
        yield Case("", group, value, told.replace("{0}", value))
