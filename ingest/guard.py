"""The address guard: the crawler may connect to public addresses only.

The check is made on the address that is about to be connected, not on a name looked up before:
a name can answer with a public address first and with 127.0.0.1 the second time.
"""

import ipaddress
import socket
import threading
from collections.abc import Mapping
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from commonroot.errors import FetchError

__all__ = ["AddressRefused", "GuardedAdapter", "is_public", "stop_at"]

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")

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


class stop_at:
    """Cut this thread's connection after `seconds`, whatever the server does meanwhile.

    A socket timeout is not enough: it starts again with every byte that drips in.
    """

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self.peer = ""
        self._connection: Any = None
        self._sock: Any = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> "stop_at":
        _current.watch = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _current.watch = None

    def watch(self, connection: Any) -> None:
        """Called by the connection that is about to send a request in this thread."""
        self._connection = connection

    def sent(self, connection: Any) -> None:
        """Called when the request is out. The socket is kept here because a connection lets go of
        it as soon as the answer is known to be its last."""
        self._sock = connection.sock
        self.peer = connection.peer

    def _cut(self) -> None:
        self.expired = True
        sock = self._sock or getattr(self._connection, "sock", None)
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


class GuardedAdapter(HTTPAdapter):
    """A requests adapter whose connections pass the guard.

    `connect` maps `host:port` to the `address:port` to be used in its place, as curl's
    --connect-to does; a mapped target is the user's explicit choice and may be loopback.
    """

    def __init__(self, connect: Mapping[str, str], pool_size: int) -> None:
        self._map = dict(connect)
        super().__init__(pool_connections=pool_size, pool_maxsize=pool_size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Give the pool manager connection classes that check the address."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _pool(HTTPConnectionPool, HTTPConnection, self._map),
            "https": _pool(HTTPSConnectionPool, HTTPSConnection, self._map),
        }


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
