"""A fast web server for benchmarks: the demo's pages under one host, in a process of its own.

`python -m tests.benchmarks.crawled.server PAGES` prints its port and serves until it is killed.
Every page has an ETag; what is asked for with it again is a 304.
"""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus

from ingest.demo.annex import Answer
from ingest.demo.pages import build
from ingest.demo.plan import ATLAS, WIKI, plan

__all__ = ["HOST", "serve", "site"]

HOST = "bench.example"
TOO_LARGE = "/files/huge.html"
"""20 MB of one letter: a benchmark of crawling would measure zlib."""


def site(pages: int) -> dict[str, Answer]:
    """Path -> answer: about `pages` articles with lists, redirects, errors and refusals."""
    planned = plan(pages, 0)
    moved = {page.path: replace(page, host=ATLAS) for page in planned}
    table = build([*moved.values(), *(page for page in planned if page.host == WIKI)], 0)
    own = {path: answer for (host, path), answer in table.items() if host == ATLAS}
    del own[TOO_LARGE]
    for name in ("/robots.txt", "/sitemap.xml"):
        body = own[name].body.replace(ATLAS.encode(), HOST.encode())
        own[name] = replace(own[name], body=body)
    return own


@contextmanager
def serve(pages: int) -> Iterator[int]:
    """The port at which a server process answers while the block runs."""
    command = [sys.executable, "-m", "tests.benchmarks.crawled.server", str(pages)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


class _Protocol(asyncio.Protocol):
    def __init__(self, table: dict[bytes, tuple[bytes, bytes, bytes]]) -> None:
        self._table = table
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while b"\r\n\r\n" in self._waiting:
            head, _, self._waiting = self._waiting.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            whole, unchanged, tag = self._table.get(path, self._table[b"404"])
            self._transport.write(unchanged if tag and tag in head else whole)


def _messages(answer: Answer) -> tuple[bytes, bytes, bytes]:
    """(the answer, the answer to who has it already, its ETag)."""
    tag = f'"{hashlib.sha256(answer.body).hexdigest()[:16]}"' if answer.status == 200 else ""
    fields = {**answer.headers, **({"ETag": tag} if tag else {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    status = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
    length = f"Content-Length: {len(answer.body)}\r\n\r\n"
    whole = (status + lines + length).encode("latin-1") + answer.body
    return whole, f"HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n".encode(), tag.encode()


async def _main(pages: int) -> None:
    table = {path.encode(): _messages(answer) for path, answer in site(pages).items()}
    table[b"404"] = _messages(Answer(b"<p>Not found.</p>", 404))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Protocol(table), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
