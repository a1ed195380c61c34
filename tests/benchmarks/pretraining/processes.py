"""Line 4: two processes learn what one learns, and go on when one of them was killed.

Real `torch.distributed.run` commands over gloo, in fp32. Blocks are computed two at a time
(`pretrain.micro_batch`), by the model's own forward, which FSDP2 takes: so one process adds up what
two would. Without that a batch's sums are rounded in another order, and the last bits grow as the
weights learn: that difference is told and not asked for.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from commonroot.progress import MetricsLog
from tests.benchmarks.pretraining.setting import (
    SMALLEST,
    corpus,
    made_by,
    pretrain,
    run_folder,
    same,
    weights,
    words,
)
from tests.benchmarks.record import Result

__all__ = ["line_4"]

ROOT = Path(__file__).resolve().parents[3]
STEPS = 50
KILL_AFTER = 30
COMMON: dict[str, Any] = {
    **SMALLEST,
    "tokens": STEPS * 4 * 64,
    "micro_batch": 2,
    "checkpoint_every": 10,
    "compute": {"threads": 1, "dtype": "fp32", "fused": False},
}
WAYS = ("ddp", "fsdp")


def line_4(result: Result, work: Path, quick: bool = False) -> None:
    """Both ways with both optimizers; one process killed in each way."""
    source = corpus(work)
    cases = [("adamw", 2)] if quick else [("adamw", 2), ("muon", 2), ("adamw", 0), ("muon", 0)]
    found: dict[str, Any] = {}
    for optimizer, at_once in cases:
        table = {**COMMON, "optimizer": optimizer, "micro_batch": at_once}
        named = f"{optimizer}, {at_once or 'all'} blocks at once"
        one = pretrain(run_folder(source, work / f"one {named}"), table)
        for how in WAYS:
            two = _torchrun(run_folder(source, work / f"{how} {named}"), _as(table, how))
            found[f"{how}, {named}"] = {
                "largest_difference_of_a_loss": _largest_difference(one, two),
                "same_weights": weights(one) == weights(two),
            }
            if (optimizer, at_once) == cases[0]:
                killed = _killed(source, work, _as(table, how), two)
                found[f"{how}, {named}"]["one_killed"] = killed
    asked = [one for name, one in found.items() if ", 2 blocks" in name]
    ok = all(one["largest_difference_of_a_loss"] <= 1e-4 for one in asked) and all(
        one["one_killed"]["same"] for one in asked if "one_killed" in one
    )
    goal = f"losses of {STEPS} steps within 1e-4 of one process; resumed: the same bits"
    result.add("4", {"processes": 2, **found}, goal, ok, made_by(4))


def _as(table: dict[str, Any], how: str) -> dict[str, Any]:
    return {**table, "distributed": {"how": how}}


def _start(run: Path, table: dict[str, Any]) -> "subprocess.Popen[bytes]":
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launcher, "-m", "--", "commonroot", *map(str, words(run, table))]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with open(run / "said.log", "ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def _torchrun(run: Path, table: dict[str, Any]) -> Path:
    """The base that two processes made."""
    if code := _start(run, table).wait():
        said = (run / "said.log").read_text("utf-8", errors="replace")[-600:]
        raise RuntimeError(f"{run}: ended with {code}: {said}")
    return run / "3-base"


def _largest_difference(one: Path, other: Path) -> float:
    ours, theirs = (MetricsLog(base / "metrics.jsonl").read() for base in (one, other))
    return max(abs(a["loss"] - b["loss"]) for a, b in zip(ours, theirs, strict=True))


def _killed(source: Path, work: Path, table: dict[str, Any], whole: Path) -> dict[str, Any]:
    """Kill the second process on the way, start the command again."""
    how = table["distributed"]["how"]
    run = run_folder(source, work / f"killed-{how}")
    log = MetricsLog(run / "3-base.partial" / "metrics.jsonl")
    with _start(run, table) as launcher:
        while len(log.read()) < KILL_AFTER and launcher.poll() is None:
            time.sleep(0.005)
        os.kill(_of_rank(1, launcher.pid), signal.SIGKILL)
        code = launcher.wait()
    after = len(log.read())
    base = _torchrun(run, table)
    return {"after_step": after, "exit_code": code, "same": code != 0 and same(base, whole)}


def _of_rank(rank: int, launcher: int) -> int:
    """The launcher's child of that rank."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise RuntimeError(f"no process of rank {rank}")
