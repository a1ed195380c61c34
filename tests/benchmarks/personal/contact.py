"""Mail addresses, telephone numbers and IP addresses in the spellings that people use.

Telephone: ITU-T E.123 and the national numbering plans; IP: RFC 4291, RFC 5952.
"""

import ipaddress
import random
from collections.abc import Callable, Iterator

from tests.benchmarks.personal.case import Case, spelt, within

__all__ = ["emails", "ips", "phones"]

GIVEN = ("anna", "b.meier", "j_smith", "li.wei", "o'brien", "news+letter", "x", "K.Novak", "josé",
         "info-desk", "maria.del.mar", "t1000", "a.b.c")
DOMAINS = ("example.org", "mail.example.com", "uni-basel.example", "post.example.co.uk",
           "müller.de",
           "firma.example.museum", "xn--mller-kva.example", "a1.io", "EXAMPLE.NET",
           "web.example.jp")
EMAIL_FORMS: dict[str, tuple[str, ...]] = {
    "plain": ("{0}@{1}", "{0}@{1}", "<{0}@{1}>", "mailto:{0}@{1}"),
    "bracketed at": ("{0} [at] {1}", "{0}(at){1}", "{0} (at) {1}", "{0}[at]{1}", "{0} {{at}} {1}"),
    "at and dot": ("{0} [at] {2} [dot] {3}", "{0}(at){2}(dot){3}", "{0} (at) {2} (dot) {3}",
                   "{0} AT {2} DOT {3}", "{0} at {2} dot {3}"),
}
EMAIL_TOLD = ("Write to {0} for more.", "E-mail: {0}", "Contact {0}", "Questions? {0}!",
              "Mail {0}, or call.", "Courriel : {0}", "send it to {0} by Friday")

PHONES: dict[str, tuple[str, ...]] = {
    "US": ("(212) N##-####", "212-N##-####", "415.N##.####", "312 N## ####", "+1 646 N## ####",
           "+1 (305) N##-####", "1-718-N##-####", "+1503N######", "+1-206-N##-####"),
    "GB": ("020 7### ####", "(0161) 4## ####", "+44 20 7### ####", "+44 (0)20 7### ####",
           "01482 4#####", "07911 1#####", "+44791112####", "0044 20 7### ####", "07911-123-###"),
    "DE": ("030 2#######", "+49 30 2#######", "030/2#######", "(089) 5######", "0171 2######",
           "+49 (0) 171 2######", "+49-40-4#####", "0221 / 47 ## ##", "0049 30 2#######"),
    "FR": ("01 4# ## ## ##", "01.4#.##.##.##", "+33 1 4# ## ## ##", "+33 (0)1 4# ## ## ##",
           "06-1#-##-##-##", "+3361#######", "0033 1 4# ## ## ##", "0612######"),
    "ES": ("91# ### ###", "91 3## ## ##", "+34 91# ### ###", "612 ### ###", "+34612######"),
    "IT": ("06 4### ####", "+39 06 4#######", "02-4#######", "347 2## ####", "+39 347 2######"),
    "NL": ("020 5## ####", "+31 20 5## ####", "06-1#######", "+31 6 1#######", "(020) 5## ## ##"),
    "CH": ("044 2## ## ##", "+41 44 2## ## ##", "079 2## ## ##", "0041 44 2## ## ##"),
    "SE": ("08-12# ### ##", "+46 8 12# ### ##", "070-2## ## ##", "+46 (0)70 2## ## ##"),
    "NO": ("22 4# ## ##", "+47 22 4# ## ##", "+47 412 ## ###"),
    "PL": ("22 6## ## ##", "+48 22 6## ## ##", "501 ### ###", "+48 501-###-###"),
    "BR": ("(11) 3###-####", "(21) 9####-####", "+55 11 9####-####", "+55 (21) 3###-####"),
    "MX": ("55 5### ####", "+52 55 5### ####", "(55) 5###-####"),
    "AR": ("+54 11 4###-####", "(011) 4###-####", "+54 9 11 4###-####"),
    "IN": ("+91 98### #####", "098### #####", "+91-98########", "022-2### ####",
           "+91 22 2### ####"),
    "CN": ("+86 138 #### ####", "138-####-####", "010-6#######", "+86 10 6### ####", "138########"),
    "JP": ("03-3###-####", "090-1###-####", "+81 3-3###-####", "+81-90-1###-####", "0120-###-###"),
    "KR": ("02-7##-####", "010-2###-####", "+82 10-2###-####", "+82-2-7##-####"),
    "AU": ("(02) 9### ####", "0412 ### ###", "+61 2 9### ####", "1300 ### ###", "+61 412 ### ###"),
    "ZA": ("011 4## ####", "+27 11 4## ####", "082 4## ####", "+27 (0)82 4## ####"),
    "RU": ("8 (495) 2##-##-##", "+7 495 2##-##-##", "8-495-2##-##-##", "+7 (916) 2## ## ##"),
    "TR": ("0212 2## ## ##", "+90 212 2## ## ##", "(0212) 2## ## ##", "+90 532 2## ####"),
    "NG": ("0803 2## ####", "+234 803 2## ####", "+2348032######"),
}
PHONE_TOLD = ("Phone: {0}", "Tel. {0}", "Call {0} now.", "Fax {0}", "Mobile {0}", "Tel: {0}",
              "Telefon: {0}", "Tél. {0}", "Teléfono: {0}", "WhatsApp {0}", "Ring us on {0} today.",
              "You can reach her by telephone on {0}.", "{0} (mobile)", "T: {0}", "tel:{0}",
              "Our number is {0}.", "Hotline {0}, day and night")

IP_FORMS: dict[str, tuple[str, ...]] = {
    "v4": ("{0}", "{0}", "{0}:8080", "{0}/24", "http://{0}/status", "[{0}]"),
    "v6": ("{0}", "{0}", "[{0}]:443", "{0}/64", "{0}%eth0"),
}
IP_TOLD = ("The edit came from {0} at night.", "IP: {0}", "Last login from {0} on pts/0",
           "blocked address {0}", '{0} - - [10/Oct/2000:13:55:36] "GET / HTTP/1.0" 200', "host {0}")


def emails(draw: random.Random, count: int) -> Iterator[Case]:
    """Addresses, plain and disguised."""
    for number in range(count):
        group = list(EMAIL_FORMS)[number % len(EMAIL_FORMS)]
        spoken = group == "at and dot"
        domains = [one for one in DOMAINS if not (spoken and one.endswith("example"))]
        local, domain = draw.choice(GIVEN), draw.choice(domains)
        if group != "plain":
            local = local.replace("'", "")
        host, _, ending = domain.rpartition(".")
        form = draw.choice(EMAIL_FORMS[group])
        whole = form.format(local, domain, host, ending)
        value = whole.strip("<>").removeprefix("mailto:")
        yield Case("EMAIL", group, value, within(draw, whole, EMAIL_TOLD, 0.0 if spoken else 0.4))


def phones(draw: random.Random, count: int) -> Iterator[Case]:
    """Numbers of 23 countries as written there and abroad."""
    for number in range(count):
        country = list(PHONES)[number % len(PHONES)]
        value = spelt(draw, draw.choice(PHONES[country]))
        yield Case("PHONE", country, value, within(draw, value, PHONE_TOLD, 0.3))


def ips(draw: random.Random, count: int) -> Iterator[Case]:
    """Global addresses of both versions, with ports, lengths of prefixes and zones beside them."""
    for number in range(count):
        group = ("v4", "v6")[number % 2]
        value = (_v4 if group == "v4" else _v6)(draw)
        whole = draw.choice(IP_FORMS[group]).format(value)
        yield Case("IP", group, value, within(draw, whole, IP_TOLD))


def _v4(draw: random.Random) -> str:
    while True:
        address = ipaddress.IPv4Address(draw.randrange(2**24, 224 * 2**24))
        if address.is_global:
            return str(address)


def _v6(draw: random.Random) -> str:
    address = ipaddress.IPv6Address((0x2A << 120) | draw.getrandbits(120))
    if draw.random() < 0.6:  # most written ones have zeros in the middle
        kept = (2**128 - 1) ^ (((1 << (16 * draw.randrange(2, 5))) - 1) << 16)
        address = ipaddress.IPv6Address(int(address) & kept)
    spellings: tuple[Callable[[], str], ...] = (
        lambda: str(address),
        lambda: str(address).upper(),
        lambda: address.exploded,
    )
    return draw.choice(spellings)()

