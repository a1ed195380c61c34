"""Line 7: a crawl that is killed with -9 again and again ends as one that was not.

Each run is a process of its own, forked off this one so that 200 of them need no 200 imports. The
web server is another process and lives on.
"""

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from commonroot.artifact import Artifact, load_artifact
from ingest import gather
from ingest.archive import Stored, read_archive
from ingest.sources.web import WebConfig
from tests.benchmarks.crawled.server import HOST, serve
from tests.benchmarks.crawled.setting import Setting
from tests.benchmarks.record import Result

__all__ = ["line_7"]

PAGES, KILLS, SEED = 2_000, 200, 7
SHORTEST_S, LONGEST_S = 0.005, 0.5
"""Between the start of a run and its kill."""


def line_7(result: Result, setting: Setting) -> None:
    """Kill crawls of one site until 200 kills are spent; compare each with the unbroken one."""
    pages, kills = (200, 10) if setting.quick else (PAGES, KILLS)
    work = setting.folder("line-7")
    shutil.rmtree(work)
    with serve(pages) as port:
        config = gather.GatherConfig(web=WebConfig(
            seeds=(f"http://{HOST}/",), connect={f"{HOST}:80": f"127.0.0.1:{port}"},
            max_pages=100_000, max_depth=20, contact="bench@example.org",
        ))
        _child(config, work / "unbroken", None)
        whole = load_artifact(work / "unbroken" / gather.FOLDER, gather.KIND)
        seen = _killed(config, whole, work, kills)
    value = {"pages": len(_documents(whole)), **seen}
    good = not (seen["lost"] or seen["doubled"] or seen["other_digests"]) and seen["kills"] == kills
    result.add(
        "7", value, "200 kills: 0 documents lost, 0 doubled, the digest of an unbroken run", good,
        "python -m tests.benchmarks.crawling --json --only 7",
    )


def _killed(
    config: gather.GatherConfig, whole: Artifact, work: Path, kills: int
) -> dict[str, Any]:
    draw = random.Random(SEED)
    wanted = _documents(whole)
    seen: Counter[str] = Counter(kills=0, crawls=0, lost=0, doubled=0, other_digests=0)
    waits: list[float] = []
    while seen["kills"] < kills:
        folder = work / f"killed-{seen['crawls']}"
        while seen["kills"] < kills:
            waits.append(draw.uniform(SHORTEST_S, LONGEST_S))
            if not _child(config, folder, waits[-1]):
                break
            seen["kills"] += 1
        _child(config, folder, None)
        web = load_artifact(folder / gather.FOLDER, gather.KIND)
        found = _documents(web)
        seen["crawls"] += 1
        seen["lost"] += (wanted - found).total()
        seen["doubled"] += (found - wanted).total()
        seen["other_digests"] += web.digest != whole.digest
        shutil.rmtree(folder)
    return {**seen, "mean_ms_to_kill": round(1000 * sum(waits) / len(waits))}


def _documents(web: Artifact) -> Counter[tuple[str, bytes]]:
    items = read_archive(web.path / gather.ARCHIVE)
    return Counter((item.url, item.body) for item in items if isinstance(item, Stored))


def _child(config: gather.GatherConfig, folder: Path, wait_s: float | None) -> bool:
    """Gather in a process of its own; True if it was killed, False if it came to its end."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            gather.run(config, folder)
            code = 0
        finally:
            os._exit(code)
    until = time.monotonic() + wait_s if wait_s is not None else float("inf")
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0, "the crawl failed"
            return False
        time.sleep(min(0.01, max(0.0, until - time.monotonic())))
    os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL
