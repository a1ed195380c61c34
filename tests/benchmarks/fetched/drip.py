"""Servers that take for ever, one trick each: seconds past the deadline until a client is free."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ingest.fetch import HTML_TYPES, FetchConfig, Fetcher, FetchFailed
from ingest.proxy import ProxiedFetcher
from ingest.sessions import ProxyConfig

__all__ = ["measure"]

DEADLINE_S = 1.5
PAUSE_S = 0.05
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
HANDSHAKE = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(16_000)
"""The start of a ServerHello that goes on for a while."""

NAMED = b"\x1f\x8b\x08\x08"
"""A gzip header whose file name never ends."""

Talk = Callable[[socket.socket], None]


def measure(work: Path, quick: bool) -> dict[str, Any]:
    """By trick: what became of it, and seconds past the deadline."""
    del work, quick
    seen = {}
    for name, (scheme, talk) in _tricks().items():
        with _server(talk) as port:
            connect = {f"slow.example:{80 if scheme == 'http' else 443}": f"127.0.0.1:{port}"}
            fetcher = Fetcher(_config(connect), 1)
            seen[name] = _timed(fetcher, f"{scheme}://slow.example/")
    seen |= _through_a_proxy() | _names() | _no_accept()
    return {
        "deadline_s": DEADLINE_S,
        "most_s_past_it": max(late for _, late in seen.values()),
        "tricks": {name: {"became": why, "s": late} for name, (why, late) in seen.items()},
    }


def _config(connect: dict[str, str] | None = None) -> FetchConfig:
    return FetchConfig(connect=connect or {}, deadline_s=DEADLINE_S, retries=0, delay_s=0.0)


def _timed(fetcher: Fetcher, url: str) -> tuple[str, float]:
    began = time.monotonic()
    try:
        why = f"http-{fetcher.get(url, HTML_TYPES).status}"
    except FetchFailed as error:
        why = error.reason
    late = time.monotonic() - began - DEADLINE_S
    fetcher.close()
    return why, round(late, 2)


def _tricks() -> dict[str, tuple[str, Talk]]:
    return {
        "silent": ("http", _after(b"", b"")),
        "status-line": ("http", _after(b"", b"H")),
        "headers": ("http", _after(HEAD, b"X")),
        "whole-headers": ("http", _after(HEAD, b"X: y\r\n")),
        "100-continue": ("http", _after(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
        "body": ("http", _after(HEAD + b"\r\n", b"a")),
        "body-with-length": ("http", _after(HEAD + b"Content-Length: 1000000\r\n\r\n", b"a")),
        "chunk-size": ("http", _after(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0")),
        "chunks": ("http", _after(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n")),
        "gzip": ("http", _after(HEAD + b"Content-Encoding: gzip\r\n\r\n" + NAMED, b"a")),
        "tls-silent": ("https", _after(b"", b"")),
        "tls-handshake": ("https", _after(HANDSHAKE[:9], b"\x00")),
    }


def _after(first: bytes, ever: bytes) -> Talk:
    """Send `first`, then `ever` once in a while for as long as anybody listens."""

    def talk(connection: socket.socket) -> None:
        connection.sendall(first)
        for _ in range(int(20 / PAUSE_S)):
            time.sleep(PAUSE_S)
            if ever:
                connection.sendall(ever)

    return talk


def _tunnel(connection: socket.socket) -> None:
    connection.recv(10_000)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    connection.recv(10_000)  # the client's part of the handshake
    _after(HANDSHAKE[:9], b"\x00")(connection)


def _through_a_proxy() -> dict[str, tuple[str, float]]:
    tricks = {
        "proxy-connect": ("https", _after(b"HTTP/1.1 2", b"0")),
        "proxy-tunnel": ("https", _tunnel),
        "proxy-body": ("http", _after(HEAD + b"\r\n", b"a")),
    }
    seen = {}
    for name, (scheme, talk) in tricks.items():
        with _server(talk) as port:
            proxy = ProxyConfig(address=f"http://127.0.0.1:{port}", look_up=False)
            fetcher = ProxiedFetcher(_config(), 1, proxy)
            seen[name] = _timed(fetcher, f"{scheme}://slow.example/")
    return seen


def _names() -> dict[str, tuple[str, float]]:
    """A resolver that does not answer."""
    real: Any = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "slow.example" and not kwargs.get("flags"):
            time.sleep(20.0)
        return real(host, *args, **kwargs)

    socket.getaddrinfo = resolve
    try:
        return {"name": _timed(Fetcher(_config(), 1), "http://slow.example/")}
    finally:
        socket.getaddrinfo = real


def _no_accept() -> dict[str, tuple[str, float]]:
    """A listener whose queue is full: the connection itself is never answered."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        connect = {"slow.example:80": f"127.0.0.1:{server.getsockname()[1]}"}
        return {"connect": _timed(Fetcher(_config(connect), 1), "http://slow.example/")}


@contextmanager
def _server(talk: Talk) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                talk(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
