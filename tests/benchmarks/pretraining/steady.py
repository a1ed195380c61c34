"""Line 8: memory at its peak, and whether a step takes longer at the end of a long run.

Read from outside, of real commands: CPU seconds of the process between lines of its log, which
other programs on the machine disturb less than wall time; VmHWM and VmRSS of the kernel.
"""

import os
import re
import statistics
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.benchmarks.federated.setting import start
from tests.benchmarks.pretraining.setting import SMALLEST, corpus, made_by, run_folder, words
from tests.benchmarks.record import Result

__all__ = ["line_8"]

STEPS = 20_000
EVERY = 200
"""Steps between two looks at the process."""
WARM = 1000
EDGE = 3000
"""Steps at the start, after WARM, and at the end whose medians are compared."""
LONG: dict[str, Any] = {**SMALLEST, "tokens": STEPS * 4 * 64, "checkpoint_every": 50}
DEMO: dict[str, Any] = {
    "tokens": 40 * 8 * 256,
    "checkpoint_every": 20,
    "evaluate": {"points": 0, "sources": 0, "pairs": 0},
}
"""The demo's model and batch for some steps."""


def line_8(result: Result, work: Path, quick: bool = False) -> None:
    """The long run of a tiny model; the peak of the demo's model."""
    steps = 2000 if quick else STEPS
    warm, edge = WARM * steps // STEPS, EDGE * steps // STEPS
    source = corpus(work)
    seen = _watched(run_folder(source, work / "long"), {**LONG, "tokens": steps * 4 * 64})
    demo = _watched(run_folder(source, work / "demo"), DEMO)
    costs = [
        (now["step"], (now["cpu_s"] - then["cpu_s"]) / (now["step"] - then["step"]))
        for then, now in pairwise(seen)
        if now["step"] > then["step"]
    ]
    first = statistics.median(cost for step, cost in costs if warm < step <= warm + edge)
    last = statistics.median(cost for step, cost in costs if step > steps - edge)
    settled = next(one for one in seen if one["step"] >= warm)
    value = {
        "steps": steps,
        "cpu_ms_a_step_first": round(first * 1000, 3),
        "cpu_ms_a_step_last": round(last * 1000, 3),
        "last_by_first": round(last / first, 3),
        "rss_mb_after_warm_up": settled["rss_mb"],
        "rss_mb_at_the_end": seen[-1]["rss_mb"],
        "peak_mb": seen[-1]["peak_mb"],
        "peak_mb_of_the_demo_s_model": demo[-1]["peak_mb"],
    }
    goal = "the peak stated; a step costs no more CPU time at the end: last / first <= 1.05"
    result.add("8", value, goal, value["last_by_first"] <= 1.05, made_by(8))


def _watched(run: Path, table: dict[str, Any]) -> list[dict[str, Any]]:
    """The process at every so many steps of its log, and before it ended."""
    log, seen = run / "3-base.partial" / "metrics.jsonl", []
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with start(*words(run, table), **quiet) as process:
        reached, at, done = 0, 0, 0
        while process.poll() is None:
            time.sleep(0.05)
            done, at = _new_lines(log, at, done)
            if looked := _look(process.pid):
                if done >= reached:
                    reached = done + EVERY
                    seen.append({"step": done, **looked})
                last = {"step": done, **looked}
    if process.returncode:
        raise RuntimeError(f"{run}: ended with {process.returncode}")
    return [*seen, last]


def _new_lines(log: Path, at: int, done: int) -> tuple[int, int]:
    """Lines so far, having read those since byte `at`; the place reached."""
    try:
        with open(log, "rb") as file:
            file.seek(at)
            more = file.read()
        return done + more.count(b"\n"), at + len(more)
    except FileNotFoundError:
        return done, at


def _look(pid: int) -> dict[str, Any]:
    """CPU seconds, memory and its peak (MB) of a process; nothing if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    kilobytes = dict(re.findall(r"^(VmHWM|VmRSS):\s+(\d+)", status, re.MULTILINE))
    if len(kilobytes) < 2:
        return {}
    return {
        "cpu_s": (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"),
        "rss_mb": int(kilobytes["VmRSS"]) // 1024,
        "peak_mb": int(kilobytes["VmHWM"]) // 1024,
    }
