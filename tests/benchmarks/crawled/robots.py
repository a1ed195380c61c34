"""Line 4: robots.txt against the reference's cases, its speed, and bytes of any kind."""

import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

from ingest.robots import allowed
from tests.benchmarks.crawled.setting import Setting
from tests.benchmarks.record import Result

__all__ = ["line_4"]

CASES = "robots/cases.json"
FILES = 4_000
WORDS = (
    b"User-agent:", b"Disallow:", b"Allow:", b"*", b"$", b"/", b"/a*b*c$", b"\r\n", b"\n", b"#",
    b"Crawl-delay: 1e9", b"Sitemap:", b"Content-Usage: train-ai=n", b"\xef\xbb\xbf", b"%zz", b":",
)


def line_4(result: Result, setting: Setting) -> None:
    """Agreement, checks a second of CPU (parse and match) in turns with others, random files."""
    assert setting.data, "line 4 needs --data DIR, the folder that holds robots/cases.json"
    path = (setting.data / CASES).resolve()
    cases = json.loads(path.read_text("utf-8"))
    right = sum(_asked(case) is case["allowed"] for case in cases)
    rates: dict[str, list[float]] = {}
    for _ in range(1 if setting.quick else 5):
        rates.setdefault("ours", []).append(_rate(cases))
        for name, rate in _others(setting, path).items():
            rates.setdefault(name, []).append(rate)
    best = {name: round(max(found)) for name, found in rates.items()}
    crashes, slowest = _random_files(400 if setting.quick else FILES)
    value = {
        "right": f"{right} of {len(cases)}", "checks_per_cpu_s": best,
        "random_files": 400 if setting.quick else FILES, "crashes": crashes,
        "slowest_ms": round(1000 * slowest, 1),
    }
    good = right == len(cases) and best["ours"] >= 15_000 and crashes == 0
    result.add(
        "4", value, "142 of 142; >= 15,000 checks/s; 4,000 files of random bytes: no crash", good,
        "python -m tests.benchmarks.crawling --json --only 4 --data DIR",
    )


def _asked(case: dict[str, Any]) -> bool:
    return allowed(case["robots"].encode(), case["agent"], case["url"])


def _rate(cases: list[dict[str, Any]], rounds: int = 30) -> float:
    ready = [(case["robots"].encode(), case["agent"], case["url"]) for case in cases]
    started = time.process_time()
    for _ in range(rounds):
        for robots, agent, url in ready:
            allowed(robots, agent, url)
    return rounds * len(ready) / (time.process_time() - started)


def _others(setting: Setting, cases: Path) -> dict[str, float]:
    script = Path(__file__).with_name("other_robots.py")
    done = subprocess.run(
        [setting.others(), script, cases], check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout))


def _random_files(count: int) -> tuple[int, float]:
    """(crashes, seconds of the slowest): half of them noise, half made of a parser's words."""
    draw = random.Random(4)
    crashes, slowest = 0, 0.0
    for index in range(count):
        size = draw.randrange(2_000)
        noise = draw.randbytes(size)
        robots = b" ".join(draw.choices((*WORDS, noise[:20]), k=size // 8)) if index % 2 else noise
        url = "http://x.example/" + draw.randbytes(20).decode("latin-1")
        started = time.perf_counter()
        try:
            allowed(robots, draw.choice(("commonroot", "", "*", "\x00", "é/1")), url)
        except Exception:  # what is counted here
            crashes += 1
        slowest = max(slowest, time.perf_counter() - started)
    return crashes, slowest
