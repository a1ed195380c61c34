"""The address guard: the crawler may connect to public addresses only.

The check is made on the address that is about to be connected, not on a name looked up before:
a name can answer with a public address first and with 127.0.0.1 the second time.
"""

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from commonroot.errors import FetchError
from ingest import deadline
from ingest.heads import Answer
from ingest.links import canonical_url
from ingest.unpacking import narrow

__all__ = [
    "AddressRefused",
    "GuardedAdapter",
    "askable",
    "connected",
    "is_public",
    "pools",
    "refuse_private",
    "tls_context",
]

IPV4_IN_IPV6 = tuple(
    ipaddress.IPv6Network(net) for net in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")
)
"""NAT64, IPv4-compatible and IPv4-translated: the last 32 bits are the address."""
ISATAP = (0x00005EFE, 0x02005EFE)
"""RFC 5214: what then stands before those 32 bits, whatever the prefix."""
NOT_PUBLIC = tuple(
    ipaddress.ip_network(net)
    for net in (
        "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "2001::/23", "3fff::/20", "5f00::/16",
        "fec0::/10",
    )
)
"""Of IANA's special-purpose registries, what `ipaddress` of one Python or another takes for public:
protocol assignments (Teredo among them), 6to4 relays, NAT64 of a site, documentation, segment
routing, site-local."""
INSIDE = (
    "localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan",
    "svc", "home.arpa",
)
"""Last labels of names that belong to no public network: RFC 6761, 6762 (appendix G), 8375, and
what ICANN keeps free."""

ASKABLE = re.compile(
    r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?(?:[/?][!-\"$-~]*)?"
)
"""An address that every parser reads in the same way."""
NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)\.?")
"""Hosts that some parser takes for an IPv4 address (https://url.spec.whatwg.org/#ends-in-a-number-checker)."""

MOST_HOSTS = 256
"""Hosts to which connections are kept."""

Open = Callable[[str, int], socket.socket]


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
    if any(ip in network for network in NOT_PUBLIC):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    isatap = int(ip) >> 32 & 0xFFFFFFFF in ISATAP
    if isatap or any(ip in network for network in IPV4_IN_IPV6):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def askable(url: str) -> str:
    """The URL as it is sent: plain already, or made canonical. Raises AddressRefused if it can be
    read in two ways: what is checked must be what is connected, here and behind a proxy."""
    plain = url if ASKABLE.fullmatch(url) else canonical_url(url) or ""
    parts = ASKABLE.fullmatch(plain)
    if parts is None or int(parts[2] or 0) > 65535:
        raise AddressRefused(f"{url!r} is not an address that can be asked")
    if NUMERIC.fullmatch(parts[1]):
        try:
            ipaddress.IPv4Address(parts[1])
        except ValueError:
            raise AddressRefused(f"{parts[1]} is an odd way to write an address") from None
    return plain


def refuse_private(url: str, look_up: bool) -> None:
    """Raise AddressRefused if `url` does not lead into the public network.

    For when somebody else makes the connection: of a name no more can be known here than all the
    addresses it has now, and without `look_up` not even that.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    found = _literal(host, 0)
    if not found:
        if "." not in host or host.endswith(tuple(f".{name}" for name in INSIDE)):
            raise AddressRefused(f"{host} is no name of the public network: not fetched")
        found = _look_up(host, 0) if look_up else []
    for entry in found:
        if not is_public(str(entry[4][0])):
            raise AddressRefused(f"{host} has an address that is not public ({entry[4][0]})")


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
        super().init_poolmanager(*args, **kwargs, ssl_context=tls_context())
        self.poolmanager.pool_classes_by_scheme = pools(
            lambda host, port: _open(host, port, self._map)
        )

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

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """Path and query; for a proxy as requests has it."""
        parts = str(request.url).partition("#")[0].split("/", 3)
        if proxies or len(parts) < 4:
            return str(super().request_url(request, proxies))
        return f"/{parts[3]}"

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """What requests makes of an answer, without the cookies: they are refused anyway."""
        response = requests.Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers, response.raw = resp.headers, resp
        response.url, response.request = str(req.url), req
        response.connection = self
        return response

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Always; by the one context, which holds the authorities already."""
        del url, verify, cert
        conn.cert_reqs = "CERT_REQUIRED"


def tls_context(ca_file: str = "") -> Any:
    """A context that many connections share; reading the authorities takes 20 ms of CPU.

    `ca_file` holds further ones. Raises OSError if it cannot be read.
    """
    import certifi
    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context()
    context.load_verify_locations(certifi.where())
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


def pools(opened: Open) -> dict[str, Any]:
    """urllib3's pool classes by scheme, their connections made by `opened` under a deadline."""
    return {
        "http": _pool(HTTPConnectionPool, HTTPConnection, opened),
        "https": _pool(HTTPSConnectionPool, HTTPSConnection, opened),
    }


def _pool(pool: Any, connection: Any, opened: Open) -> Any:
    class Watched(connection):  # type: ignore[misc]
        response_class = Answer

        def _new_conn(self) -> socket.socket:
            sock = opened(self._dns_host, self.port)
            self.peer = sock.getpeername()[0]
            watch = deadline.current()
            if watch is not None:
                watch.opened(sock, self.peer)
            return sock

        def request(self, *args: Any, **kwargs: Any) -> None:
            watch = deadline.current()
            if watch is not None and self.sock is not None:
                watch.uses(self.sock, self.peer)
            super().request(*args, **kwargs)
            if watch is not None:
                watch.sent_at = time.monotonic()

        def getresponse(self) -> Any:
            return narrow(super().getresponse())

    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": Watched})


def _open(host: str, port: int, mapping: Mapping[str, str]) -> socket.socket:
    mapped = mapping.get(f"{host}:{port}")
    if mapped:
        address, _, mapped_port = mapped.rpartition(":")
        return connected(address.strip("[]"), int(mapped_port))
    found = _look_up(host.strip("[]"), port)
    public = [entry for entry in found if is_public(str(entry[4][0]))]
    if not public:
        raise AddressRefused(f"{host} has no public address ({found[0][4][0]}): not fetched")
    return _first_that_answers(public)


def connected(host: str, port: int) -> socket.socket:
    """A connection to wherever the user said, unchecked. Raises OSError or AddressRefused."""
    return _first_that_answers(_look_up(host, port))


def _literal(host: str, port: int) -> list[Any]:
    """An address, in any spelling that the system's resolver takes for one; [] for a name."""
    try:
        return socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except (OSError, UnicodeError):
        return []


def _look_up(host: str, port: int) -> list[Any]:
    """The addresses of a host. A resolver that does not answer cannot be cut short, so it is asked
    in a thread that may be left behind."""
    answer = _literal(host, port)

    def ask() -> None:
        try:
            answer.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError):
            return

    watch = deadline.current()
    if not answer and watch is not None:
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(watch.left)
        if asking.is_alive():
            raise TimeoutError(f"{host} could not be looked up in time")
    elif not answer:
        ask()
    if not answer:
        raise AddressRefused(f"{host} has no address: no such host, or no network")
    return answer


def _first_that_answers(entries: list[Any]) -> socket.socket:
    watch = deadline.current()
    last: OSError = TimeoutError("no time left to connect")
    for family, kind, protocol, _, address in entries:
        left = watch.left if watch is not None else None
        if left == 0.0:
            break
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(left)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    raise last
