"""Line 3: killed with -9 at random points, out of room on the disk, and damaged checkpoints.

A chain is one run of a real `commonroot pretrain` command, killed ten times on its way and at last
left to end; compared with an unbroken run are the weights and the digest of the whole artifact.
The full disk is a small file system of its own, in a namespace where anyone may mount one.
"""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.federated.setting import start
from tests.benchmarks.pretraining.damage import damaged_checkpoints
from tests.benchmarks.pretraining.setting import (
    SMALLEST,
    corpus,
    made_by,
    pretrain,
    run_folder,
    same,
    words,
)
from tests.benchmarks.record import Result

__all__ = ["line_3"]

CHAINS, KILLS, STEPS = 5, 10, 240
DAMAGED = 1000
COMMON: dict[str, Any] = {**SMALLEST, "tokens": STEPS * 4 * 64, "checkpoint_every": 7}
CASES: dict[str, dict[str, Any]] = {
    "muon": {},
    "adamw": {"optimizer": "adamw", "compute": {"threads": 1, "dtype": "fp32"}},
}


def line_3(result: Result, work: Path, quick: bool = False) -> None:
    """Kills, the full disk, damage."""
    source = corpus(work)
    wholes = {name: _whole(source, work, name) for name in CASES}
    chains = [
        _chain(source, work, number, wholes, 2 if quick else KILLS)
        for number in range(1 if quick else CHAINS)
    ]
    full = _disk_full(source, work, wholes["muon"])
    damage = damaged_checkpoints(work, 60 if quick else DAMAGED)
    kills = [kill for chain in chains for kill in chain["killed_after_step"]]
    silent = damage["loaded_in_silence"] + damage["the_one_before_not_used"]
    ok = all(chain["same"] for chain in chains) and full["same"] and not silent
    value = {"kills": len(kills), "chains": chains, "disk_full": full, "damage": damage}
    goal = "50 kills: the same bits; 1,000 damaged checkpoints: none loaded in silence"
    result.add("3", value, goal, ok, made_by(3))


def _whole(source: Path, work: Path, name: str) -> Path:
    """The base of an unbroken run."""
    run = work / f"whole-{name}"
    if not (run / "3-base" / "manifest.json").exists():
        pretrain(run_folder(source, run), COMMON | CASES[name])
    return run / "3-base"


def _chain(
    source: Path, work: Path, number: int, wholes: dict[str, Path], kills: int
) -> dict[str, Any]:
    """One run that is killed in every tenth of its way."""
    name = list(CASES)[number % len(CASES)]
    run, rng = run_folder(source, work / f"chain-{number}"), np.random.default_rng([3, number])
    command = words(run, COMMON | CASES[name])
    points = [(k + float(rng.random())) * STEPS / kills for k in range(kills)]
    places = [
        _kill(run, command, int(point), float(rng.uniform(0, 0.1)))
        for point in points
    ]
    base = pretrain(run, COMMON | CASES[name])
    caught = [place for place in places if place is not None]
    return {"case": name, "killed_after_step": caught, "same": same(base, wholes[name])}


def _kill(run: Path, command: list[str | Path], step: int, wait_s: float) -> int | None:
    """SIGKILL some ms after `step`; the step that had been logged, None if the run was over."""
    log = run / "3-base.partial" / "metrics.jsonl"
    with start(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and _lines(log) < step:
            time.sleep(0.001)
        time.sleep(wait_s)
        process.kill()
    return _lines(log) if process.returncode == -signal.SIGKILL else None


def _lines(log: Path) -> int:
    try:
        return log.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


FULL = """
set -u
mount -t tmpfs -o size=64m none "$1/disk" || exit 77
cp -rL "$1/parents/." "$1/disk/"
{ while [ ! -d "$1/disk/3-base.partial/checkpoints/step-00000014" ]; do sleep 0.01; done
  dd if=/dev/zero of="$1/disk/fill" bs=4k status=none; } 2>/dev/null &
"${@:2}" >"$1/first.log" 2>&1; echo $? >"$1/first.code"
kill %1 2>/dev/null; wait
ls "$1/disk/3-base.partial/checkpoints" >"$1/kept"
rm -f "$1/disk/fill"
"${@:2}" >"$1/second.log" 2>&1; echo $? >"$1/second.code"
cp -r "$1/disk/3-base" "$1/3-base"
"""


def _disk_full(source: Path, work: Path, whole: Path) -> dict[str, Any]:
    """Fill the disk in the middle of a run, make room, run again."""
    folder = work / "full"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "disk").mkdir(parents=True)
    run_folder(source, folder / "parents")
    command = [str(word) for word in words(folder / "parents", COMMON)]
    command[command.index("--run") + 1] = str(folder / "disk")
    argv = [sys.executable, "-m", "commonroot", *command]
    shell = ["unshare", "-Urm", "bash", "-c", FULL, "full", str(folder), *argv]
    code = subprocess.run(shell, cwd=Path(__file__).parents[3], check=False).returncode
    if code == 77 or not (folder / "first.code").exists():
        return {"same": False, "why": "no file system can be mounted here"}
    said = (folder / "first.log").read_text("utf-8").replace(str(folder), "RUN").splitlines()
    return {
        "exit_code": int((folder / "first.code").read_text()),
        "said": [line for line in said if line.startswith("commonroot: ")],
        "checkpoints_kept": (folder / "kept").read_text().split(),
        "exit_code_with_room": int((folder / "second.code").read_text()),
        "same": (folder / "3-base").exists() and same(folder / "3-base", whole),
    }
