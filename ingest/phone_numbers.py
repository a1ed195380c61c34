"""Telephone numbers: with a country code, in a shape that little else has, or said to be one.

ITU-T E.164 (lengths) and E.123 (writing); shapes of the national plans. Three groups of three
figures are a number of people as often as one to call: such count only beside a word that says so.
"""

import re

__all__ = ["PATTERN", "span"]

PATTERN = re.compile(
    r"(?<![\w.,/§#+-])(?<![\d)] )[+\[(]{0,2}\d(?:[ \u00a0()./\[\]-]{0,3}\d){6,18}(?![\w/:-]|[.,]\d)"
)
GAP = r"[ \u00a0]"
SHAPES = re.compile(
    rf"""
      # +33 1 45
      \+[1-9]\d{{0,2}}[ .\u00a0-]?(?:{GAP}?\(\d{{1,4}}\){GAP}?)?
        \d{{1,12}}(?:[ .\u00a0-]\d{{2,8}}){{0,5}}
      # 0033 1 45
    | 00[1-9]\d{{0,2}}[ .\u00a0-](?:\(0\){GAP}?)?\d{{1,4}}(?:[ .\u00a0-]\d{{2,5}}){{1,5}}
      # [1] (202) 555-0142
    | \[\d{{1,3}}\]{GAP}?(?:\(\d{{1,4}}\){GAP}?)?\d{{2,4}}(?:[ .\u00a0-]\d{{2,4}}){{1,4}}
      # (202) 555-0142
    | (?:\+?[18][ -])?\([2-9]\d\d\){GAP}?\d{{3}}[ .\u00a0-]\d{{2}}[ -]?\d{{2}}
      # (020) 7946 0018
    | \(0\d{{1,4}}\){GAP}?\d{{2,8}}(?:[ \u00a0-]\d{{2,4}}){{0,3}}
    | \([1-9]\d\){GAP}?9?\d{{4}}[ -]\d{{4}}                                         # (11) 2345-6789
    | (?:1[ .-])?[2-9]\d\d([ .-])[2-9]\d\d\1\d{{4}}                               # 202-555-0142
      # 138-1234-5678
    | 1[3-9]\d-\d{{4}}-\d{{4}} | 8[ -]\d{{3}}[ -]\d{{3}}-\d\d-\d\d
    | 0[1-9](?:([ .-])\d\d)(?:\2\d\d){{3}}                                        # 01 45 67 89 12
      # 030 / 12 34 56 78
    | 0\d{{1,5}}(?:{GAP}?[/-]{GAP}?|{GAP})\d{{2,8}}(?:[ \u00a0-]\d{{2,5}}){{0,4}}
    """,
    re.VERBOSE,
)
SAID = re.compile(
    r"(?:\b(?:t[eé]l(?:[eé](?:ph|f)o+n\w*)?|tlf|phones?|(?:tele)?fax|mob(?:ile|iltelefon|il)?|"
    r"cell(?:ular|ulare)?|handy|whatsapp|hotline|call(?:ed|ing)?|ring|dial|sms|text|contact|viber|"
    r"signal|puhelin|gsm|m[oó]vil|portable)\b[.:]?(?:\W{0,3}\b(?:us|me|on|at|no|nr|number|is|her|him)\b){0,3}"
    r"|\b(?:our|my|his|her|the) number is|\b[TFM]:|☎|✆|电话|手机|電話|전화)[\s:.(]{0,4}$",
    re.IGNORECASE,
)
SAID_AFTER = re.compile(r"\s?\((?:mobile|cell|home|work|office|fax|mob|tel|handy|m|h|w)\b", re.I)
OTHER = re.compile(
    r"\b(?:isbn|issn|doi|arxiv|pmid|patent|serial|order|invoice|model|part|ref|version|form|upc|ean|"
    r"imei|no|nr|vol|hymn|catalogue|item|ticket|postcode|zip|code)\b\.?[^\d\n]{0,8}$",
    re.IGNORECASE,
)
DATE = re.compile(
    r"\(?(?:[12]\d{3}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}([-./ ])\d{1,2}\1(?:19|20)\d\d)\b"
)


def span(found: re.Match[str]) -> tuple[int, int] | None:
    """The number in a row of figures, None if it is none."""
    text = found.group()
    figures = sum(char.isdigit() for char in text)
    if figures < 7:
        return None
    start = found.start()
    before, after = found.string[max(0, start - 40) : start], found.string[found.end() :][:12]
    said = SAID.search(before) or SAID_AFTER.match(after)
    if said and figures <= 15 and not DATE.match(text):
        return found.span()
    shape = SHAPES.match(text)
    if not shape or DATE.match(text) or OTHER.search(before):
        return None
    if not 9 <= sum(char.isdigit() for char in shape.group()) <= 15:
        return None
    rest = text[shape.end() :]
    return (start, start + shape.end()) if not rest or not rest[0].isalnum() else None
