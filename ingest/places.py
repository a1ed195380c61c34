"""Places from which a crawl looks at the web: a country, perhaps a city in it.

A host is seen from one place, which follows from its name alone: it meets one visitor, and the
same crawl asks from the same places whenever it is run.
"""

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["COUNTRIES", "Place", "city_of", "country_of", "place_of"]

COUNTRIES = frozenset(re.findall("[A-Z]{2}", """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT
BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH
ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT
HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS
LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI
NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG
SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG
UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""))
"""ISO 3166-1 alpha-2, all 249."""


def _checked(text: str) -> str:
    """`de` -> `DE`, `us / New York` -> `US/New York`; anything else is refused."""
    code, slash, city = (part.strip() for part in text.partition("/"))
    if code.upper() not in COUNTRIES:
        raise ValueError(f"{code!r} is no country code of ISO 3166-1{_suggestion(code)}")
    if slash and not city_of(text, ""):
        raise ValueError(f"{text!r} names no city: write it in Latin letters, or the code alone")
    return f"{code.upper()}/{city}" if city else code.upper()


Place = Annotated[str, AfterValidator(_checked)]
"""`DE`, or `US/New York`."""


def country_of(place: str) -> str:
    """Its code, in capitals."""
    return place.partition("/")[0]


def city_of(place: str, space: str) -> str:
    """Its city as providers spell it: small letters of ASCII, `space` between words."""
    plain = unicodedata.normalize("NFKD", place.partition("/")[2]).encode("ascii", "ignore")
    words = "".join(char if char.isalnum() else " " for char in plain.decode().lower())
    return space.join(words.split())


def place_of(host: str, places: Sequence[str], fixed: Mapping[str, str]) -> str:
    """From where `host` is looked at; "" if that is left to the proxy.

    `fixed` decides for the hosts it names and all below them, the longest name first. The rest is
    spread evenly, by the highest hash of host and place (rendezvous hashing: Thaler and Ravishankar
    1998, https://doi.org/10.1109/90.663936): a further place takes over its share of the hosts and
    moves no other.
    """
    labels = host.lower().split(".")
    for first in range(len(labels)):
        place = fixed.get(".".join(labels[first:]))
        if place is not None:
            return place
    if not places:
        return ""
    return max(places, key=lambda place: hashlib.sha256(f"{place} {host}".encode()).digest())


def _suggestion(code: str) -> str:
    """What was meant: another spelling of a country, its name, or a code that looks alike."""
    from babel import Locale
    from babel.core import get_global

    names = {code: str(Locale("en").territories[code]) for code in sorted(COUNTRIES)}
    meant = (get_global("territory_aliases").get(code.upper()) or [""])[0]
    if meant not in COUNTRIES:
        by_name = {name.lower(): known for known, name in names.items()}
        near = difflib.get_close_matches(code.lower(), by_name, 1, 0.75)
        alike = difflib.get_close_matches(code.upper(), names, 1, 0.5)
        meant = by_name[near[0]] if near else alike[0] if alike else ""
    return f"; did you mean {meant} ({names[meant]})?" if meant else ""
