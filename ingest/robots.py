"""robots.txt: an RFC 9309 parser and matcher.

Where the RFC is silent this follows the reference implementation: a misspelt directive such as
`disalow` still counts, the longest matching pattern wins, and allow wins a tie.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

__all__ = ["MAX_BYTES", "Robots", "allowed", "parse"]

MAX_BYTES = 500 * 1024
"""RFC 9309, 2.5: a crawler must read at least this much, and need not read more."""

MAX_LINE = 16_663
"""Bytes of one line that count (the reference implementation's 8 x 2083 - 1)."""

AGENT_KEYS = ("user-agent", "useragent", "user agent")
RULE_KEYS = {
    "allow": True,
    "disallow": False,
    "dissallow": False,
    "dissalow": False,
    "disalow": False,
    "diasllow": False,
    "disallaw": False,
}
SITEMAP_KEYS = ("sitemap", "site-map")
PRODUCT = re.compile(r"[a-zA-Z_-]*")


@dataclass
class Group:
    """The rules that follow one run of user-agent lines."""

    agents: list[str] = field(default_factory=list)
    rules: list[tuple[bool, str]] = field(default_factory=list)
    crawl_delay: float | None = None
    signals: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Robots:
    """One parsed robots.txt."""

    groups: tuple[Group, ...]
    sitemaps: tuple[str, ...]

    def names(self, user_agent: str) -> bool:
        """Does the file address this agent by its own name (and not by `*`)?"""
        return any(user_agent.lower() in group.agents for group in self.groups)

    def groups_for(self, user_agent: str) -> list[Group]:
        """All groups that name the agent (merged, RFC 9309 2.2.1), else those for `*`."""
        product = user_agent.partition("/")[0].strip().lower()
        named = [group for group in self.groups if product and product in group.agents]
        return named or [group for group in self.groups if "*" in group.agents]

    def allows(self, user_agent: str, url: str) -> bool:
        """May `user_agent` fetch `url`? robots.txt itself always may be fetched."""
        target = _target(url)
        if target == "/robots.txt":
            return True
        rules = [rule for group in self.groups_for(user_agent) for rule in group.rules]
        hits = [(len(pattern), allow) for allow, pattern in rules if _matches(pattern, target)]
        return max(hits)[1] if hits else True

    def crawl_delay(self, user_agent: str) -> float | None:
        """Seconds between requests that the site asks of this agent; None if it does not say."""
        delays = [group.crawl_delay for group in self.groups_for(user_agent)]
        known = [delay for delay in delays if delay is not None]
        return max(known) if known else None

    def signal(self, user_agent: str, name: str) -> str | None:
        """Value of a Content-Signal such as `ai-train` (`yes` or `no`), None if not given."""
        values = [group.signals.get(name) for group in self.groups_for(user_agent)]
        return "no" if "no" in values else next((value for value in values if value), None)


def allowed(robots_txt: bytes, user_agent: str, url: str) -> bool:
    """May `user_agent` (product token or whole header) fetch `url` (percent-encoded)?"""
    return parse(robots_txt).allows(user_agent, url)


def parse(robots_txt: bytes) -> Robots:
    """Read a robots.txt of any quality; what is not understood is passed over."""
    groups: list[Group] = []
    sitemaps: list[str] = []
    open_group: Group | None = None
    for raw in robots_txt[:MAX_BYTES].removeprefix(b"\xef\xbb\xbf").splitlines():
        key, value = _key_value(raw[:MAX_LINE].decode("utf-8", "replace"))
        if key in AGENT_KEYS:
            if open_group is None or open_group.rules:
                open_group = Group()
                groups.append(open_group)
            open_group.agents.append("*" if _is_star(value) else _product(value))
        elif key in SITEMAP_KEYS and value:
            sitemaps.append(value)
        elif open_group is not None:
            _add_rule(open_group, key, value)
    return Robots(tuple(groups), tuple(sitemaps))


def _add_rule(group: Group, key: str, value: str) -> None:
    if key in RULE_KEYS:
        pattern = _encode(value)
        group.rules.append((RULE_KEYS[key], pattern))
        if RULE_KEYS[key] and re.search(r"/index\.html?$", pattern):
            # Who allows the index page means the folder's own address too.
            group.rules.append((True, pattern[: pattern.rindex("/") + 1] + "$"))
    elif key == "crawl-delay" and re.fullmatch(r"\d{1,6}(\.\d*)?", value):
        group.crawl_delay = float(value)
    elif key in ("content-signal", "content-usage"):
        for pair in value.split(","):
            name, _, setting = pair.partition("=")
            group.signals[name.strip().lower()] = setting.strip().lower()


def _key_value(line: str) -> tuple[str, str]:
    line = line.partition("#")[0].strip()
    key, colon, value = line.partition(":")
    if not colon:
        parts = line.split()
        key, value = parts if len(parts) == 2 else ("", "")
    return key.strip().lower(), value.strip()


def _is_star(value: str) -> bool:
    return value == "*" or (value[:1] == "*" and value[1:2].isspace())


def _product(agent: str) -> str:
    found = PRODUCT.match(agent)
    return found.group().lower() if found else ""


def _target(url: str) -> str:
    parts = urlsplit(url)
    path = parts.path if parts.path.startswith("/") else "/" + parts.path
    return _upper(f"{path}?{parts.query}" if parts.query else path)


def _encode(text: str) -> str:
    quoted = "".join(
        char if ord(char) < 128 else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in text
    )
    return _upper(quoted)


def _upper(text: str) -> str:
    return re.sub(r"%[0-9a-fA-F]{2}", lambda escape: escape.group().upper(), text)


@lru_cache(maxsize=4096)
def _literals(pattern: str) -> tuple[bool, tuple[str, ...]]:
    anchored = pattern.endswith("$")
    return anchored, tuple((pattern[:-1] if anchored else pattern).split("*"))


def _matches(pattern: str, target: str) -> bool:
    """Greedy-free wildcard match in O(pattern x target): a regex could be made to explode."""
    if not pattern:
        return False
    anchored, (first, *rest) = _literals(pattern)
    if not target.startswith(first):
        return False
    if anchored and not rest:
        return target == first
    position = len(first)
    tail = rest.pop() if anchored else ""
    for literal in rest:
        found = target.find(literal, position)
        if found < 0:
            return False
        position = found + len(literal)
    return not anchored or (len(target) - position >= len(tail) and target.endswith(tail))
