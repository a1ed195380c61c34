"""Line 7: ten thousand virtual clients, a cohort of 100, and the memory of the process they need.

The demo's text is dealt out evenly to 10,000 clients; smaller populations are 100 and 1,000 of
these. Each runs through the command with the in-process engine and real silos: the process that is
measured is the server, the engine and the silos in one. The largest population runs until each of
its clients was drawn once, and its memory is noted after 100, 1,000 and 10,000 of them.
"""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.federated.setting import (
    TINY,
    made_by,
    make_run,
    rounds_of,
    start,
    write_tables,
)
from tests.benchmarks.record import Result

__all__ = ["line_7"]

LINE = 7
COHORT = 100
POPULATIONS = (1, 10, 100)
"""In cohorts; of the last one every client is drawn."""
ROUNDS = 3
"""Of the smaller ones."""
FLAT = 1.10
MB = 1e6
STEPS = {"steps": 1, "batch": 2, "lr": 4e-3}


def line_7(result: Result, work: Path, quick: bool = False) -> None:
    """Three populations; `quick`: cohorts of 4."""
    cohort = 4 if quick else COHORT
    sizes = [cohort * cohorts for cohorts in POPULATIONS]
    rounds = [ROUNDS, ROUNDS, POPULATIONS[-1]]
    seen = [
        _measured(_run_of(work, size, sizes[-1]), count, cohort)
        for size, count in zip(sizes, rounds, strict=True)
    ]
    peaks = {size: figures["peak_mb"] for size, figures in zip(sizes, seen, strict=True)}
    drawn = {size: seen[-1]["mb_after_round"][str(size // cohort)] for size in sizes}
    value = {
        "cohort": cohort,
        "rounds_of_population": dict(zip(sizes, rounds, strict=True)),
        "seconds_of_population": {size: f["seconds"] for size, f in zip(sizes, seen, strict=True)},
        "peak_mb_of_population": peaks,
        "largest_to_smallest": round(max(peaks.values()) / min(peaks.values()), 3),
        "peak_mb_when_drawn": drawn,
        "largest_to_smallest_drawn": round(max(drawn.values()) / min(drawn.values()), 3),
        "distinct_clients_drawn": seen[-1]["distinct_clients"],
        "void_rounds": sum(figures["void"] for figures in seen),
    }
    ok = value["largest_to_smallest"] <= FLAT and value["largest_to_smallest_drawn"] <= FLAT
    ok = ok and not value["void_rounds"] and seen[-1]["distinct_clients"] == sizes[-1]
    goal = f"all of {sizes[-1]:,} drawn; memory for {sizes} flat: largest / smallest <= {FLAT}"
    result.add(str(LINE), value, goal, ok, made_by(LINE))


def _run_of(work: Path, size: int, most: int) -> Path:
    """`size` of `most` equal clients."""
    shards = {
        "demo": True,
        "partition": {"how": "iid", "clients": most},
        "most_clients": size,
    }
    return make_run(work / f"population-{size}", {"pretrain": TINY, "shards": shards})


def _measured(run: Path, rounds: int, cohort: int) -> dict[str, Any]:
    """Federate in a process of its own; its seconds and its memory, in units of 10^6 bytes."""
    note = run / f"measured-{rounds}.json"
    if not note.exists():
        for left in ("5-federated.partial", "5-federated", "silos"):  # of one that was cut
            shutil.rmtree(run / left, ignore_errors=True)
        table = {
            "rounds": rounds,
            "cohort": cohort,
            "local": STEPS,
            "personal": STEPS,
            "evaluate_every": rounds,
            "evaluate_clients": cohort,
            "evaluate_blocks": 1,
            "test_clients": cohort,
            "test_blocks": 1,
            "compute": {"threads": 1},
            "silo": {"piece_chars": 200},
        }
        config = write_tables(run / "config.toml", {"federate": table})
        figures = _watched(run, ["federate", "--config", config, "--run", run], rounds)
        records = rounds_of(run)
        drawn = {name for record in records for name in record["cohort"]}
        figures |= {
            "rounds": len(records),
            "void": sum(record["void"] for record in records),
            "distinct_clients": len(drawn),
        }
        note.write_text(json.dumps(figures))
    return dict(json.loads(note.read_text()))


def _watched(run: Path, words: list[str | Path], rounds: int) -> dict[str, Any]:
    """Peak of the whole run, and memory after 1, 10, 100, … rounds."""
    due = [10**power for power in range(5) if 10**power <= rounds]
    after: dict[str, float] = {}
    peak, began = 0.0, time.time()
    with open(run / "said.log", "wb") as log:
        process = start(*words, stdout=log, stderr=subprocess.STDOUT)
        # Not ru_maxrss: a child inherits that of the process that forked it.
        while process.poll() is None:
            peak = max(peak, _most_mb(process.pid))
            # The last round's line is there while the clients are tested: the process lives.
            if due and _lines(_metrics(run, "5-federated.partial")) >= due[0]:
                after[str(due.pop(0))] = peak
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"federate over {run} failed: see {run / 'said.log'}")
    seconds = round(time.time() - began, 1)
    return {"seconds": seconds, "peak_mb": peak, "mb_after_round": after}


def _metrics(run: Path, folder: str) -> Path:
    return run / folder / "metrics.jsonl"


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _most_mb(pid: int) -> float:
    """The most that the process has held so far; 0 if it is gone."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return round(int(found[1]) * 1024 / MB, 1) if found else 0.0
