"""Canonical URLs."""

import re
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

__all__ = ["canonical_url", "host_key", "host_of", "origin", "resolved"]

MAX_URL = 2_000
DEFAULT_PORTS = {"http": 80, "https": 443}
UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
TRACKING = re.compile(
    r"(?:utm_[a-z]+|[gd]clid|gclsrc|[gw]braid|fbclid|msclkid|yclid|ysclid|twclid|ttclid|li_fat_id"
    r"|mc_[ce]id|mkt_tok|igshid|igsh|_ga|_gl|_hs(?:enc|mi)|vero_(?:id|conv)|oly_(?:anon|enc)_id"
    r"|wickedid|s_cid|epik|ref_src)=", re.I,
)
SESSION = re.compile(
    r"(?:phpsessid|jsessionid|aspsessionid\w*|asp\.net_sessionid|oscsid|zenid|cfid|cftoken)="
    r"|(?:s|sid|sess|session|session_?id|sessid)=(?:[0-9a-f]{16,}|(?=\w*\d)[0-9a-z]{24,})$", re.I,
)
"""Parameters that name a visit and no page; short names only with a value that looks like one."""
PATH_SESSION = re.compile(r";jsessionid=[^/;?]*|/\((?:[A-Z]\([^()/]*\))+\)(?=/)", re.I)
"""Sessions in the path: Java's, and ASP.NET's `/(S(lit3py55t21z5v55vlm25s55))/`."""
PLAIN = re.compile(r"/[A-Za-z0-9_~./-]*")
SAFE = re.compile(r"[A-Za-z0-9._~/=&-]*")


def canonical_url(url: str, base: str = "") -> str | None:
    """The one spelling of an http(s) URL, or None if it is not one that a crawler may follow.

    Lower-case scheme and host, IDNA, no default port, no fragment, dots resolved, escapes
    normalised, parameters for tracking and sessions dropped. A URL with user name or password is
    refused.
    """
    try:
        parts = urlsplit(urljoin(base, url.strip()))
        port = parts.port
        host = _host(parts.hostname or "")
    except (ValueError, UnicodeError):
        return None
    if parts.scheme not in DEFAULT_PORTS or not host or "@" in parts.netloc:
        return None
    if port is not None and port != DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{port}"
    path = _remove_dots(_escape(PATH_SESSION.sub("", parts.path), "/:@!$&'()*+,;=")) or "/"
    kept = [
        pair for pair in parts.query.split("&")
        if pair and not TRACKING.match(pair) and not SESSION.match(pair)
    ]
    query = _escape("&".join(kept), "/:@!$&'()*+,;=?")
    whole = f"{parts.scheme}://{host}{path}" + (f"?{query}" if query else "")
    return whole if len(whole) <= MAX_URL else None


def resolved(href: str, base: str) -> str | None:
    """`canonical_url` of a link on page `base`, quick for what most links are.

    The same link stands on many pages, so what was worked out is remembered.
    """
    if href.startswith("/") and not href.startswith("//"):
        base = origin(base)
        plain = PLAIN.fullmatch(href) and "//" not in href and "/." not in href
        if plain and len(href) < MAX_URL // 2:
            return base + href
    elif href.startswith(("http://", "https://")):
        base = ""
    elif href.startswith(("#", "mailto:", "javascript:", "tel:", "data:")):
        return None
    return _remembered(href, base)


@lru_cache(maxsize=65_536)
def _remembered(href: str, base: str) -> str | None:
    return canonical_url(href, base)


def origin(url: str) -> str:
    """Scheme, host and port of a canonical URL: the scope of one robots.txt."""
    return "/".join(url.split("/", 3)[:3])


def host_of(url: str) -> str:
    """Host, and port if it is not the usual one, of a canonical URL."""
    return url.split("/", 3)[2]


@lru_cache(maxsize=4_096)
def _key(site: str) -> str:
    parts = urlsplit(site)
    return f"{parts.hostname}:{parts.port or DEFAULT_PORTS.get(parts.scheme, 0)}"


def host_key(url: str) -> str:
    """`host:port` with the port always written."""
    return _key("/".join(url.split("/", 3)[:3]))


def _host(name: str) -> str:
    name = name.rstrip(".").lower()
    if not name.isascii():
        name = name.encode("idna").decode("ascii")
    if ":" in name:
        return f"[{name}]"
    return name if re.fullmatch(r"[a-z0-9._-]+", name) else ""


def _escape(text: str, safe: str) -> str:
    """Decode escapes of unreserved characters, escape what must be, write hex in upper case."""
    if SAFE.fullmatch(text):
        return text
    pieces = re.split(r"(%[0-9a-fA-F]{2})", text)
    return "".join(
        _unescape(piece) if index % 2 else quote(piece, safe=safe + "%")
        for index, piece in enumerate(pieces)
    )


def _unescape(escape: str) -> str:
    char = unquote_to_bytes(escape).decode("latin-1")
    return char if char in UNRESERVED else escape.upper()


def _remove_dots(path: str) -> str:
    done: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            done = done[:-1]
        elif segment != ".":
            done.append(segment)
    if segments and segments[-1] in (".", ".."):
        done.append("")
    return "/" + "/".join(done)
