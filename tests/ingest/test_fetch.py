"""The HTTP client keeps its limits against servers that break all of them."""

import contextlib
import gzip
import socket
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from ingest.fetch import HTML_TYPES, FetchConfig, Fetcher, FetchFailed
from ingest.guard import is_public
from tests.ingest.spellings import spellings
from tests.ingest.webserver import HOST, Site

URL = f"http://{HOST}/page"
HTML = {"Content-Type": "text/html"}


@pytest.fixture
def fetcher(site: Site) -> Iterator[Fetcher]:
    made = Fetcher(
        FetchConfig(
            connect=site.connect,
            page_bytes=100_000,
            deadline_s=1.0,
            retries=1,
            contact="desk@example.org",
        ),
        threads=2,
    )
    yield made
    made.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "100.64.0.1",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2002:c0a8:101::",
        "2001:0:7f00:1::",
        "::ffff:10.0.0.1",
        "2001:db8::1",
        "192.0.0.8",
        "192.88.99.1",
        "64:ff9b:1::7f00:1",
        "::ffff:0:127.0.0.1",
        "fec0::1",
        "2606:4700::5efe:127.0.0.1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "2002:101:101::"]
)
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0"])
def test_loopback_is_not_connected_to(site: Site, fetcher: Fetcher, host: str) -> None:
    site.routes["/page"] = "secret"
    for scheme in ("http", "https"):
        with pytest.raises(FetchFailed) as caught:
            fetcher.get(f"{scheme}://{host}:{site.port}/page", HTML_TYPES)
        assert caught.value.reason == "address"
    assert site.seen == []


def test_a_mapped_host_is_reached_and_told_who_asks(site: Site, fetcher: Fetcher) -> None:
    agents = []

    def route(handler: BaseHTTPRequestHandler) -> None:
        agents.append(handler.headers["User-Agent"])
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>hello")

    site.routes["/page"] = route
    response = fetcher.get(URL, HTML_TYPES)
    assert (response.status, response.body, response.address) == (200, b"<p>hello", "127.0.0.1")
    assert agents[0].startswith("commonroot/")
    assert "desk@example.org" in agents[0]


def test_a_gzip_bomb_is_cut_off(site: Site, fetcher: Fetcher) -> None:
    bomb = gzip.compress(b"a" * 60_000_000, 9)
    site.routes["/page"] = (200, {**HTML, "Content-Encoding": "gzip"}, bomb)
    tracemalloc.start()
    try:
        response = fetcher.get(URL, HTML_TYPES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (response.withheld, response.body) == ("too-large", b"")
    assert peak < 10_000_000  # bytes; unpacked it is 60 MB


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_dripping_server_meets_the_deadline(site: Site, fetcher: Fetcher, part: str) -> None:
    ended = []

    def drip(handler: BaseHTTPRequestHandler) -> None:
        opening = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
        handler.wfile.write(opening + (b"" if part == "head" else b"\r\n"))
        try:
            for _ in range(400):
                handler.wfile.write(b"a")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            ended.append("cut")

    site.routes["/page"] = drip
    with pytest.raises(FetchFailed) as caught:
        fetcher.get(URL, HTML_TYPES)
    assert caught.value.reason == "deadline"
    for _ in range(100):
        if ended:
            break
        time.sleep(0.05)
    assert ended == ["cut"]  # the connection was closed, not only given up


def test_other_content_types_are_not_read(site: Site, fetcher: Fetcher) -> None:
    site.routes["/page"] = (200, {"Content-Type": "application/pdf"}, b"%PDF" * 1000)
    assert fetcher.get(URL, HTML_TYPES).withheld == "content-type"


def test_redirects_are_handed_to_the_caller(site: Site, fetcher: Fetcher) -> None:
    site.routes["/page"] = (302, {"Location": f"http://127.0.0.1:{site.port}/secret"}, b"")
    site.routes["/secret"] = "secret"
    assert fetcher.get(URL, HTML_TYPES).status == 302
    assert site.seen == ["/page"]


def test_retry_after_is_obeyed_and_bounded(site: Site, fetcher: Fetcher) -> None:
    site.routes["/page"] = (503, {"Retry-After": "0"}, b"busy")
    assert fetcher.get(URL, HTML_TYPES).status == 503
    assert site.seen == ["/page", "/page"]
    site.routes["/page"] = (429, {"Retry-After": "9999"}, b"later")
    assert fetcher.get(URL, HTML_TYPES).status == 429
    assert site.seen == ["/page"] * 3


def test_a_broken_connection_is_tried_again(site: Site, fetcher: Fetcher) -> None:
    site.routes["/page"] = lambda _: None
    with pytest.raises(FetchFailed) as caught:
        fetcher.get(URL, HTML_TYPES)
    assert caught.value.reason == "connection"
    assert len(site.seen) == 2


def test_cookies_are_not_sent_back(site: Site, fetcher: Fetcher) -> None:
    cookies = []

    def route(handler: BaseHTTPRequestHandler) -> None:
        cookies.append(handler.headers.get("Cookie"))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: a=b; Path=/\r\n\r\n"
        handler.wfile.write(head + b"<p>x")

    site.routes["/page"] = route
    for _ in range(2):
        fetcher.get(URL, HTML_TYPES)
    assert cookies == [None, None]


def test_a_host_is_left_in_peace_between_requests(site: Site) -> None:
    paused = Fetcher(FetchConfig(connect=site.connect), threads=2)
    site.routes["/page"] = "<p>x"
    started = time.monotonic()
    for _ in range(3):
        paused.get(URL, HTML_TYPES, crawl_delay=0.2)
    paused.close()
    assert time.monotonic() - started >= 0.4


def _packed(coding: str, size: int) -> bytes:
    import brotli
    from backports import zstd

    data = bytes(size)
    return {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress,
            "zstd": zstd.compress}[coding](data)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_what_is_asked_for_is_unpacked_and_capped(
    site: Site, fetcher: Fetcher, coding: str
) -> None:
    asked: list[str] = []

    def route(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["Accept-Encoding"])
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: {coding}\r\n\r\n"
        handler.wfile.write(head.encode() + _packed(coding, 90_000))

    site.routes["/page"] = route
    assert fetcher.get(URL, HTML_TYPES).body == bytes(90_000)
    assert coding in asked[0].split(", ")
    site.routes["/page"] = (
        200, {**HTML, "Content-Encoding": coding}, _packed(coding, 60_000_000)
    )
    tracemalloc.start()
    try:
        assert fetcher.get(URL, HTML_TYPES).withheld == "too-large"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_a_window_that_no_page_needs_is_not_opened(site: Site, fetcher: Fetcher) -> None:
    import brotli

    for width, page in ((22, "kept"), (24, "undecodable")):
        packed = brotli.compress(bytes(90_000), lgwin=width)
        site.routes["/page"] = (200, {**HTML, "Content-Encoding": "br"}, packed)
        try:
            found = "kept" if fetcher.get(URL, HTML_TYPES).body == bytes(90_000) else "changed"
        except FetchFailed as error:
            found = error.reason
        assert found == page
    assert len(site.seen) == 2  # not tried again


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.1"])
def test_no_spelling_leads_inside(address: str) -> None:
    connected: list[Any] = []
    watching = [True]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and watching[0]:
            connected.append(args[1])
            raise ConnectionRefusedError("not in a test")

    sys.addaudithook(hook)
    client = Fetcher(FetchConfig(delay_s=0.0, retries=0, deadline_s=2.0), threads=1)
    cases = [case for case in spellings(address, 40_000) if ".example" not in case]
    try:
        for case in cases:
            with pytest.raises(FetchFailed):
                client.get(case, HTML_TYPES)
    finally:
        watching[0] = False
        client.close()
    assert len(cases) > 35
    assert connected == []


def test_a_name_that_changes_its_mind_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([["1.1.1.1"], ["127.0.0.1"]])
    connected: list[Any] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags"):
            return real(host, port, *args, **kwargs)
        found = next(answers)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in found]

    def connect(sock: socket.socket, address: Any) -> None:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    client = Fetcher(FetchConfig(delay_s=0.0, retries=1), threads=1)
    with pytest.raises(FetchFailed) as caught:
        client.get("http://rebind.example/", HTML_TYPES)
    client.close()
    assert caught.value.reason == "address"
    assert connected == ["1.1.1.1"]


@pytest.mark.parametrize("trick", ["tls", "name"])
def test_the_deadline_holds_before_there_is_a_connection(
    trick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake that drips, a resolver that says nothing: both once waited far longer."""
    real = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "slow.example" and not kwargs.get("flags"):
            time.sleep(5.0)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def drip() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as connection:
                connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
                for _ in range(200):
                    time.sleep(0.05)
                    connection.sendall(b"\x00")

        threading.Thread(target=drip, daemon=True).start()
        connect = {"slow.example:443": f"127.0.0.1:{port}"} if trick == "tls" else {}
        client = Fetcher(FetchConfig(connect=connect, deadline_s=0.5, retries=0), threads=1)
        began = time.monotonic()
        with pytest.raises(FetchFailed) as caught:
            client.get("https://slow.example/", HTML_TYPES)
        client.close()
        assert caught.value.reason == "deadline"
        assert time.monotonic() - began < 4.0  # of 10 s and 5 s
        socket.create_connection(("127.0.0.1", port)).close()
