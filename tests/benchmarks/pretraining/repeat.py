"""Line 5: two runs with the same seed, in folders of their own: the same weights to the bit.

Each is a real command. The second runs while other processes keep all cores busy, so that threads
finish in another order; a run with another seed shows that the comparison can fail.
"""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.pretraining.setting import (
    corpus,
    made_by,
    pretrain,
    run_folder,
    same,
    weights,
)
from tests.benchmarks.record import Result

__all__ = ["line_5"]

STEPS = 60
COMMON: dict[str, Any] = {
    "tokens": STEPS * 8 * 256,
    "eval_blocks": 8,
    "replay_blocks": 8,
    "moment_batches": 2,
    "checkpoint_every": 25,
}
"""The demo's model (the defaults) on less text."""
CASES: dict[str, dict[str, Any]] = {
    "two threads": {"compute": {"threads": 2}},
    "two threads, fp32": {"compute": {"threads": 2, "dtype": "fp32"}},
    "two threads, compiled": {"compute": {"threads": 2, "compile": True}},
}


@contextmanager
def busy() -> Iterator[None]:
    """Keep every core busy meanwhile."""
    others = [
        multiprocessing.Process(target=_spin, daemon=True) for _ in range(os.cpu_count() or 1)
    ]
    for one in others:
        one.start()
    try:
        yield
    finally:
        for one in others:
            one.terminate()
            one.join()


def _spin() -> None:
    while True:
        pass


def line_5(result: Result, work: Path, quick: bool = False) -> None:
    """Every case twice, and once with another seed."""
    source = corpus(work)
    cases = {name: _case(source, work, name, quick) for name in list(CASES)[: 1 if quick else None]}
    ok = all(one["same"] and one["other_seed_differs"] for one in cases.values())
    goal = "bit-identical weights, and the same digest of the whole artifact"
    result.add("5", {"steps": 4 if quick else STEPS, "cases": cases}, goal, ok, made_by(5))


def _case(source: Path, work: Path, name: str, quick: bool) -> dict[str, Any]:
    table = COMMON | CASES[name] | ({"tokens": 4 * 8 * 256} if quick else {})
    folder = work / name.replace(",", "").replace(" ", "-")
    first = pretrain(run_folder(source, folder / "first"), table)
    with busy():
        second = pretrain(run_folder(source, folder / "second"), table)
    other = pretrain(run_folder(source, folder / "other"), table | {"seed": 1})
    return {
        "same": same(first, second),
        "other_seed_differs": weights(first) != weights(other),
        "weights": weights(first)[:16],
    }

