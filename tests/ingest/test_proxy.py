"""Outbound proxies: who asks, from where, how long; all read from the proxy's own log."""

import base64
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from commonroot.config import load_tables, parse_section
from commonroot.errors import ConfigError
from ingest import clean, gather
from ingest.fetch import HTML_TYPES, FetchConfig, FetchFailed
from ingest.places import COUNTRIES, place_of
from ingest.proxy import PASSWORD, ProxiedFetcher, ProxyDown
from ingest.sessions import ProxyConfig, Sessions, user_name
from ingest.sources.web import WebConfig
from tests.ingest import proxyserver
from tests.ingest.articles import article
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


def _crawl(
    proxy: Proxy, run_dir: Path, hosts: list[str], refusals: int = 1, **settings: Any
) -> dict[str, Any]:
    told = {"address": proxy.address, "user": "me", "look_up": False, **settings}
    web = WebConfig(
        seeds=tuple(f"http://{host}/" for host in hosts), proxy=ProxyConfig(**told), retries=0,
        delay_s=0.01, sitemaps=False, refusals=refusals,
    )
    gather.run(gather.GatherConfig(web=web), run_dir)
    lines = (run_dir / gather.FOLDER / gather.FETCHES).read_text("utf-8").splitlines()
    return {record["url"]: record for record in map(json.loads, lines)}


def _site(user: str, url: str) -> tuple[int, dict[str, str], bytes]:
    host, path = url.split("/", 3)[2:]
    if "." in path:
        return 404, {}, b""
    if host == "no.example" and path == "p2":
        return 403, {}, b"no"
    links = "".join(f"<a href=/p{number}>x</a>" for number in range(6))
    story = article(ord(host[0]) - 97) if path == "p1" else path
    return 200, {}, f"<p>{story}</p>{links}".encode()


def test_the_place_goes_with_the_page_and_the_account_does_not(
    proxy: Proxy, tmp_path: Path
) -> None:
    proxy.answer = _site
    hosts = [f"{letter}.example" for letter in "abcdefgh"]
    fetches = _crawl(proxy, tmp_path, hosts, places=("DE", "US/New York"))
    used = {record["place"] for record in fetches.values()}
    assert used == {"DE", "US/New York"}
    clean.run(clean.CleanConfig(near_duplicates=1.0), tmp_path)
    corpus = pq.read_table(tmp_path / clean.FOLDER / "data").to_pylist()
    assert len(corpus) == len(hosts)
    for row in corpus:
        assert json.loads(row["decisions"])["place"] == fetches[row["url"]]["place"]
    assert "| US/New York |" in (tmp_path / clean.FOLDER / "README.md").read_text("utf-8")
    secret = base64.b64encode(f"{proxy.users()[0]}:{proxyserver.PASSWORD}".encode())
    written = b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in tmp_path.rglob("*") if path.is_file()
    )
    for private in (secret, proxyserver.PASSWORD.encode(), b"Proxy-Auth", proxy.address.encode()):
        assert private not in written


def test_a_host_that_says_no_is_asked_no_more(proxy: Proxy, tmp_path: Path) -> None:
    proxy.answer = _site
    fetches = _crawl(proxy, tmp_path / "default", ["no.example", "yes.example"])
    decisions = Counter(record["decision"] for url, record in fetches.items() if "no." in url)
    assert decisions == {"kept": 3, "http-403": 1, "host-refused": 3}
    assert len(proxy.users("no.example")) == 1
    assert sum(record["decision"] == "kept" for record in fetches.values()) == 3 + 7
    fetches = _crawl(proxy, tmp_path / "on", ["no.example"], refusals=0)
    assert Counter(record["decision"] for record in fetches.values())["kept"] == 6


@pytest.mark.parametrize(
    ("place", "meant"),
    [("UK", "GB"), ("Germany", "DE"), ("USA/Boston", "US"), ("Grmany", "DE"), ("XK", "")],
)
def test_a_wrong_country_is_refused_with_a_suggestion(
    tmp_path: Path, place: str, meant: str
) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[gather.web.proxy]\naddress = "http://x.example:1"\nplaces = ["{place}"]\n')
    with pytest.raises(ConfigError, match=r"is no country code of ISO 3166-1") as caught:
        parse_section(gather.GatherConfig, "gather", load_tables(config, [], ["gather"]))
    assert caught.value.exit_code == 2
    assert (f"did you mean {meant} (" in str(caught.value)) == bool(meant)


def test_every_country_is_accepted_and_hosts_spread_over_all() -> None:
    from babel import Locale

    known = {code for code in Locale("en").territories if len(code) == 2 and code.isalpha()}
    unofficial = re.findall("..", "ACCPCQDGEAEUEZICQOTAUNXAXBXKZZ")
    assert known - set(unofficial) == COUNTRIES
    assert ProxyConfig(places=tuple(sorted(COUNTRIES))).places == tuple(sorted(COUNTRIES))
    hosts = [f"h{number}.example" for number in range(5_000)]
    before = {host: place_of(host, ("DE", "FR", "JP"), {}) for host in hosts}
    after = {host: place_of(host, ("DE", "FR", "JP", "BR"), {}) for host in hosts}
    assert all(1_500 < count < 1_850 for count in Counter(before.values()).values())
    assert all(after[host] in (before[host], "BR") for host in hosts)
