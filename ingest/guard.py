"""The address guard: the crawler may connect to public addresses only.

The check is made on the address that is about to be connected, not on a name looked up before:
a name can answer with a public address first and with 127.0.0.1 the second time.
"""

import heapq
import ipaddress
import itertools
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from commonroot.errors import FetchError

__all__ = ["AddressRefused", "Deadlines", "GuardedAdapter", "Watch", "is_public"]

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")

MOST_HOSTS = 256
"""Hosts to which connections are kept."""

_current = threading.local()


class AddressRefused(FetchError):
    """The host's address is private, loopback or otherwise not on the public network."""


def is_public(address: str) -> bool:
    """Is this a unicast address of the public network?

    `ipaddress.is_global` alone says yes to ::127.0.0.1, 64:ff9b::7f00:1, 2002:7f00:1:: and
    224.0.0.1, so an IPv4 address inside an IPv6 one is taken out and judged itself.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = _embedded(ip)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if ip in NAT64 or ip in IPV4_COMPATIBLE:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    teredo = ip.teredo[1] if ip.teredo else None
    return ip.ipv4_mapped or ip.sixtofour or teredo


class Watch:
    """One request that has a deadline."""

    def __init__(self) -> None:
        self.expired = False
        self.peer = ""
        self._connection: Any = None
        self._sock: Any = None

    def watch(self, connection: Any) -> None:
        """Called by the connection that is about to send a request in this thread."""
        self._connection = connection

    def sent(self, connection: Any) -> None:
        """Called when the request is out. The socket is kept here because a connection lets go of
        it as soon as the answer is known to be its last."""
        self._sock = connection.sock
        self.peer = connection.peer

    def over(self) -> None:
        """The request is done: nothing is cut any more."""
        self._connection = self._sock = None

    def cut(self) -> None:
        """The deadline has come."""
        self.expired = True
        sock = self._sock or getattr(self._connection, "sock", None)
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


class Deadlines:
    """Cuts connections when their time is up, whatever the server does meanwhile.

    A socket timeout is not enough: it starts again with every byte that drips in. One thread
    watches over all requests; a timer for each would cost more than the request.
    """

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Watch]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def watch(self, seconds: float) -> Iterator[Watch]:
        """Cut this thread's connection if the block takes longer."""
        watch = Watch()
        entry = (time.monotonic() + seconds, next(self._count), watch)
        with self._changed:
            heapq.heappush(self._due, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            elif self._due[0] is entry:
                self._changed.notify()
        _current.watch = watch
        try:
            yield watch
        finally:
            _current.watch = None
            watch.over()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                else:
                    heapq.heappop(self._due)[2].cut()


class GuardedAdapter(HTTPAdapter):
    """A requests adapter whose connections pass the guard.

    `connect` maps `host:port` to the `address:port` to be used in its place, as curl's
    --connect-to does; a mapped target is the user's explicit choice and may be loopback.
    """

    def __init__(self, connect: Mapping[str, str], pool_size: int) -> None:
        self._map = dict(connect)
        self._pools: dict[str, Any] = {}
        super().__init__(
            pool_connections=max(pool_size, MOST_HOSTS), pool_maxsize=pool_size, max_retries=0
        )

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Give the pool manager connection classes that check the address."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _pool(HTTPConnectionPool, HTTPConnection, self._map),
            "https": _pool(HTTPSConnectionPool, HTTPSConnection, self._map),
        }


    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """The pool of a request's host, looked up once and not for every request."""
        if proxies or cert or verify is not True:
            return super().get_connection_with_tls_context(request, verify, proxies, cert)
        host = "/".join(str(request.url).split("/", 3)[:3])
        pool = self._pools.get(host)
        if pool is None or pool.pool is None:  # the manager closes those that it has no room for
            if len(self._pools) > MOST_HOSTS:
                self._pools.clear()
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            self._pools[host] = pool
        return pool

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """What requests makes of an answer, without the cookies: they are refused anyway."""
        response = requests.Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers, response.raw = resp.headers, resp
        response.url, response.request = str(req.url), req
        response.connection = self
        return response


def _pool(pool: Any, connection: Any, mapping: Mapping[str, str]) -> Any:
    class Guarded(connection):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            sock = _open(self._dns_host, self.port, self.timeout, mapping)
            self.peer = sock.getpeername()[0]
            return sock

        def request(self, *args: Any, **kwargs: Any) -> None:
            watch = getattr(_current, "watch", None)
            if watch is not None:
                watch.watch(self)
            super().request(*args, **kwargs)
            if watch is not None:
                watch.sent(self)

    return type(f"Guarded{pool.__name__}", (pool,), {"ConnectionCls": Guarded})


def _open(host: str, port: int, timeout: Any, mapping: Mapping[str, str]) -> socket.socket:
    mapped = mapping.get(f"{host}:{port}")
    if mapped:
        address, _, mapped_port = mapped.rpartition(":")
        sock = socket.create_connection((address, int(mapped_port)), _seconds(timeout))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise AddressRefused(f"{host} has no address: no such host, or no network") from None
    public = [entry for entry in found if is_public(str(entry[4][0]))]
    if not public:
        raise AddressRefused(f"{host} has no public address ({found[0][4][0]}): not fetched")
    return _first_that_answers(public, timeout)


def _first_that_answers(entries: list[Any], timeout: Any) -> socket.socket:
    last: OSError = OSError("no address")
    for family, kind, protocol, _, address in entries:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(_seconds(timeout))
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
            continue
        return sock
    raise last


def _seconds(timeout: Any) -> float | None:
    return float(timeout) if isinstance(timeout, int | float) else None
