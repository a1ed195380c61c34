"""Answers that want to fill the memory: the client's peak while it fetches each, in a process of
its own whose high-water mark is reset before."""

import ctypes
import functools
import gzip
import io
import multiprocessing
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from ingest.fetch import HTML_TYPES, FetchConfig, Fetcher, FetchFailed
from ingest.sitemaps import LIST_TYPES, MAX_BYTES, listed
from tests.benchmarks.fetched.swollen import swollen
from tests.ingest.webserver import HOST, serve

__all__ = ["measure"]

CAP = 4_000_000
BLOCK = bytes(1_000_000)


def measure(work: Path, quick: bool) -> dict[str, Any]:
    """By bomb: what became of it, and MB above the memory before it. Sitemaps, which are also read,
    have a cap of their own."""
    del work
    megabytes = 64 if quick else 1_000
    pages = {name: _route(*bomb) for name, bomb in _bombs(megabytes).items()}
    maps = {name: (200, *bomb) for name, bomb in swollen(megabytes).items()}
    seen, listings = _seen(pages, False), _seen(maps, True)
    return {
        "cap_mb": CAP / 1e6, "most_mb": max(one["mb"] for one in seen.values()), "bombs": seen,
        "sitemap_cap_mb": MAX_BYTES / 1e6,
        "sitemap_most_mb": max(one["mb"] for one in listings.values()), "sitemaps": listings,
    }


def _seen(routes: dict[str, Any], lists: bool) -> dict[str, dict[str, Any]]:
    with serve() as site:
        small = "<urlset><url><loc>http://x.example/</loc></url></urlset>"
        site.routes["/warm"] = small
        site.routes |= {f"/{name}": route for name, route in routes.items()}
        context = multiprocessing.get_context("spawn")
        mine, other = context.Pipe()
        process = context.Process(target=_client, args=(other, site.connect, list(routes), lists))
        process.start()
        seen: dict[str, dict[str, Any]] = dict(mine.recv())
        process.join()
    return seen


def _client(pipe: Any, connect: dict[str, str], names: list[str], lists: bool) -> None:
    fetcher = Fetcher(
        FetchConfig(connect=connect, page_bytes=CAP, deadline_s=10.0, retries=0), 1
    )
    for _ in range(3):
        _became(fetcher, "warm", lists)
    seen = []
    for name in names:
        ctypes.CDLL(None).malloc_trim(0)  # what the one before left must not hide this one
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts here
        before, started = _peak_mb(), time.process_time()
        why = _became(fetcher, name, lists)
        spent = round(time.process_time() - started, 2)
        over = round(_peak_mb() - before, 1)
        seen.append((name, {"became": why, "mb": over, "cpu_s": spent}))
    pipe.send(seen)
    fetcher.close()


def _became(fetcher: Fetcher, name: str, lists: bool) -> str:
    url, types = f"http://{HOST}/{name}", (*HTML_TYPES, *LIST_TYPES)
    try:
        response = fetcher.get(url, types, most_bytes=MAX_BYTES if lists else 0)
    except FetchFailed as error:
        return error.reason
    if response.withheld or not lists:
        return response.withheld or f"{len(response.body)} bytes"
    found = listed(response.body, url)
    return f"{found.kind or 'no listing'} of {len(found.pages)}"


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text("ascii").splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) / 1000


def _bombs(megabytes: int) -> dict[str, tuple[dict[str, str], Callable[[], Iterator[bytes]]]]:
    """Headers, and what comes after them."""
    import brotli
    from backports import zstd

    zeros = gzip.compress(BLOCK, 9)
    gzipped = _packed(zlib.compressobj(9, wbits=31), megabytes)
    brotlied = _brotli(megabytes, 22)
    window = {zstd.CompressionParameter.window_log: 27}
    wide = zstd.ZstdCompressor(options={**window, zstd.CompressionParameter.compression_level: 3})
    made = {
        "gzip": ("gzip", gzipped),
        "deflate": ("deflate", _packed(zlib.compressobj(9), megabytes)),
        "deflate-raw": ("deflate", _packed(zlib.compressobj(9, wbits=-15), megabytes)),
        "br": ("br", brotlied),
        "br-widest-window": ("br", _brotli(megabytes, 24)),
        "zstd": ("zstd", _zstd(zstd.ZstdCompressor(), megabytes)),
        "zstd-window-128-mb": ("zstd", _zstd(wide, megabytes)),
        "gzip-in-gzip": ("gzip, gzip", gzip.compress(gzipped, 9)),
        "br-in-br": ("br, br", brotli.compress(brotlied)),
        "gzip-in-br-in-zstd": ("gzip, br, zstd", zstd.compress(brotli.compress(gzipped))),
        "gzip-members": ("gzip", zeros * megabytes),
        "gzip-empty-members": ("gzip", gzip.compress(b"") * 200_000),
        "zstd-empty-frames": ("zstd", zstd.compress(b"") * 200_000),
    }
    bombs = {
        name: ({"Content-Encoding": coding}, functools.partial(iter, [body]))
        for name, (coding, body) in made.items()
    }
    bombs["plain-endless"] = ({}, lambda: (BLOCK for _ in range(10 * megabytes)))
    bombs["chunks-of-one-byte"] = ({"Transfer-Encoding": "chunked"}, _tiny_chunks)
    bombs["chunk-line-endless"] = (
        {"Transfer-Encoding": "chunked"}, lambda: (b"1;" + b"a" * 10_000 for _ in range(10_000))
    )
    bombs["chunk-of-a-terabyte"] = (
        {"Transfer-Encoding": "chunked"}, lambda: iter([b"ffffffffff\r\n", *[BLOCK] * megabytes])
    )
    long = {f"X-{number}": "a" * 60_000 for number in range(99)}
    bombs["headers-6-mb"] = (long, lambda: iter([b"x"]))
    bombs["headers-too-many"] = ({f"X-{n}": "a" for n in range(100_000)}, lambda: iter([b"x"]))
    bombs["header-endless"] = ({"X": "a" * 50_000_000}, lambda: iter([b"x"]))
    return bombs


def _tiny_chunks() -> Iterator[bytes]:
    for _ in range(200):
        yield b"1\r\na\r\n" * 50_000


def _packed(packer: Any, megabytes: int) -> bytes:
    out = io.BytesIO()
    for _ in range(megabytes):
        out.write(packer.compress(BLOCK))
    out.write(packer.flush())
    return out.getvalue()


def _zstd(packer: Any, megabytes: int) -> bytes:
    return b"".join(packer.compress(BLOCK) for _ in range(megabytes)) + packer.flush()


def _brotli(megabytes: int, lgwin: int) -> bytes:
    import brotli

    packer = brotli.Compressor(quality=5, lgwin=lgwin)
    return b"".join(packer.process(BLOCK) for _ in range(megabytes)) + packer.finish()


def _route(headers: dict[str, str], body: Callable[[], Iterator[bytes]]) -> Any:
    def route(handler: BaseHTTPRequestHandler) -> None:
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n")
            for name, value in headers.items():
                handler.wfile.write(f"{name}: {value}\r\n".encode())
            handler.wfile.write(b"\r\n")
            for part in body():
                handler.wfile.write(part)
        except OSError:
            return

    return route
