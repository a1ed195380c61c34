"""Personal data that has a form: found, checked where there is a check digit, and replaced.

Each find becomes a typed token such as [EMAIL], so that a model learns that something stood there
and not what. Names and addresses have no form and are not found. How much of each kind is found,
and how much else: `FIGURES`, measured by `python -m tests.benchmarks.pii`.
"""

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ingest import bank_numbers, national_ids, phone_numbers, secret_keys

__all__ = ["FIGURES", "KINDS", "Find", "figures", "find", "redact"]

Span = tuple[int, int]
FIGURES = Path(__file__).with_name("pii_figures.json")
BLANK = "\x00"
"""Stands for what was found already: no letter, no figure, and of the same length."""


class Find(NamedTuple):
    """One find: text[start:end] is of this kind."""

    kind: str
    start: int
    end: int


class Rule(NamedTuple):
    """One kind: what may be a find, and which part of it is one."""

    kind: str
    pattern: re.Pattern[str]
    span: Callable[[re.Match[str]], Span | None]
    sign: re.Pattern[str] = re.compile("")
    """Stands in every text that holds one: cheaper to look for."""


LABEL = r"[\w-]{1,63}"
AT = r"(?:@|\s?[\[({]\s?at\s?[\])}]\s?)"
DOT = r"(?:\.|\s?[\[({]\s?dot\s?[\])}]\s?)"
EMAIL = re.compile(
    rf"(?<![\w.+@-])\w[\w.+%'-]{{0,63}}{AT}(?:{LABEL}{DOT}){{1,6}}(?:xn--[a-z0-9-]{{2,30}}|[a-zA-Z]{{2,24}})"
    rf"(?![\w@-])|"
    # read aloud: the ending is one that is no English word
    rf"(?<![\w.+@-])\w[\w.+%'-]{{0,63}}[ ](?i:at)[ ](?:[\w.-]{{1,63}}[ ](?i:dot)[ ]){{1,4}}"
    rf"(?:(?i:com|org|net|edu|gov|info|museum|co|uk|de|fr|es|nl|ch|eu|io|jp|cn|ru|br|pl|se|ca|au)|"
    rf"xn--[a-z0-9-]{{2,30}})(?![\w-])"
)
AT_SIGN = re.compile(r"@|[\[({]\s?at\s?[\])}]|[ ]dot[ ]", re.IGNORECASE)
FILES = {"png", "jpg", "jpeg", "gif", "svg", "webp", "bmp", "ico", "css", "js", "html", "pdf"}
"""Endings of files such as logo@2x.png."""
IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])")
NUMBERED = re.compile(
    r"(?:\b(?:v|ver|version|release|firmware|build|rev|revision|section|sec|chapters?|clause|"
    r"art|article|paragraph|table|figure|lib|oid)\b[^\n;]{0,14}|"
    r"§+\s?|[a-z]/|[\d.]+ (?:to|or|and) )$",
    re.IGNORECASE,
)
"""What stands before a number in four parts that is no address."""
SAID = re.compile(r"(?:\bip|address|host|from|login|server|@|//)\W{0,3}\w{0,3}\W?$", re.IGNORECASE)
EXAMPLES = tuple(
    ipaddress.ip_network(net)
    for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
)
"""For documentation (RFC 5737, RFC 3849): written where a real one would stand."""


def _email(found: re.Match[str]) -> Span | None:
    ending = found.group().rpartition(".")[2].lower()
    return None if ending in FILES else found.span()


def _ip(found: re.Match[str]) -> Span | None:
    """Addresses of somebody: not those of one's own machine, network or mask."""
    try:
        ip = ipaddress.ip_address(found.group())
    except ValueError:
        return None
    if not (ip.is_global and not ip.is_multicast) and not any(ip in net for net in EXAMPLES):
        return None
    if ip.version == 6:
        return found.span() if found.group().count(":") > 2 else None
    before = found.string[max(0, found.start() - 32) : found.start()]
    if NUMBERED.search(before):
        return None
    # Of all addresses one in six hundred is so small in all parts; of section numbers nearly all.
    small = all(part < 50 for part in ip.packed)
    return None if small and not SAID.search(before) else found.span()


RULES = (
    *(Rule("KEY", pattern, secret_keys.span) for pattern in secret_keys.PATTERNS),
    Rule("EMAIL", EMAIL, _email, AT_SIGN),
    Rule("IBAN", bank_numbers.IBAN, bank_numbers.iban_span),
    Rule("ID", national_ids.PATTERN, national_ids.span),
    Rule("CARD", bank_numbers.CARD, bank_numbers.card_span),
    Rule("IP", IPV4, _ip),
    Rule("IP", IPV6, _ip),
    Rule("PHONE", phone_numbers.PATTERN, phone_numbers.span),
)
"""In this order: what was found is gone before the next looks."""
KINDS = ("KEY", "EMAIL", "IBAN", "ID", "CARD", "IP", "PHONE")


def find(text: str) -> list[Find]:
    """All finds in order of place; none overlaps another."""
    finds: list[Find] = []
    for rule in RULES:
        spans = list(_spans(text, rule))
        text = _cut(text, [(start, end, BLANK * (end - start)) for start, end in spans])
        finds += [Find(rule.kind, start, end) for start, end in spans]
    return sorted(finds, key=lambda one: one.start)


def redact(text: str) -> tuple[str, dict[str, int]]:
    """(text with typed tokens, how many of each kind). Redacting twice changes nothing."""
    finds = find(text)
    counts = Counter(one.kind for one in finds)
    ordered = {kind: counts[kind] for kind in KINDS if kind in counts}
    return _cut(text, [(start, end, f"[{kind}]") for kind, start, end in finds]), ordered


def figures() -> dict[str, Any]:
    """What was measured of this: `kinds` -> recall and precision, each with a 95 % interval."""
    read: dict[str, Any] = json.loads(FIGURES.read_text("utf-8"))
    return read


def _cut(text: str, parts: list[tuple[int, int, str]]) -> str:
    """The text with each (start, end) replaced; they come in order."""
    pieces, at = [], 0
    for start, end, instead in parts:
        pieces += [text[at:start], instead]
        at = end
    return "".join([*pieces, text[at:]]) if parts else text


def _spans(text: str, rule: Rule) -> Iterator[Span]:
    at = 0 if rule.sign.search(text) else len(text)
    while found := rule.pattern.search(text, at):
        span = rule.span(found)
        if span:
            yield span
        # What is rejected may hide another that starts within it.
        at = span[1] if span else found.start() + 1
