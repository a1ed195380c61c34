"""Requests that are to be led into the private network: spellings, redirects, rebinding.

Every attempt to connect is seen by an audit hook of the interpreter, whoever makes it; a listener
on all loopback addresses counts what arrives. Nothing leaves the machine: connections to public
addresses are refused before they start.
"""

import errno
import json
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from ingest.fetch import HTML_TYPES, FetchConfig, Fetcher, FetchFailed
from ingest.guard import is_public
from ingest.links import canonical_url
from ingest.proxy import PASSWORD, ProxiedFetcher
from ingest.sessions import ProxyConfig
from ingest.sources.crawl import crawl
from ingest.sources.web import WebConfig
from tests.ingest import proxyserver
from tests.ingest.proxyserver import Proxy, serve_proxy
from tests.ingest.spellings import PRIVATE, PRIVATE_6, spellings
from tests.ingest.webserver import HOST, serve

__all__ = ["measure"]

NAMES = (
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "localhost.localdomain", "ip6-localhost",
    "ip6-loopback", "router.local", "printer.lan", "metadata.google.internal", "instance-data",
    "kubernetes.default.svc", "host.docker.internal", "gateway.home.arpa", "intranet",
)


def measure(work: Path, quick: bool) -> dict[str, Any]:
    """Counts over all cases; `private_connects` is to be 0."""
    with _listener() as heard, _watched(heard.port) as seen:
        socket.create_connection(("127.0.0.1", heard.port)).close()
        heard.wait_for(1)  # the listener does count
        seen.clear()
        cases = list(_cases(heard.port))[:: 20 if quick else 1]
        naive = _unguarded(cases[: 500 if quick else 5_000], seen)
        seen.clear()
        heard.count = 0
        results = {
            "spelled": _each(cases, _fetcher()),
            "canonical": _each([c for c in map(canonical_url, cases) if c], _fetcher()),
            "rebinding": _rebinding(heard.port),
            "redirects": _redirects(cases, work, seen),
            "through_a_proxy": _proxied(cases, seen),
        }
        private = [where for where in seen if not is_public(where[0])]
    return {
        "cases": len(set(cases)) + sum(results["rebinding"].values()),
        "tries": sum(sum(result.values()) for result in results.values()),
        "private_connects": len(private),
        "reached_a_listener": heard.count,
        "answers": {name: dict(sorted(result.items())) for name, result in results.items()},
        "plain_requests_on_the_spellings": naive,
    }


def _cases(port: int) -> Iterator[str]:
    for address in PRIVATE:
        yield from spellings(address, port)
    for address in PRIVATE_6:
        yield f"http://[{address}]:{port}/"
        yield f"https://[{address}]:{port}/"
    for name in (*NAMES, socket.gethostname()):
        yield f"http://{name}:{port}/"
        yield f"https://{name}:{port}/"


def _fetcher(retries: int = 0) -> Fetcher:
    return Fetcher(FetchConfig(delay_s=0.0, retries=retries, deadline_s=2.0), 1)


def _each(urls: list[str], fetcher: Fetcher) -> Counter[str]:
    """What became of each; anything but a refusal in the client's own words is a crash."""
    became: Counter[str] = Counter()
    for url in urls:
        try:
            became[f"http-{fetcher.get(url, HTML_TYPES).status}"] += 1
        except FetchFailed as error:
            became[error.reason] += 1
        except Exception as error:
            became[f"crash-{type(error).__name__}"] += 1
    fetcher.close()
    return became


def _rebinding(port: int) -> Counter[str]:
    """Names that answer with a public address first, and then, or beside it, with a private."""
    answers: dict[str, list[list[str]]] = {}
    for number, address in enumerate((*PRIVATE, *(a for a in PRIVATE_6 if "%" not in a))):
        answers |= {
            f"a{number}.rebind.example": [[address]],
            f"b{number}.rebind.example": [["1.1.1.1"], [address]],
            f"c{number}.rebind.example": [["1.1.1.1", address]],
            f"d{number}.rebind.example": [[address, "1.1.1.1"]],
        }
    with _resolver(answers):
        return _each([f"http://{name}:{port}/" for name in answers], _fetcher(retries=1))


def _redirects(cases: list[str], work: Path, seen: list[tuple[str, int]]) -> Counter[str]:
    """The crawl, on a site that leads to every case once by redirect and once by a link."""
    with serve() as site:
        for number, case in enumerate(cases):
            target = case.strip().encode("unicode_escape").decode().replace("\\n", "")
            site.routes[f"/r{number}"] = (302, {"Location": target}, b"")
        links = "".join(f"<a href='/r{number}'>x</a>" for number in range(len(cases)))
        links += "".join(f'<a href="{case}">x</a>' for case in cases)
        site.routes["/"] = f"<p>{links}"
        hosts = {url.split("/")[2] for url in map(canonical_url, cases) if url}
        config = WebConfig(
            seeds=(f"http://{HOST}/",), connect=site.connect, hosts=tuple(sorted(hosts)),
            max_pages=100_000, retries=0, deadline_s=2.0, contact="x", delay_s=0.0,
        )
        (work / "frontier").mkdir(parents=True, exist_ok=True)
        with crawl(config, config.seeds, work / "a.warc.gz", work / "frontier") as frontier:
            records = [json.loads(line) for line in frontier.lines().splitlines()]
        seen[:] = [where for where in seen if where != ("127.0.0.1", site.port)]
    return Counter(
        record["decision"] for record in records
        if record["decision"].startswith(("redirect", "robots", "address"))
    )


def _proxied(cases: list[str], seen: list[tuple[str, int]]) -> Counter[str]:
    """What is handed to a proxy counts as a connection to wherever the proxy was to go."""
    os.environ[PASSWORD] = proxyserver.PASSWORD
    with serve_proxy(Proxy(lambda user, url: (200, {}, b"inside"))) as proxy:
        config = ProxyConfig(address=proxy.address, user="me", look_up=False)
        fetch = FetchConfig(delay_s=0.0, retries=0, deadline_s=2.0)
        became = _each(cases, ProxiedFetcher(fetch, 1, config))
        seen[:] = [where for where in seen if where != ("127.0.0.1", proxy.port)]
        targets = (urlsplit(line.url).hostname or line.url for line in proxy.log)
        # Digits of other scripts make names of their own, xn--9hbcp and such: no addresses.
        names = ("public.", "xn--")
        became["handed_over"] = sum(not target.startswith(names) for target in targets)
    return became


def _unguarded(cases: list[str], seen: list[tuple[str, int]]) -> dict[str, int]:
    """The same addresses given to `requests` as it is."""
    for case in cases:
        try:
            requests.get(case, timeout=0.5, allow_redirects=False)
        except Exception:  # whatever it makes of them: what it connected is what counts
            continue
    private = sum(not is_public(where[0]) for where in seen)
    return {"cases": len(cases), "private_connects": private}


class _Heard:
    port = 0
    count = 0

    def wait_for(self, count: int) -> None:
        for _ in range(200):
            if self.count >= count:
                return
            threading.Event().wait(0.01)
        raise RuntimeError("the listener hears nothing")


@contextmanager
def _listener() -> Iterator[_Heard]:
    """Accepts on every address of the machine, IPv4 and IPv6."""
    heard, server = _Heard(), socket.socket(socket.AF_INET6)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", 0))
    server.listen(512)
    heard.port = server.getsockname()[1]

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            heard.count += 1
            connection.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@contextmanager
def _watched(port: int) -> Iterator[list[tuple[str, int]]]:
    """All that is connected to. Only loopback is let through, the rest is refused at once."""
    seen: list[tuple[str, int]] = []
    watching = [True]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and watching[0] and isinstance(args[1], tuple):
            host = str(args[1][0]).partition("%")[0]
            try:
                seen.append((host, int(args[1][1])))
                public = is_public(host)
            except ValueError:
                return
            if public or host not in ("127.0.0.1", "::1"):
                raise ConnectionRefusedError(errno.ECONNREFUSED, "not in a test")

    sys.addaudithook(hook)
    try:
        yield seen
    finally:
        watching[0] = False


@contextmanager
def _resolver(answers: dict[str, list[list[str]]]) -> Iterator[None]:
    """Names that answer one list of addresses after the other, then the last for ever."""
    real: Callable[..., Any] = socket.getaddrinfo
    asked: Counter[str] = Counter()

    def resolve(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host not in answers or kwargs.get("flags"):
            return real(host, port, *args, **kwargs)
        turn = min(asked[host], len(answers[host]) - 1)
        asked[host] += 1
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in answers[host][turn]
        ]

    socket.getaddrinfo = resolve  # type: ignore[assignment]
    try:
        yield
    finally:
        socket.getaddrinfo = real
