"""A client of line 5: `client crawl PORT FOLDER [EARLIER]` or `client requests PORT CRAWLED`.

Prints one JSON object: pages that were asked for, their bytes, CPU seconds without the imports.
"""

import json
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from commonroot.artifact import json_lines
from ingest import gather
from ingest.sources.web import WebConfig
from tests.benchmarks.crawled.server import HOST

THREADS = 8


def main() -> None:
    """Run one client."""
    what, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    before = _cpu()
    if what == "crawl":
        pages, size = _crawl(port, folder, sys.argv[4] if len(sys.argv) > 4 else None)
    else:
        pages, size = _requests(port, folder)
    print(json.dumps({"pages": pages, "bytes": size, "cpu_s": _cpu() - before}))


def _crawl(port: int, folder: Path, earlier: str | None) -> tuple[int, int]:
    """The whole first stage, from reading the config to the sealed artifact."""
    web = gather.run(gather.GatherConfig(web=WebConfig(
        seeds=(f"http://{HOST}/",), connect={f"{HOST}:80": f"127.0.0.1:{port}"},
        max_pages=100_000, max_depth=20, threads=THREADS, contact="bench@example.org",
        earlier=earlier,
    )), folder)
    return len(_asked(folder)), web.metrics["bytes"]


def _asked(folder: Path) -> list[str]:
    """Addresses of pages for which a request was sent."""
    lines = json_lines((folder / gather.FOLDER / gather.FETCHES).read_text("utf-8"))
    return [line["url"] for line in lines if line["kind"] == "page" and line["status"]]


def _requests(port: int, crawled: Path) -> tuple[int, int]:
    """The same addresses with a session a thread, and nothing done with the answers."""
    urls = [url.replace(HOST, f"127.0.0.1:{port}", 1) for url in _asked(crawled)]

    def work(part: list[str]) -> int:
        with requests.Session() as session:
            return sum(len(session.get(url, allow_redirects=False).content) for url in part)

    with ThreadPoolExecutor(THREADS) as pool:
        return len(urls), sum(pool.map(work, (urls[i::THREADS] for i in range(THREADS))))


def _cpu() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    main()
