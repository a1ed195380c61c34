"""Keys and tokens: by the prefixes that their makers chose, and by the name of a setting.

Forms as the makers document them for scanners. A value under a name such as `api_key` or
`password` is a secret if it looks drawn by lot; placeholders and references to settings are none.
"""

import re

__all__ = ["PATTERNS", "span"]

MADE = re.compile(
    r"""(?<![\w-])(?:
      (?:AKIA|ASIA)[A-Z0-9]{16}                                    # AWS
    | gh[pousr]_[A-Za-z0-9]{36,255} | github_pat_\w{60,255}        # GitHub
    | glpat-[\w-]{20,} | npm_[A-Za-z0-9]{36} | pypi-[\w-]{80,}     # GitLab, npm, PyPI
    | xox[abeoprs]-[A-Za-z0-9-]{20,}                               # Slack
    | https://hooks\.slack\.com/services/\w{8,}/\w{8,}/\w{20,}
    | AIza[\w-]{35} | ya29\.[\w-]{30,} | GOCSPX-[\w-]{28}           # Google
    | [rs]k_(?:live|test)_[A-Za-z0-9]{20,} | whsec_[A-Za-z0-9]{32,}  # Stripe
    | sk-(?:proj-|ant-)?[\w-]{32,} | hf_[A-Za-z]{34}              # model providers
    | SG\.[\w-]{22}\.[\w-]{43} | key-[0-9a-f]{32}                  # SendGrid, Mailgun
    | (?:SK|AC)[0-9a-f]{32} | dop_v1_[0-9a-f]{64}                  # Twilio, DigitalOcean
    | shp(?:at|ss|ca|pa)_[0-9a-fA-F]{32} | dapi[0-9a-f]{32}        # Shopify, Databricks
    | sq0[a-z]{3}-[\w-]{22,} | EAAA[\w-]{60}                       # Square
    | \d{8,10}:AA[\w-]{33}                                         # Telegram
    | eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}                      # JSON Web Token
    | -----BEGIN[ ](?:[A-Z0-9]+[ ]){0,2}PRIVATE[ ]KEY-----[\s\S]{40,8000}?
      -----END[ ](?:[A-Z0-9]+[ ]){0,2}PRIVATE[ ]KEY-----
    )(?![\w])""",
    re.VERBOSE,
)
SETTING = re.compile(
    r"""(?:[:=][ ]?["']?|(?:Bearer|Basic)[ ])(?<![=:][=:])"""
    r"""(?P<secret>[^\s"'<>,;]{8,120})(?=["'\s,;]|$)"""
)
CONNECTION = re.compile(r"(?<=://)[^\s:@/\"']{1,60}:(?P<secret>[^\s@/\"']{4,80})@(?=[\w.-]+)")
PATTERNS = (MADE, CONNECTION, SETTING)

NAME = re.compile(
    r"(?:(?:api|secret|access|auth|private|client|account|signing|encryption|master)[_-]?(?:\w{0,12}[_-])?"
    r"(?:key|token|secret)|(?<![a-z])(?:token|secret|passw(?:or)?d|passphrase|pwd))[\"']?\s?$",
    re.IGNORECASE,
)
HEADER = re.compile(r"authorization[\"']?\s?:\s?[\"']?(?:bearer|basic)?\s?$", re.IGNORECASE)
REFERENCE = re.compile(r"^[$%{(\[*]|^(?:os|process|self|settings|config|env)\b|\(|xxx|your|example",
                       re.IGNORECASE)


def span(found: re.Match[str]) -> tuple[int, int] | None:
    """Where the secret stands, None if it is none."""
    if found.re is MADE:
        return found.span() if len(set(found.group())) > 8 else None
    value = found["secret"]
    if found.re is CONNECTION:
        return found.span("secret") if not REFERENCE.search(value) else None
    before = found.string[max(0, found.start() - 48) : found.start()]
    if not (NAME.search(before) or HEADER.search(before + found.group()[: -len(value)])):
        return None
    return found.span("secret") if _drawn_by_lot(value) else None


def _drawn_by_lot(value: str) -> bool:
    """Letters, and figures or signs among them, few of them alike."""
    mixed = any(c.isalpha() for c in value) and any(not c.isalpha() for c in value.rstrip(".?!)"))
    return mixed and len(set(value)) >= 6 and not REFERENCE.search(value)
