"""Personal data that has a form: found, checked where there is a check digit, and replaced.

Each find becomes a typed token such as [EMAIL], so that a model learns that something stood there
and not what. Names and addresses have no form and are not found.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["KINDS", "redact"]


class Rule(NamedTuple):
    """One kind: what it looks like and whether a find is real."""

    kind: str
    pattern: re.Pattern[str]
    real: Callable[[str], bool]


EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}(?:@|\s?[\[(]at[\])]\s?)(?:[\w-]{1,63}\.){1,6}[a-zA-Z]{2,24}(?![\w-])"
)
IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
CARD = re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d-])")
IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])")
PHONE = re.compile(
    r"""(?<![\w.,/-])(?:
      \+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}   # +33 1 55 50 10 42
    | \[\d{1,3}\][ ]?(?:\(\d{1,4}\)[ ]?)?\d{2,4}(?:[ .-]\d{2,4}){1,4}      # [1] (202) 555-0142
    | \(\d{3}\)[ ]?\d{3}[ .-]\d{4}                                         # (202) 555-0142
    | \d{3}[.-]\d{3}[.-]\d{4}                                              # 202-555-0142
    | 0\d(?:[ .]\d{2}){4}                                                  # 01 99 00 12 34
    )(?![\w/-]|[.,]\d)""",
    re.VERBOSE,
)


def _iban(text: str) -> bool:
    code = text.replace(" ", "")
    if not 15 <= len(code) <= 34:
        return False
    digits = "".join(str(int(char, 36)) for char in code[4:] + code[:4])
    return int(digits) % 97 == 1


def _luhn(text: str) -> bool:
    digits = [int(char) for char in text if char.isdigit()]
    if len(set(digits)) < 2:
        return False
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _address(text: str) -> bool:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return False
    return ip.version == 4 or text.count(":") > 2


def _phone(text: str) -> bool:
    return 9 <= sum(char.isdigit() for char in text) <= 15


RULES = (
    Rule("EMAIL", EMAIL, bool),
    Rule("IBAN", IBAN, _iban),
    Rule("CARD", CARD, _luhn),
    Rule("IP", IPV4, _address),
    Rule("IP", IPV6, _address),
    Rule("PHONE", PHONE, _phone),
)
KINDS = ("EMAIL", "IBAN", "CARD", "IP", "PHONE")


def redact(text: str) -> tuple[str, dict[str, int]]:
    """(text with typed tokens, how many of each kind). Redacting twice changes nothing."""
    counts: dict[str, int] = {}
    for rule in RULES:
        text, found = _replace(text, rule)
        if found:
            counts[rule.kind] = counts.get(rule.kind, 0) + found
    return text, counts


def _replace(text: str, rule: Rule) -> tuple[str, int]:
    found = 0

    def token(match: re.Match[str]) -> str:
        nonlocal found
        if not rule.real(match.group()):
            return match.group()
        found += 1
        return f"[{rule.kind}]"

    return rule.pattern.sub(token, text), found
