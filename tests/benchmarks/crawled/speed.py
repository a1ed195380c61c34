"""Line 5: pages for each second of the client's CPU, beside Scrapy and bare requests.

The server is a process of its own; each client is one too and says what it spent, from after its
imports to its end. All take turns over the same site.
"""

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.crawled.server import serve
from tests.benchmarks.crawled.setting import Setting
from tests.benchmarks.record import Result

__all__ = ["line_5"]

PAGES, ROUNDS = 4_000, 3


def line_5(result: Result, setting: Setting) -> None:
    """Our crawl whole, our crawl again with nothing changed, Scrapy bare, requests bare."""
    pages, rounds = (200, 1) if setting.quick else (PAGES, ROUNDS)
    here = Path(__file__).parent
    work = setting.folder("line-5")
    seen: dict[str, list[dict[str, Any]]] = {}
    with serve(pages) as port:
        for _ in range(rounds):
            shutil.rmtree(work)
            ours = [sys.executable, "-m", "tests.benchmarks.crawled.client"]
            commands = {
                "ours": [*ours, "crawl", str(port), str(work / "first")],
                "ours_again": [*ours, "crawl", str(port), str(work / "again"), str(work / "first")],
                "scrapy_bare": [setting.others(), here / "scrapy_client.py", str(port)],
                "requests_bare_8_threads": [*ours, "requests", str(port), str(work / "first")],
            }
            for name, command in commands.items():
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                seen.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
    rates = {
        name: round(statistics.median(run["pages"] / run["cpu_s"] for run in runs))
        for name, runs in seen.items()
    }
    value = {
        "pages_per_cpu_s": rates, "times_scrapy": round(rates["ours"] / rates["scrapy_bare"], 2),
        "pages": {name: runs[0]["pages"] for name, runs in seen.items()},
        "bytes_a_page": round(seen["ours"][0]["bytes"] / seen["ours"][0]["pages"]),
    }
    result.add(
        "5", value, ">= 1,000 pages per client CPU-second, robots, opt-outs, WARC, conditional GET "
        "on (Scrapy bare: 255)", rates["ours"] >= 1_000,
        "python -m tests.benchmarks.crawling --json --only 5",
    )
