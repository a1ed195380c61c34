"""Outbound proxies: who asks, from where, how long; all read from the proxy's own log."""

import base64
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commonroot.errors import ConfigError
from ingest.fetch import HTML_TYPES, FetchConfig, FetchFailed
from ingest.proxy import PASSWORD, ProxiedFetcher, ProxyDown
from ingest.sessions import ProxyConfig, Sessions, user_name
from tests.ingest import proxyserver
from tests.ingest.proxyserver import Proxy, certificates, serve_proxy

PAGE = (200, {}, b"<p>hello")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with serve_proxy(Proxy(lambda user, url: PAGE)) as served:
        yield served


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, proxyserver.PASSWORD)


def _fetcher(proxy: Proxy, retries: int = 2, **settings: Any) -> ProxiedFetcher:
    config = ProxyConfig(**{"address": proxy.address, "user": "me", "look_up": False, **settings})
    return ProxiedFetcher(FetchConfig(delay_s=0.0, retries=retries, deadline_s=5.0), 2, config)


def _get(fetcher: ProxiedFetcher, *urls: str) -> list[Any]:
    try:
        return [fetcher.get(url, HTML_TYPES) for url in urls]
    finally:
        fetcher.close()


@pytest.mark.parametrize(
    ("template", "place", "name"),
    [
        (None, "US/New York", "me-country-us-city-newyork-session-s1"),
        (None, "US", "me-country-us-session-s1"),
        (None, "", "me-session-s1"),
        (None, "BR/São Paulo", "me-country-br-city-saopaulo-session-s1"),
        ("customer-{user}-cc-{COUNTRY}-city-{city}-sessid-{session}-sesstime-10", "US/New York",
         "customer-me-cc-US-city-new_york-sessid-s1-sesstime-10"),
        ("customer-{user}-cc-{COUNTRY}-sessid-{session}-sesstime-10", "",
         "customer-me-sessid-s1-sesstime-10"),
        ("{user}+{country}:x", "", ""),
    ],
)
def test_one_template_says_who_asks_and_from_where(
    template: str | None, place: str, name: str
) -> None:
    space = "_" if template and "cc-" in template else ""
    given = {"user_name": template} if template else {}
    if not name:
        with pytest.raises(ValueError, match="may hold"):
            ProxyConfig(user="me", **given)
        return
    assert user_name(ProxyConfig(user="me", city_space=space, **given), place, "s1") == name


def test_a_host_keeps_its_session_and_its_place(proxy: Proxy) -> None:
    fetcher = _fetcher(proxy, places=("DE", "FR", "JP"), places_of={"here.example": "IT/Rome"})
    hosts = [f"h{number}.example" for number in range(30)] + ["www.here.example"]
    urls = [f"http://{host}/{page}" for page in range(3) for host in hosts]
    answers = _get(fetcher, *urls)
    used = {host: proxy.users(host) for host in hosts}
    assert all(len(users) == 1 for users in used.values())
    assert len({users[0] for users in used.values()}) == len(hosts)
    assert "-country-it-city-rome-" in used["www.here.example"][0]
    countries = Counter(re.findall("country-(..)-", " ".join(proxy.users())))
    assert countries.keys() == {"de", "fr", "jp", "it"}
    for url, answer in zip(urls, answers, strict=True):
        host = url.split("/")[2]
        assert f"-country-{answer.place[:2].lower()}-" in used[host][0]
        assert answer.address == ""  # the proxy's would be taken for the site's


def test_a_session_ends_after_so_many_requests_and_such_a_time(proxy: Proxy) -> None:
    fetcher = _fetcher(proxy, session_requests=4)
    _get(fetcher, *["http://a.example/"] * 10)
    asked = Counter(line.user for line in proxy.log)
    assert sorted(asked.values()) == [2, 4, 4]
    assert fetcher.sessions.replaced["requests"] == 2

    now = [0.0]
    sessions = Sessions(ProxyConfig(session_minutes=1.0), lambda user: _Nothing(), lambda: now[0])
    names = []
    for now[0] in (0.0, 59.0, 61.0, 62.0):
        with sessions.of("a") as session:
            names.append(session.user)
    assert names[0] == names[1] != names[2] == names[3]


class _Nothing:
    def clear(self) -> None:
        return


def test_a_broken_session_is_replaced_and_nothing_is_lost(proxy: Proxy) -> None:
    seen: Counter[str] = Counter()

    def answer(user: str, url: str) -> tuple[int, dict[str, str], bytes]:
        seen[user] += 1
        dead = user == next(iter(seen)) and seen[user] > 2
        return (0, {}, b"") if dead else PAGE

    proxy.answer = answer
    answers = _get(_fetcher(proxy, places=("DE",)), *["http://a.example/"] * 6)
    assert [answer.status for answer in answers] == [200] * 6
    first, second = proxy.users("a.example")
    assert (seen[first], seen[second]) == (3, 4)
    assert "-country-de-" in second  # a new session, not a new place


def test_a_gateway_error_costs_the_session_and_a_refusal_does_not(proxy: Proxy) -> None:
    statuses = iter([502, 200, 503, 200, 403])
    proxy.answer = lambda user, url: (next(statuses), {"Retry-After": "0"}, b"")
    answers = _get(_fetcher(proxy), *["http://a.example/"] * 3)
    assert [answer.status for answer in answers] == [200, 200, 403]
    assert [line.status for line in proxy.log] == [502, 200, 503, 200, 403]
    assert len(proxy.users()) == 2


def test_no_more_sessions_at_once_than_the_config_says(proxy: Proxy) -> None:
    fetcher = _fetcher(proxy, sessions=2)
    _get(fetcher, *[f"http://h{number % 3}.example/" for number in range(6)])
    assert len(proxy.users()) == 6  # of three hosts the one longest unasked always makes room
    assert fetcher.sessions.replaced["room"] == 4


@pytest.fixture
def tunnel(tmp_path: Path) -> Iterator[tuple[Proxy, dict[str, Any]]]:
    tls, authority = certificates(tmp_path, "*.site.example")
    with serve_proxy(Proxy(lambda user, url: PAGE, tls=tls)) as served:
        yield served, {"ca_file": str(authority)}


def test_https_goes_through_a_tunnel_of_the_session(
    tunnel: tuple[Proxy, dict[str, Any]],
) -> None:
    proxy, settings = tunnel
    answers = _get(_fetcher(proxy, **settings), *["https://a.site.example/x"] * 3)
    assert [answer.body for answer in answers] == [b"<p>hello"] * 3
    assert [line.verb for line in proxy.log] == ["CONNECT", "GET", "GET", "GET"]
    assert len({line.user for line in proxy.log}) == 1


def test_a_certificate_of_nobody_is_not_trusted(tunnel: tuple[Proxy, dict[str, Any]]) -> None:
    proxy, _ = tunnel
    with pytest.raises(FetchFailed) as caught:
        _get(_fetcher(proxy, retries=0), "https://a.site.example/x")
    assert caught.value.reason == "connection"
    assert all(line.verb == "CONNECT" for line in proxy.log)


def test_what_the_proxy_answers_to_connect(tunnel: tuple[Proxy, dict[str, Any]]) -> None:
    proxy, settings = tunnel
    statuses = iter([502, 0, 200, 403])
    proxy.tunnel = lambda user, host: next(statuses)
    fetcher = _fetcher(proxy, session_requests=3, **settings)
    assert fetcher.get("https://a.site.example/x", HTML_TYPES).status == 200
    with pytest.raises(FetchFailed) as caught:
        _get(fetcher, "https://b.site.example/")
    assert caught.value.reason == "proxy-refused"
    assert len({line.user for line in proxy.log}) == 4


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_wrong_password_or_a_dead_proxy_ends_the_crawl(
    tunnel: tuple[Proxy, dict[str, Any]], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, settings = tunnel
    monkeypatch.setenv(PASSWORD, "wrong")
    with pytest.raises(ProxyDown, match="refuses the account") as caught:
        _get(_fetcher(proxy, **settings), f"{scheme}://a.site.example/")
    assert "wrong" not in str(caught.value)
    proxy.port = 1
    with pytest.raises(ProxyDown, match="no connection to the proxy"):
        _get(_fetcher(proxy, **settings), f"{scheme}://a.site.example/")
    monkeypatch.delenv(PASSWORD)
    with pytest.raises(ConfigError, match=PASSWORD):
        _fetcher(proxy)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254",
     "localhost", "a.localhost", "router.local", "intranet", "metadata.google.internal"],
)
def test_private_targets_are_not_handed_to_the_proxy(proxy: Proxy, host: str) -> None:
    with pytest.raises(FetchFailed) as caught:
        _get(_fetcher(proxy), f"http://{host}/")
    assert caught.value.reason == "address"
    assert proxy.log == []


def test_a_name_with_a_private_address_is_not_either(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    real = socket.getaddrinfo

    def resolver(host: str, *args: Any, **kwargs: Any) -> Any:
        table = {"mixed.example": ["1.1.1.1", "10.0.0.1"], "good.example": ["1.1.1.1"]}
        if host in table and not kwargs.get("flags"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 0)) for ip in table[host]]
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    fetcher = _fetcher(proxy, look_up=True)
    assert fetcher.get("http://good.example/", HTML_TYPES).status == 200
    for host in ("mixed.example", "nowhere.invalid"):
        with pytest.raises(FetchFailed) as caught:
            fetcher.get(f"http://{host}/", HTML_TYPES)
        assert caught.value.reason == "address"
    fetcher.close()
    assert len(proxy.log) == 1


def test_the_password_stands_in_no_answer(proxy: Proxy) -> None:
    answer = _get(_fetcher(proxy), "http://a.example/")[0]
    secret = base64.b64encode(f"{proxy.users()[0]}:{proxyserver.PASSWORD}".encode()).decode()
    assert secret not in repr(answer)
    assert proxyserver.PASSWORD not in repr(answer)
    assert "Proxy-Authorization" not in repr(answer)
