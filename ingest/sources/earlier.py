"""An earlier crawl: what its pages are asked for only if they changed, and what then need not move.

A page that is confirmed (304) enters the new archive as its earlier answer, with the date it had,
and a revisit record that says when it was confirmed. So the archive is whole by itself.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ingest.archive import Stored, read_archive, read_record
from ingest.fetch import Response
from ingest.sources.frontier import Frontier

__all__ = ["Earlier"]


class Earlier:
    """The archive of an earlier crawl, indexed once in the frontier."""

    def __init__(self, archive: Path, frontier: Frontier) -> None:
        self._path = archive
        self._frontier = frontier
        if not frontier.counter("earlier"):
            frontier.set_earlier(self._pages())
            frontier.set_counter("earlier", 1)
            frontier.commit()

    def asks(self, url: str) -> tuple[int, dict[str, str]] | None:
        """(where it is stored, conditional headers) of a page; None if there is none to confirm."""
        known = self._frontier.earlier(url)
        if known is None:
            return None
        offset, tag, modified = known
        headers = {"If-None-Match": tag, "If-Modified-Since": modified}
        return offset, {name: value for name, value in headers.items() if value}

    def confirmed(self, offset: int, answer: Response) -> Response | None:
        """The earlier answer that `answer`, a 304, says still holds; None if it cannot be read."""
        stored = read_record(self._path, offset)
        if stored is None or stored.url != answer.url:
            return None
        # RFC 9111, 4.3.4: what the 304 says of the page takes the place of what was said before.
        said = {name.lower() for name, _ in answer.headers}
        kept = [pair for pair in _headers(stored) if pair[0].lower() not in said]
        news = [pair for pair in answer.headers if pair[0].lower() != "content-length"]
        return replace(
            answer, status=200, reason="OK", headers=(*kept, *news), body=stored.body,
            fetched_at=stored.fetched_at, confirmed=answer,
        )

    def _pages(self) -> Iterator[tuple[str, int, str, str]]:
        for item in read_archive(self._path):
            if isinstance(item, Stored) and item.status == 200 and item.body:
                tag, modified = item.header("ETag"), item.header("Last-Modified")
                if tag or modified:
                    yield item.url, item.offset, tag, modified


def _headers(stored: Stored) -> list[tuple[str, str]]:
    """As the server sent them, not as they were changed for the archive."""
    sent = [(k.removeprefix("X-Crawl-"), v) for k, v in stored.headers if k != "Content-Length"]
    return [pair for pair in sent if pair[0].lower() != "content-length"]
