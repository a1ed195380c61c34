"""Keys and tokens as their makers document them, and secrets in files of settings."""

import base64
import json
import random
from collections.abc import Iterator

from tests.benchmarks.personal.case import LETTERS, Case, letters

__all__ = ["keys"]

SMALL = LETTERS.lower()
MIXED = LETTERS + SMALL + "0123456789"
URL_SAFE = MIXED + "-_"
HEX = "0123456789abcdef"
BASE32 = LETTERS + "234567"

FORMS: dict[str, tuple[str, ...]] = {
    # forms in which {a40} stands for forty letters of alphabet a
    "aws id": ("AKIA{b16}", "ASIA{b16}"),
    "github": ("ghp_{m36}", "gho_{m36}", "ghs_{m36}", "github_pat_{m22}_{m59}"),
    "gitlab": ("glpat-{u20}",),
    "slack": ("xoxb-{d12}-{d13}-{m24}", "xoxp-{d12}-{d12}-{d13}-{h32}"),
    "slack hook": ("https://hooks.slack.com/services/T{b8}/B{b8}/{m24}",),
    "google": ("AIza{u35}", "GOCSPX-{u28}"),
    "stripe": ("sk_live_{m24}", "rk_live_{m24}", "sk_test_{m24}", "whsec_{m32}"),
    "openai": ("sk-{m48}", "sk-proj-{u74}"),
    "anthropic": ("sk-ant-api03-{u93}AA",),
    "hugging face": ("hf_{s34}",),
    "sendgrid": ("SG.{u22}.{u43}",),
    "npm": ("npm_{m36}",),
    "pypi": ("pypi-AgEIcHlwaS5vcmc{u90}",),
    "twilio": ("SK{h32}", "AC{h32}"),
    "mailgun": ("key-{h32}",),
    "digitalocean": ("dop_v1_{h64}",),
    "shopify": ("shpat_{h32}", "shpss_{h32}"),
    "square": ("sq0csp-{u43}", "EAAA{u60}"),
    "telegram": ("{d9}:AA{u33}",),
    "azure": ("AccountKey={m86}==",),
    "databricks": ("dapi{h32}",),
    "jwt": (),
    "pem": (),
    "aws secret": ("aws_secret_access_key = {m40}", "AWS_SECRET_ACCESS_KEY={m40}"),
    "setting": ("api_key = \"{m32}\"", "API_KEY={h40}", "'client_secret': '{u32}'",
                 "\"access_token\": \"{m40}\"", "secret_key: {m32}", "auth_token='{m30}'"),
    "password": ("password = \"{p12}\"", "DB_PASSWORD={p14}", "passwd: '{p12}'"),
    "connection": ("postgres://app:{p12}@db.example.org:5432/shop",
                    "mongodb+srv://root:{p14}@cluster.example.net/test",
                    "https://user:{p12}@git.example.org/x.git"),
    "bearer": ("Authorization: Bearer {u40}", "Authorization: Basic {m32}=="),
}
ALPHABETS = {"b": BASE32, "m": MIXED, "u": URL_SAFE, "h": HEX, "d": "0123456789",
             "s": LETTERS + SMALL,
             "p": MIXED + "!#%+_"}
TOLD = ("export KEY={0}", "token: {0}", "Use {0} for the demo.", "config.set('{0}')", "{0}",
        "curl -H 'X-Api-Key: {0}' https://example.org/v1", "# {0}\nimport os")
SETTING_TOLD = ("{0}", "[default]\n{0}\nregion = eu-west-1", "# settings\n{0}\n", "    {0}")
SETTINGS = ("aws secret", "setting", "password", "connection", "bearer", "azure")


def keys(draw: random.Random, count: int) -> Iterator[Case]:
    """Of 23 makers and kinds, and five sorts of settings; the value is the secret part."""
    for number in range(count):
        group = list(FORMS)[number % len(FORMS)]
        whole, value = _filled(draw, group)
        told = SETTING_TOLD if group in SETTINGS else TOLD
        if group == "pem":
            told = ("{0}", "the key is\n{0}\nkeep it safe")
        yield Case("KEY", group, value, draw.choice(told).replace("{0}", whole))


def _filled(draw: random.Random, group: str) -> tuple[str, str]:
    """(what stands in the text, the secret within it)."""
    if group == "jwt":
        head = {"alg": draw.choice(("HS256", "RS256")), "typ": "JWT"}
        body = {"sub": letters(draw, 10, "0123456789"), "name": "A", "iat": 1516239022}
        token = f"{_b64(head)}.{_b64(body)}.{letters(draw, 43, URL_SAFE)}"
        return token, token
    if group == "pem":
        kind = draw.choice(("RSA ", "EC ", "", "OPENSSH ", "ENCRYPTED "))
        lines = "\n".join(letters(draw, 64, MIXED + "+/") for _ in range(draw.randrange(3, 26)))
        token = f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"
        return token, lines
    form = draw.choice(FORMS[group])
    whole, value = "", ""
    for index, piece in enumerate(form.replace("}", "{").split("{")):
        random_part = letters(draw, int(piece[1:]), ALPHABETS[piece[0]]) if index % 2 else ""
        whole += random_part or piece
        value = max(value, random_part, key=len)
    return whole, value if group in SETTINGS else whole


def _b64(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
