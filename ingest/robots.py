"""robots.txt: an RFC 9309 parser and matcher.

Where the RFC is silent this follows the reference implementation: a misspelt directive such as
`disalow` still counts, the longest matching pattern wins, and allow wins a tie.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from urllib.parse import urlsplit

__all__ = ["MAX_BYTES", "Robots", "allowed", "matches", "parse", "preferences", "target_of"]

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
INDEX = re.compile(r"/index\.html?$")
PRODUCT = re.compile(r"[a-zA-Z_-]*")


@dataclass
class Group:
    """The rules that follow one run of user-agent lines."""

    agents: list[str] = field(default_factory=list)
    rules: list[tuple[bool, str]] = field(default_factory=list)
    crawl_delay: float | None = None
    signals: dict[str, str] = field(default_factory=dict)
    usages: list[tuple[str, str, str]] = field(default_factory=list)
    """Of Content-Usage: (pattern of paths, category, preference)."""


@dataclass(frozen=True)
class Robots:
    """One parsed robots.txt."""

    groups: tuple[Group, ...]
    sitemaps: tuple[str, ...]
    licences: tuple[str, ...] = ()
    """Addresses of RSL documents."""

    def names(self, user_agent: str) -> bool:
        """Does the file address this agent by its own name (and not by `*`)?"""
        return user_agent.lower() in self._agents

    def named(self, user_agents: tuple[str, ...]) -> tuple[str, ...]:
        """Those of these agents that the file addresses by their own names."""
        if user_agents not in self._named:
            self._named[user_agents] = tuple(name for name in user_agents if self.names(name))
        return self._named[user_agents]

    @cached_property
    def _named(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        return {}

    @cached_property
    def _agents(self) -> frozenset[str]:
        return frozenset(agent for group in self.groups for agent in group.agents)

    @cached_property
    def _found(self) -> dict[str, list[Group]]:
        """Agent -> its groups: a crawler asks for the same few with every address."""
        return {}

    def groups_for(self, user_agent: str) -> list[Group]:
        """All groups that name the agent (merged, RFC 9309 2.2.1), else those for `*`."""
        if user_agent not in self._found:
            product = user_agent.partition("/")[0].strip().lower()
            named = [group for group in self.groups if product and product in group.agents]
            star = [group for group in self.groups if "*" in group.agents]
            self._found[user_agent] = named or star
        return self._found[user_agent]

    def allows(self, user_agent: str, url: str) -> bool:
        """May `user_agent` fetch `url`? robots.txt itself always may be fetched."""
        target = target_of(url)
        if target == "/robots.txt":
            return True
        hits = [
            (len(pattern), allow)
            for group in self.groups_for(user_agent) for allow, pattern in group.rules
            if matches(pattern, target)
        ]
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

    def usage(self, user_agent: str, url: str) -> dict[str, str]:
        """Category -> preference (`y` or `n`) that Content-Usage states for `url`: the longest
        matching path counts, and of two as long the refusal. draft-ietf-aipref-attach."""
        target, best = target_of(url), dict[str, tuple[int, bool, str]]()
        for group in self.groups_for(user_agent):
            for pattern, name, value in group.usages:
                if matches(pattern, target):
                    stated = len(pattern), value == "n", value
                    best[name] = max(stated, best.get(name, stated))
        return {name: value for name, (*_, value) in best.items()}


def allowed(robots_txt: bytes, user_agent: str, url: str) -> bool:
    """May `user_agent` (product token or whole header) fetch `url` (percent-encoded)?"""
    return parse(robots_txt).allows(user_agent, url)


def parse(robots_txt: bytes) -> Robots:
    """Read a robots.txt of any quality; what is not understood is passed over."""
    groups: list[Group] = []
    sitemaps: list[str] = []
    licences: list[str] = []
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
        elif key == "license" and value:
            licences.append(value)
        elif open_group is not None:
            _add_rule(open_group, key, value)
    return Robots(tuple(groups), tuple(sitemaps), tuple(licences))


def _add_rule(group: Group, key: str, value: str) -> None:
    if key in RULE_KEYS:
        pattern = _encode(value)
        group.rules.append((RULE_KEYS[key], pattern))
        if RULE_KEYS[key] and INDEX.search(pattern):
            # Who allows the index page means the folder's own address too.
            group.rules.append((True, pattern[: pattern.rindex("/") + 1] + "$"))
    elif key == "crawl-delay" and re.fullmatch(r"\d{1,6}(\.\d*)?", value):
        group.crawl_delay = float(value)
    elif key == "content-signal":
        group.signals |= preferences(value)
    elif key == "content-usage":
        path, space, rest = value.partition(" ") if value.startswith("/") else ("/", " ", value)
        stated = preferences(rest if space else "")
        group.usages += [(_encode(path), name, setting) for name, setting in stated.items()]


def preferences(value: str) -> dict[str, str]:
    """`a=y, b=n` as a dict in lower case; parameters after a `;` are passed over."""
    pairs = (piece.partition(";")[0].partition("=") for piece in value.lower().split(","))
    return {name.strip(): setting.strip() for name, _, setting in pairs if name.strip()}


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


@lru_cache(maxsize=1_024)
def target_of(url: str) -> str:
    """Path and query of an address, as patterns are matched against it."""
    parts = urlsplit(url)
    path = parts.path if parts.path.startswith("/") else "/" + parts.path
    return _upper(f"{path}?{parts.query}" if parts.query else path)


def _encode(text: str) -> str:
    if text.isascii():
        return _upper(text)
    quoted = "".join(
        char if ord(char) < 128 else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in text
    )
    return _upper(quoted)


def _upper(text: str) -> str:
    if "%" not in text:
        return text
    return re.sub(r"%[0-9a-fA-F]{2}", lambda escape: escape.group().upper(), text)


@lru_cache(maxsize=4096)
def _literals(pattern: str) -> tuple[bool, tuple[str, ...]]:
    anchored = pattern.endswith("$")
    return anchored, tuple((pattern[:-1] if anchored else pattern).split("*"))


def matches(pattern: str, target: str) -> bool:
    """Does a pattern with `*` and `$` match the start of `target`?

    Greedy-free, in O(pattern x target): a regex could be made to explode.
    """
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
