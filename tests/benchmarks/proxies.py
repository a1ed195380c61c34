"""Outbound proxies, measured: `python -m tests.benchmarks.proxies --json [--quick]`.

The crawler as it is used crawls 10,000 hosts, half of them https, through an authenticating proxy
on loopback from every country there is, with 1,000 requests in flight; a session in fifty dies on
the way. Then one host is asked often (ageing by requests) and long (ageing by time). Everything is
checked from what the proxy wrote down. Takes five to ten minutes; `--quick`, for 300 hosts, half a
minute, and is not kept.
"""

import argparse
import json
import os
import re
import shutil
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from ingest.fetch import HTML_TYPES, FetchConfig
from ingest.places import COUNTRIES, place_of
from ingest.proxy import PASSWORD, ProxiedFetcher
from ingest.sessions import ProxyConfig
from ingest.sources.crawl import crawl
from ingest.sources.web import WebConfig
from tests.benchmarks.proxied.other_side import hosts, running
from tests.benchmarks.record import Result
from tests.ingest import proxyserver
from tests.ingest.proxyserver import Asked

COMMAND = "python -m tests.benchmarks.proxies --json"
NAME = re.compile(r"me-country-([a-z]{2})-session-([0-9a-f]+)")
DELAY_S = 1.0
LIFE_S = 1.5
HOLD_S = 20.0


def main() -> None:
    """Measure, check, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="what is printed anyhow")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-proxies"))
    parser.add_argument("--quick", action="store_true", help="small; not kept")
    given = parser.parse_args()
    os.environ[PASSWORD] = proxyserver.PASSWORD
    shutil.rmtree(given.work, ignore_errors=True)
    many, at_once = (300, 100) if given.quick else (10_000, 1_000)
    seen = _crawl(given.work, many, at_once) | _age(given.work)
    ok = (
        seen["lost"] == 0 and seen["sessions"] >= many and seen["in_flight"] >= at_once
        and seen["countries"] == min(len(COUNTRIES), seen["countries_wanted"])
        and not any(seen["broken_rules"].values()) and seen["ageing_ok"]
    )
    result = Result("proxies")
    goal = "10,000 sessions, 190+ countries, 1,000 in flight, nothing lost, all as configured"
    result.add("6", seen, goal, ok, COMMAND)
    if given.quick:
        print(json.dumps(result.lines, indent=1))
    else:
        result.keep()


def _crawl(work: Path, many: int, at_once: int) -> dict[str, Any]:
    places, urls = tuple(sorted(COUNTRIES)), hosts(many)
    (work / "crawl").mkdir(parents=True)
    with running(work / "proxy", HOLD_S, at_once) as other:
        config = WebConfig(
            threads=at_once, delay_s=DELAY_S, sitemaps=False, max_pages=2 * many, contact="x",
            deadline_s=60.0,
            proxy=ProxyConfig(
                address=other.address, ca_file=other.authority, user="me", look_up=False,
                places=places, sessions=at_once,
            ),
        )
        before, cpu, clock = _memory_mb("VmRSS"), time.process_time(), time.monotonic()
        with crawl(config, urls, work / "pages.warc.gz", work / "crawl") as frontier:
            records = [json.loads(line) for line in frontier.lines().splitlines()]
        cpu, clock = time.process_time() - cpu, time.monotonic() - clock
    log = other.log()
    names = {line.user for line in log}
    wanted = {_place(url, places) for url in urls}
    return {
        "hosts": many,
        "lost": many - sum(record["decision"] == "kept" for record in records),
        "sessions": len(names),
        "countries": len({_country(name) for name in names}),
        "countries_wanted": len(wanted),
        "in_flight": max(line.under_way for line in log),
        "requests": sum(line.verb == "GET" for line in log),
        "sessions_that_died": len(_dead(log)),
        "memory_mb": {"before": before, "most": _memory_mb("VmHWM")},
        "kb_a_session_in_flight": round((_memory_mb("VmHWM") - before) * 1000 / at_once),
        "client_cpu_s": round(cpu, 1),
        "seconds": round(clock, 1),
        "broken_rules": _broken(log, records, places),
    }


def _broken(
    log: list[Asked], records: list[dict[str, Any]], places: tuple[str, ...]
) -> dict[str, int]:
    """How often the log shows something else than what was configured; all should be 0."""
    dead, used = _dead(log), defaultdict(list)
    for line in log:
        host = _host(line.url)
        if line.user not in used[host]:
            used[host].append(line.user)
    owners = Counter(name for names in used.values() for name in names)
    recorded = {_host(record["url"]): record["place"] for record in records}
    return {
        "no_or_wrong_user_name": sum(NAME.fullmatch(line.user) is None for line in log),
        "session_of_two_hosts": sum(count > 1 for count in owners.values()),
        "changed_though_alive": sum(
            name not in dead for names in used.values() for name in names[:-1]
        ),
        "used_though_dead": sum(max(0, count - 1) for count in dead.values()),
        "wrong_country": sum(
            _country(name) != _place(f"http://{host}/", places)
            for host, names in used.items() for name in names
        ),
        "wrong_place_recorded": sum(
            recorded.get(host) != _place(f"http://{host}/", places) for host in used
        ),
    }


def _dead(log: list[Asked]) -> Counter[str]:
    """Names on which the proxy hung up, and how often: more than once means used though dead."""
    return Counter(line.user for line in log if line.status == 0)


def _age(work: Path) -> dict[str, Any]:
    """One host asked 1,000 times, another for six seconds."""
    with running(work / "ageing", 0.0, 0) as other:
        told = {"address": other.address, "user": "me", "look_up": False, "places": ("DE",)}
        asked = ProxyConfig(**told, session_requests=100)
        long = ProxyConfig(**told, session_minutes=LIFE_S / 60.0, session_requests=10**6)
        for config, url, enough in (
            (asked, "http://often.example/", lambda count, began: count == 1_000),
            (long, "http://long.example/", lambda count, began: time.monotonic() - began > 6.0),
        ):
            fetcher = ProxiedFetcher(FetchConfig(delay_s=0.0), 1, config)
            count, began = 0, time.monotonic()
            while not enough(count, began):
                fetcher.get(url, HTML_TYPES)
                count += 1
            fetcher.close()
    by_name: dict[str, list[Asked]] = defaultdict(list)
    for line in other.log():
        by_name[line.user].append(line)
    often = [len(v) for v in by_name.values() if _host(v[0].url) == "often.example"]
    spans = [
        round(lines[-1].at - lines[0].at, 2)
        for lines in by_name.values() if _host(lines[0].url) == "long.example"
    ]
    ok = often == [100] * 10 and len(spans) >= 3 and max(spans) < LIFE_S + 0.5
    return {"requests_a_session": sorted(set(often)), "seconds_a_session": spans, "ageing_ok": ok}


def _place(url: str, places: tuple[str, ...]) -> str:
    return place_of(_host(url), places, {})


def _host(url: str) -> str:
    return url.split("//")[-1].split("/")[0].split(":")[0]


def _country(name: str) -> str:
    found = NAME.fullmatch(name)
    return found[1].upper() if found else ""


def _memory_mb(what: str) -> float:
    status = Path("/proc/self/status").read_text("ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith(what))
    return round(int(kilobytes) / 1000, 1)


if __name__ == "__main__":
    sys.exit(main())
