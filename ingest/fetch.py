"""The polite HTTP client: one request, one answer, with every limit set.

It follows no redirect by itself: the crawler sees each hop and asks robots.txt and the guard
again. Limits hold whatever the server does: total time, bytes after decompression, content type.
"""

import email.utils
import io
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from http.cookiejar import DefaultCookiePolicy
from typing import Annotated, Any

import requests
import urllib3
from pydantic import Field
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar

from commonroot import __version__
from commonroot.config import Section
from commonroot.errors import FetchError
from commonroot.memory import release_large_blocks
from ingest.deadline import Deadlines, Watch
from ingest.guard import AddressRefused, GuardedAdapter, askable
from ingest.links import host_key
from ingest.pace import Pace

__all__ = ["HTML_TYPES", "FetchConfig", "FetchFailed", "Fetcher", "Response"]

HTML_TYPES = ("text/html", "application/xhtml+xml", "text/plain")
TRY_AGAIN = (429, 502, 503, 504)
CHUNK = 64 * 1024


Mapped = Annotated[str, Field(pattern=r"^[\w.\[\]:-]+:\d{1,5}$")]


class FetchConfig(Section):
    """How the crawler behaves towards other people's servers."""

    agent: str = Field(default="commonroot", pattern=r"^[A-Za-z_-]+$")
    """Product token: what robots.txt is asked for, and the start of the User-Agent header."""
    contact: str = ""
    """Mail address or page in the User-Agent, so that a site's owner can reach whoever crawls."""
    delay_s: float = Field(default=1.0, ge=0.0, le=3600.0)
    """Least seconds between requests to one host; a longer Crawl-delay of the site is obeyed, and a
    slow or busy host is asked more slowly (ingest.pace)."""
    deadline_s: float = Field(default=30.0, gt=0.0, le=3600.0)
    """Seconds for one request altogether, however slowly bytes arrive."""
    max_crawl_delay_s: float = Field(default=60.0, ge=0.0)
    """A site whose robots.txt asks for more seconds between requests is left alone."""
    page_bytes: int = Field(default=4_000_000, ge=1_000)
    """Bytes of one page after decompression; a longer one is dropped."""
    retries: int = Field(default=2, ge=0, le=10)
    """Further tries after a broken connection or a 429, 502, 503 or 504."""
    retry_after_s: float = Field(default=60.0, ge=0.0, le=3600.0)
    """Longest Retry-After, in seconds, that is waited for; beyond it the page is given up."""
    connect: dict[Mapped, Mapped] = Field(default_factory=dict)
    """`"host:port" = "127.0.0.1:port"`: connect there for that host (a site of your own). No delay
    is kept on such a host."""


class FetchFailed(FetchError):
    """No usable answer; `reason` is a short word for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Response:
    """One answer. `withheld` says why the body was not kept ("" if it was)."""

    url: str
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    address: str
    fetched_at: str
    """UTC, ISO 8601 with seconds."""
    request_headers: tuple[tuple[str, str], ...]
    withheld: str = ""
    place: str = ""
    """From where it was seen, if a proxy was told."""
    confirmed: "Response | None" = None
    """The later 304 that says this answer of an earlier crawl still holds."""

    def header(self, name: str) -> str:
        """First value of a header, "" if absent."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), "")

    @cached_property
    def media_type(self) -> str:
        """Content type without its parameters, in lower case."""
        return self.header("Content-Type").partition(";")[0].strip().lower()

    def without_body(self, why: str) -> "Response":
        """The same answer, its body not kept."""
        return replace(self, body=b"", withheld=why)

    def seen_from(self, place: str) -> "Response":
        """The same answer, fetched by somebody there: the address connected to says nothing."""
        return replace(self, place=place, address="")


@dataclass(frozen=True)
class _Wanted:
    url: str
    types: tuple[str, ...]
    headers: dict[str, str]
    most_bytes: int


class Fetcher:
    """A session that keeps connections; safe to use from several threads."""

    def __init__(self, config: FetchConfig, threads: int) -> None:
        self.config = config
        contact = f"+{config.contact}" if config.contact else "no contact given"
        self._headers = {
            "User-Agent": f"{config.agent}/{__version__} ({contact})",
            "Accept": "text/html,application/xhtml+xml,text/plain;q=0.8,*/*;q=0.1",
            "Accept-Encoding": "gzip, deflate, br, zstd",
        }
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.clear()
        # Cookies would make what a page shows depend on the pages before it.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter(threads))
        self._no_cookies = RequestsCookieJar()
        self._timeout: Any = urllib3.Timeout(config.deadline_s)
        self._pace = Pace()
        self._deadlines = Deadlines()
        release_large_blocks()

    def _adapter(self, threads: int) -> HTTPAdapter:
        return GuardedAdapter(self.config.connect, threads)

    def close(self) -> None:
        """Close all connections."""
        self._session.close()
        self._deadlines.close()

    def delay(self, url: str, crawl_delay: float | None) -> float:
        """Seconds to keep between two requests to this URL's host."""
        own = 0.0 if host_key(url) in self.config.connect else self.config.delay_s
        return max(own, crawl_delay or 0.0)

    def get(
        self,
        url: str,
        types: tuple[str, ...],
        crawl_delay: float | None = None,
        headers: Iterable[tuple[str, str]] = (),
        most_bytes: int = 0,
    ) -> Response:
        """Fetch one URL, waiting for the host's turn and trying again where that makes sense.

        `types`: media types of which the body is read; `headers`: sent beside the usual ones;
        `most_bytes`: of the body, in place of `page_bytes`. Raises FetchFailed if there is no
        answer at all. Blocks.
        """
        try:
            url = askable(url)
        except AddressRefused as error:
            raise FetchFailed("address", str(error)) from None
        wanted = _Wanted(url, types, dict(headers), most_bytes or self.config.page_bytes)
        for attempt in range(self.config.retries + 1):
            last = attempt == self.config.retries
            self._pace.wait(host_key(url), self.delay(url, crawl_delay))
            started = time.monotonic()
            try:
                response = self._once(wanted)
            except FetchFailed as error:
                if last or error.reason != "connection":
                    raise
                time.sleep(0.2 * 2**attempt)
                continue
            self._pace.note(host_key(url), time.monotonic() - started, response.status)
            pause = self._pause(response, attempt)
            if last or pause is None:
                return response
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _pause(self, response: Response, attempt: int) -> float | None:
        if response.status not in TRY_AGAIN:
            return None
        asked = _retry_after(response.header("Retry-After"))
        pause = 0.5 * 2**attempt if asked is None else asked
        return pause if pause <= self.config.retry_after_s else None

    def _once(self, wanted: _Wanted, proxies: Any = None) -> Response:
        url = wanted.url
        with self._deadlines.watch(self.config.deadline_s) as watch:
            try:
                # Straight to the adapter: a session would look for cookies, hooks and redirects.
                with self._session.get_adapter(url).send(
                    self._prepared(wanted), stream=True, timeout=self._timeout,
                    proxies=proxies or {},
                ) as raw:
                    self._pace.sent(host_key(url), watch.sent_at)
                    return self._read(wanted, raw, watch)
            except AddressRefused as error:
                raise FetchFailed("address", str(error)) from None
            except urllib3.exceptions.DecodeError:
                raise FetchFailed("undecodable", f"{url}: its coding cannot be undone") from None
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                if watch.expired or isinstance(error, requests.Timeout):
                    raise FetchFailed(
                        "deadline", f"{url}: no end within {self.config.deadline_s:g} s"
                    ) from None
                raise FetchFailed("connection", f"{url}: {type(error).__name__}") from None

    def _prepared(self, wanted: _Wanted) -> requests.PreparedRequest:
        """Our addresses are canonical and our headers plain: what `Session.request` would do to
        them changes nothing and takes as long as the request."""
        request = requests.PreparedRequest()
        request.method, request.url = "GET", wanted.url
        # A plain dict: urllib3 copies it, which takes fifteen times as long of the usual kind.
        request.headers = self._headers | wanted.headers  # type: ignore[assignment]
        request._cookies = self._no_cookies  # type: ignore[attr-defined]
        return request

    def _read(self, wanted: _Wanted, raw: Any, watch: Watch) -> Response:
        fields = {
            "url": wanted.url, "status": raw.status_code, "reason": raw.reason or "",
            "headers": tuple(raw.raw.headers.items()), "address": watch.peer,
            "fetched_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request_headers": tuple(raw.request.headers.items()),
        }
        response = Response(**fields, body=b"")
        if response.status == 200 and response.media_type not in wanted.types:
            return response.without_body("content-type")
        coded = bool(response.header("Content-Encoding"))
        body = io.BytesIO()
        for chunk in raw.raw.stream(CHUNK, decode_content=coded):
            body.write(chunk)
            if body.tell() > wanted.most_bytes:
                return response.without_body("too-large")
            if watch.expired:
                break
        if watch.expired:
            raise FetchFailed(
                "deadline", f"{wanted.url}: no end within {self.config.deadline_s:g} s"
            )
        return Response(**fields, body=body.getvalue())  # which copies nothing


def _retry_after(value: str) -> float | None:
    """Seconds, from a number of seconds or an HTTP date."""
    if value.strip().isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, moment.timestamp() - time.time())
