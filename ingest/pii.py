"""Personal data that has a form: found, checked where there is a check digit, and replaced.

Each find becomes a typed token such as [EMAIL], so that a model learns that something stood there
and not what. Names and addresses have no form and are not found.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

from ingest import national_ids

__all__ = ["KINDS", "redact"]


class Rule(NamedTuple):
    """One kind: what it looks like and whether a find is real."""

    kind: str
    pattern: re.Pattern[str]
    real: Callable[[re.Match[str]], bool]


KEY = re.compile(
    r"""(?<![\w-])(?:
      (?:AKIA|ASIA)[A-Z0-9]{16}                                    # AWS
    | gh[pousr]_[A-Za-z0-9]{36,255} | github_pat_\w{60,255}        # GitHub
    | glpat-[\w-]{20,} | npm_[A-Za-z0-9]{36} | pypi-[\w-]{80,}     # GitLab, npm, PyPI
    | xox[abeoprs]-[A-Za-z0-9-]{20,}                               # Slack
    | AIza[\w-]{35} | ya29\.[\w-]{30,}                            # Google
    | [rs]k_(?:live|test)_[A-Za-z0-9]{20,}                         # Stripe
    | sk-(?:proj-|ant-)?[\w-]{32,} | hf_[A-Za-z]{34}              # model providers
    | SG\.[\w-]{22}\.[\w-]{43}                                    # SendGrid
    | eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}                      # JSON Web Token
    | -----BEGIN[ ](?:[A-Z0-9]+[ ]){0,2}PRIVATE[ ]KEY-----[\s\S]{40,8000}?
      -----END[ ](?:[A-Z0-9]+[ ]){0,2}PRIVATE[ ]KEY-----
    )(?![\w])""",
    re.VERBOSE,
)
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


def _any(found: re.Match[str]) -> bool:
    del found
    return True


def _random(found: re.Match[str]) -> bool:
    """Placeholders such as xxxxxxxx are no secrets."""
    return len(set(found.group())) > 8


def _national(found: re.Match[str]) -> bool:
    return national_ids.country_of(found) is not None


def _iban(found: re.Match[str]) -> bool:
    code = found.group().replace(" ", "")
    if not 15 <= len(code) <= 34:
        return False
    digits = "".join(str(int(char, 36)) for char in code[4:] + code[:4])
    return int(digits) % 97 == 1


def _luhn(found: re.Match[str]) -> bool:
    digits = [int(char) for char in found.group() if char.isdigit()]
    if len(set(digits)) < 2:
        return False
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _address(found: re.Match[str]) -> bool:
    try:
        ip = ipaddress.ip_address(found.group())
    except ValueError:
        return False
    return ip.version == 4 or found.group().count(":") > 2


def _phone(found: re.Match[str]) -> bool:
    return 9 <= sum(char.isdigit() for char in found.group()) <= 15


RULES = (
    Rule("KEY", KEY, _random),
    Rule("EMAIL", EMAIL, _any),
    Rule("IBAN", IBAN, _iban),
    Rule("ID", national_ids.PATTERN, _national),
    Rule("CARD", CARD, _luhn),
    Rule("IP", IPV4, _address),
    Rule("IP", IPV6, _address),
    Rule("PHONE", PHONE, _phone),
)
"""In this order: what was found is gone before the next looks."""
KINDS = ("KEY", "EMAIL", "IBAN", "ID", "CARD", "IP", "PHONE")


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
        if not rule.real(match):
            return match.group()
        found += 1
        return f"[{rule.kind}]"

    return rule.pattern.sub(token, text), found
