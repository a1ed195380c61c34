"""The crawl's table in the config, and the addresses that it starts from."""

from pathlib import Path

from pydantic import Field

from commonroot.errors import DataError
from ingest.fetch import FetchConfig
from ingest.links import canonical_url
from ingest.sessions import ProxyConfig

__all__ = ["WebConfig", "read_seeds"]


class WebConfig(FetchConfig):
    """The crawl. Without seeds there is none."""

    seeds: tuple[str, ...] = ()
    """Addresses to start from."""
    seeds_file: str | None = None
    """A text file with one address a line; `#` starts a comment."""
    hosts: tuple[str, ...] = ()
    """Further hosts in scope (`host` or `host:port`); those of the seeds are, www. or not."""
    paths: tuple[str, ...] = ()
    """Only addresses whose path matches one of these, as in robots.txt (`/docs/`, `/*.html$`);
    seeds always are fetched."""
    skip_paths: tuple[str, ...] = ()
    """No addresses whose path matches one of these."""
    sitemaps: bool = True
    """Start also from the sitemaps that the seeds' robots.txt names, or from /sitemap.xml if it
    names none."""
    feeds: bool = True
    """Read the RSS and Atom feeds that pages name."""
    earlier: str | None = None
    """The run folder of an earlier crawl: what it holds is asked for only if it changed, and taken
    from there if it did not."""
    max_depth: int = Field(default=3, ge=0)
    """Links from a seed to the farthest page."""
    max_pages: int = Field(default=1_000, ge=1)
    """Requests for pages altogether (robots.txt, sitemaps and feeds are not counted)."""
    host_pages: int = Field(default=100_000, ge=1)
    """The same for one host."""
    trap_pages: int = Field(default=100, ge=1)
    """Pages without new text that addresses may give which differ only in numbers or parameters;
    no more of them are asked for then."""
    max_bytes: int = Field(default=1_000_000_000, ge=1)
    """Bytes of bodies altogether after decompression; checked between batches of 64, or
    of as many as `threads`."""
    max_minutes: float = Field(default=600.0, gt=0.0)
    """Wall time of one call; what is left then is not fetched."""
    refusals: int = Field(default=1, ge=0)
    """Pages that answer 403, or 429 to the last try, after which their host is asked for nothing
    more in this crawl; 0: it goes on. Another session of a proxy is never tried for them."""
    max_redirects: int = Field(default=5, ge=0, le=20)
    """Redirects in a row."""
    threads: int = Field(default=8, ge=1)
    """Requests at once; to one host with a delay there is never more than one."""
    proxy: ProxyConfig = Field(default_factory=ProxyConfig)
    """The way out, if it is not the direct one."""


def read_seeds(config: WebConfig) -> tuple[str, ...]:
    """All seeds in canonical form. Raises DataError naming the file or line that is unusable."""
    lines = [(f"seed {seed!r}", seed) for seed in config.seeds]
    if config.seeds_file:
        path = Path(config.seeds_file)
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise DataError(f"cannot read the seeds file {path}: {why}") from None
        for number, line in enumerate(text.splitlines(), 1):
            address = line.partition(" #")[0].strip()
            if address and not address.startswith("#"):
                lines.append((f"{path} line {number}", address))
        if not lines:
            raise DataError(f"the seeds file {path} holds no address: write one URL a line")
    seeds = []
    for where, line in lines:
        url = canonical_url(line)
        if url is None:
            raise DataError(f"{where}: {line!r} is not an http(s) address")
        seeds.append(url)
    return tuple(sorted(set(seeds)))
