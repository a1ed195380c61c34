"""Line 7: ten thousand virtual clients, a cohort of 100, and the memory of the process they need.

The demo's text is dealt out evenly to 10,000 clients; smaller populations are 100 and 1,000 of
these. Each runs through the command with the in-process engine and real silos: the process that is
measured is the server, the engine and the silos in one. The largest population is also run until
each of its clients was drawn once, with the memory noted after 100, 1,000 and 10,000 of them.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.federated.setting import made_by, make_run, rounds_of, start, write_tables
from tests.benchmarks.record import Result

__all__ = ["line_7"]

LINE = 7
CLIENTS = 10_000
COHORT = 100
ROUNDS = 3
FLAT = 1.10
MB = 1e6
TINY: dict[str, Any] = {
    "tokens": 8_192,
    "context": 64,
    "batch": 4,
    "eval_blocks": 4,
    "moment_batches": 2,
    "replay_blocks": 0,
    "prompts": [],
    "model": {
        "hidden": 32,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "intermediate": 64,
        "vocab": 512,
    },
    "compute": {"threads": 1},
}
STEPS = {"steps": 1, "batch": 2, "lr": 4e-3}


def line_7(result: Result, work: Path, quick: bool = False) -> None:
    """Three populations, and all of the largest; `quick`: a tenth of each."""
    most, cohort = (CLIENTS // 10, COHORT // 10) if quick else (CLIENTS, COHORT)
    sizes = [most // 100, most // 10, most]
    runs = {size: _run_of(work, size, most) for size in sizes}
    few = {size: _measured(runs[size], ROUNDS, cohort) for size in sizes}
    all_drawn = _measured(runs[most], most // cohort, cohort)
    peaks = [figures["peak_mb"] for figures in few.values()]
    drawn = {size: all_drawn["mb_after_round"][str(size // cohort)] for size in sizes}
    value = {
        "cohort": cohort,
        "rounds": ROUNDS,
        "peak_mb_of_population": {size: figures["peak_mb"] for size, figures in few.items()},
        "seconds_of_population": {size: figures["seconds"] for size, figures in few.items()},
        "largest_to_smallest": round(max(peaks) / min(peaks), 3),
        "mb_when_drawn": drawn,
        "largest_to_smallest_drawn": round(max(drawn.values()) / min(drawn.values()), 3),
        "seconds_until_all_drawn": all_drawn["seconds"],
        "rounds_until_all_drawn": all_drawn["rounds"],
        "void_rounds": sum(f["void"] for f in (*few.values(), all_drawn)),
    }
    ok = value["largest_to_smallest"] <= FLAT and value["largest_to_smallest_drawn"] <= FLAT
    ok = ok and not value["void_rounds"] and all_drawn["distinct_clients"] == most
    goal = f"{most:,} clients complete; memory for {sizes} flat: largest / smallest <= {FLAT}"
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
    after, due, began = {}, [10**power for power in range(5) if 10**power <= rounds], time.time()
    with open(run / "said.log", "wb") as log:
        process = start(*words, stdout=log, stderr=subprocess.STDOUT)
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            # The last round's line is there while the clients are tested: the process lives.
            if due and _lines(_metrics(run, "5-federated.partial")) >= due[0]:
                after[due.pop(0)] = _resident_mb(process.pid)
            time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    if process.returncode:
        raise RuntimeError(f"federate over {run} failed: see {run / 'said.log'}")
    return {
        "seconds": round(time.time() - began, 1),
        "peak_mb": round(ended[2].ru_maxrss * 1024 / MB, 1),
        "mb_after_round": after,
    }


def _metrics(run: Path, folder: str) -> Path:
    return run / folder / "metrics.jsonl"


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _resident_mb(pid: int) -> float:
    """The most that the process has held so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found, "the process lives"
    return round(int(found[1]) * 1024 / MB, 1)
