"""The polite client behind an outbound proxy: the same limits, one session a host.

The connected address is the proxy's, which the user chose. Where the proxy connects to cannot be
seen from here, so a target is refused by its name and the addresses that it has here.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

from requests.adapters import HTTPAdapter
from requests.utils import urldefragauth
from urllib3 import ProxyManager, make_headers

from commonroot.errors import ConfigError, FetchError
from ingest.fetch import FetchConfig, Fetcher, FetchFailed, Response
from ingest.guard import GuardedAdapter, connected, pools, refuse_private, tls_context
from ingest.links import host_key
from ingest.sessions import ProxyConfig, Session, Sessions

__all__ = ["PASSWORD", "ProxiedFetcher", "ProxyDown", "visitor_key"]

PASSWORD = "PROXY_PASSWORD"
"""Environment variable."""
GATEWAY_ERRORS = (502, 504)
"""What a proxy says when a session's way out is gone. 429 and 503 are a site's own words and no
reason to come back as somebody else."""
CONNECTIONS = 16
"""Open at once for one session."""
STATUS = re.compile(r"Tunnel connection failed: (\d{3})")


class ProxyDown(FetchError):
    """The proxy itself is out of reach, or turns us away: no page can be fetched."""


class TunnelRefused(FetchError):
    """The proxy answered CONNECT with another status than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the proxy answered CONNECT with {status}")
        self.status = status


def visitor_key(url: str) -> str:
    """The host as one visitor sees it: with or without www., whatever the port."""
    return host_key(url).rpartition(":")[0].removeprefix("www.")


class ProxiedFetcher(Fetcher):
    """Asks each host under the name of its session. Hosts of `connect` are reached directly.

    Raises ConfigError without a password in the environment, or for a `ca_file` that is none.
    """

    def __init__(self, config: FetchConfig, threads: int, proxy: ProxyConfig) -> None:
        self._proxy = proxy
        self._password = os.environ.get(PASSWORD, "")
        if proxy.user and not self._password:
            raise ConfigError(f"the proxy's password is taken from the environment: set {PASSWORD}")
        try:
            self._tls = tls_context(proxy.ca_file)
        except OSError as error:
            raise ConfigError(f"cannot read ca_file {proxy.ca_file}: {error}") from None
        self._pools = _proxied_pools(proxy.address)
        self.sessions = Sessions(proxy, self._connections)
        super().__init__(config, threads)

    def close(self) -> None:
        """Close all connections."""
        self.sessions.close()
        super().close()

    def _adapter(self, threads: int) -> HTTPAdapter:
        return _ProxiedAdapter(self.config.connect, threads, self._proxy.look_up)

    def _connections(self, user: str) -> ProxyManager:
        """urllib3's connections to the proxy under one user name."""
        name = f"{user}:{self._password}"
        headers = make_headers(proxy_basic_auth=name) if user else {}
        manager = ProxyManager(
            self._proxy.address, proxy_headers=headers, ssl_context=self._tls,
            proxy_ssl_context=self._tls, maxsize=CONNECTIONS, block=True,
        )
        manager.pool_classes_by_scheme = self._pools
        return manager

    def _once(self, wanted: Any, proxies: Any = None) -> Response:
        if host_key(wanted.url) in self.config.connect:
            return super()._once(wanted, proxies)
        with self.sessions.of(visitor_key(wanted.url)) as session:
            try:
                response = super()._once(wanted, {"session": session})
            except FetchFailed as error:
                if error.reason in ("connection", "deadline"):
                    self.sessions.retire(session)
                raise
            except TunnelRefused as error:
                raise self._refused(wanted.url, error.status, session) from None
            return self._judged(response, session)

    def _judged(self, response: Response, session: Session) -> Response:
        """With the place, and without the proxy's address in place of the site's."""
        if not response.url.startswith("https:"):
            if response.status == 407:
                raise self._refused(response.url, 407, session)
            if response.status in GATEWAY_ERRORS:
                self.sessions.retire(session)
        return response.seen_from(session.place)

    def _refused(self, url: str, status: int, session: Session) -> FetchError:
        if status == 407:
            return ProxyDown(
                f"{self._proxy.address} refuses the account (407): check gather.web.proxy.user and "
                f"{PASSWORD}, and that the account is paid for"
            )
        if status < 500:
            return FetchFailed("proxy-refused", f"{url}: the proxy answered {status}")
        self.sessions.retire(session)
        return FetchFailed("connection", f"{url}: the proxy answered {status}")


class _ProxiedAdapter(GuardedAdapter):
    """Requests hands on what it is given as `proxies`: here the session, under that name."""

    def __init__(self, connect: Mapping[str, str], pool_size: int, look_up: bool) -> None:
        self._look_up = look_up
        super().__init__(connect, pool_size)

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """A connection of the session, if the address it is to lead to is public."""
        session = (proxies or {}).get("session")
        if session is None:
            return super().get_connection_with_tls_context(request, verify, proxies, cert)
        refuse_private(request.url, self._look_up)
        target, kwargs = self.build_connection_pool_key_attributes(request, verify, cert)
        return session.manager.connection_from_host(**target, pool_kwargs=kwargs)

    def request_url(self, request: Any, proxies: Any) -> str:
        """The whole address, where the proxy is to forward the request itself."""
        if (proxies or {}).get("session") and request.url.startswith("http:"):
            return str(urldefragauth(request.url))
        return str(super().request_url(request, None))


def _proxied_pools(address: str) -> dict[str, Any]:
    """Pools whose connections go to the proxy and say what it answered."""

    def opened(host: str, port: int) -> Any:
        try:
            return connected(host, port)
        except (OSError, FetchError) as error:
            raise ProxyDown(f"no connection to the proxy {address}: {error}") from None

    made = pools(opened)
    made["https"].ConnectionCls = _telling(made["https"].ConnectionCls)
    return made


def _telling(connection: Any) -> Any:
    class Telling(connection):  # type: ignore[misc]
        def _tunnel(self) -> None:
            try:
                super()._tunnel()
            except OSError as error:
                status = STATUS.match(str(error))
                if status is None:
                    raise
                raise TunnelRefused(int(status[1])) from None

    return Telling
