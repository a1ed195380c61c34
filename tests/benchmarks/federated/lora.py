"""Line 9: LoRA aggregation, measured: five ways, two ranks, two lengths of local training.

A cell is one federated run of the product. All cells use the same number of private tokens, so
long local training means few rounds. Each way's learning rate is picked from the same grid, for
each length, on validation text at the higher rank and natural shards. What a cell gave is kept on
disk. Then one round of a model of over 100M parameters: federated/large.py.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from commonroot.artifact import write_atomic
from tests.benchmarks.federated.large import large_model
from tests.benchmarks.federated.setting import federate, made_by, make_run, rounds_of
from tests.benchmarks.record import Result

__all__ = ["line_9"]

AGGREGATORS = ("naive-lora", "fedex-lora", "ffa-lora", "fedsvd", "flexlora")
FULL = "fedavg"
"""All weights, beside them."""
RANKS = (2, 8)
STEPS = (5, 40)
PARTITIONS = ("natural", "iid")
LRS = (4e-3, 1.2e-2)
COHORT = 8
CONTEXT = 128
TOKENS = 2 * COHORT * 40 * CONTEXT
"""Private tokens of a cell: two rounds of 40 steps of one block."""
MODEL = {"hidden": 96, "layers": 3, "heads": 4, "kv_heads": 2, "intermediate": 288, "vocab": 2048}
"""0.53M parameters."""
BASE = {
    "tokens": 500_000,
    "context": CONTEXT,
    "batch": 8,
    "lr": 4e-3,
    "eval_blocks": 80,
    "replay_blocks": 0,
    "prompts": ["The country is"],
    "model": MODEL,
    "compute": {"threads": 1},
}
SHARDS = {"demo": True, "most_clients": 12}


@dataclass(frozen=True)
class Cell:
    """One run."""

    aggregator: str
    rank: int
    steps: int
    partition: str
    lr: float

    @property
    def name(self) -> str:
        return f"{self.partition}-{self.aggregator}-r{self.rank}-s{self.steps}-lr{self.lr:g}"

    def settings(self) -> dict[str, Any]:
        rounds = TOKENS // (COHORT * self.steps * CONTEXT)
        return {
            "rounds": rounds,
            "cohort": COHORT,
            "local": {"steps": self.steps, "batch": 1, "lr": self.lr},
            "lora": {"rank": self.rank},
            "strategy": self.aggregator,
            "evaluate_every": rounds,
            "evaluate_blocks": 4,
            "test_blocks": 8,
            "personal": {"steps": 1, "batch": 1, "lr": 1e-4},
            "keep_best": False,
            "compute": {"threads": 1},
        }


def line_9(result: Result, work: Path, quick: bool = False) -> None:
    """The table, and the pass over a large model."""
    runs = _runs(work, quick)
    ways = AGGREGATORS[:2] if quick else AGGREGATORS
    steps = STEPS[1:] if quick else STEPS
    lrs = {(way, n): _best_lr(runs, work, way, n, quick) for way in (*ways, FULL) for n in steps}
    base = {name: _base_bpb(run, work / f"base-{name}.json") for name, run in runs.items()}
    table = []
    for cell in _cells(ways, steps, lrs, quick):
        seen = _measured(runs[cell.partition], work, cell)
        row = {
            "aggregator": cell.aggregator,
            "rank": cell.rank,
            "local_steps": cell.steps,
            "partition": cell.partition,
            "lr": cell.lr,
        }
        row |= {"gain": round(base[cell.partition] - seen["union_bpb"], 4)}
        table.append(row | {key: value for key, value in seen.items() if key != "validation_bpb"})
    value = {
        "base_union_bpb": {name: round(bpb, 4) for name, bpb in base.items()},
        "private_tokens": TOKENS,
        "table": table,
        "mean_gain": _mean_gains(table),
        "large": large_model(work / "large", runs["natural"], quick),
    }
    ok = all(0.98 < row["private_tokens"] / TOKENS <= 1 and not row["excluded"] for row in table)
    ok = ok and value["large"]["parameters"] >= 100e6
    goal = "every cell measured at equal tokens; one pass at >= 100M parameters"
    result.add("9", value, goal, ok, made_by(9))


def _cells(
    ways: tuple[str, ...], steps: tuple[int, ...], lrs: dict[tuple[str, int], float], quick: bool
) -> Iterator[Cell]:
    for partition in PARTITIONS:
        for count in steps:
            yield Cell(FULL, 0, count, partition, lrs[FULL, count])
            for rank in RANKS[1:] if quick else RANKS:
                for way in ways:
                    yield Cell(way, rank, count, partition, lrs[way, count])


def _runs(work: Path, quick: bool) -> dict[str, Path]:
    """Run folders over the same base: clients as they are, and the same text shuffled."""
    from federate.shards.stage import ShardsConfig
    from federate.shards.stage import run as deal

    base = BASE | ({"tokens": 40_960} if quick else {})
    natural = make_run(work / "natural", {"pretrain": base, "shards": SHARDS})
    shuffled = work / "iid"
    shuffled.mkdir(exist_ok=True)
    for name in ("2-corpus", "3-base"):
        if not (shuffled / name).exists():
            (shuffled / name).symlink_to((natural / name).resolve(), target_is_directory=True)
    deal(ShardsConfig.model_validate(SHARDS | {"partition": {"how": "iid"}}), shuffled)
    return {"natural": natural, "iid": shuffled}


def _best_lr(runs: dict[str, Path], work: Path, way: str, steps: int, quick: bool) -> float:
    if quick:
        return LRS[0]
    rank = 0 if way == FULL else RANKS[-1]
    cells = [Cell(way, rank, steps, PARTITIONS[0], lr) for lr in LRS]
    seen = [_measured(runs[PARTITIONS[0]], work, cell)["validation_bpb"] for cell in cells]
    return LRS[int(np.argmin(seen))]


def _measured(run: Path, work: Path, cell: Cell) -> dict[str, Any]:
    """What a cell gave; run if it is not on disk."""
    kept = work / "cells" / f"{cell.name}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text("utf-8")))
    for left in ("5-federated", "5-federated.partial", "silos"):
        shutil.rmtree(run / left, ignore_errors=True)
    metrics = federate(run, cell.settings())
    rounds = rounds_of(run)
    clients = json.loads((run / "5-federated" / "clients.json").read_text("utf-8"))
    seen = {
        "union_bpb": round(float(np.mean([row["bpb"] for row in clients.values()])), 4),
        "validation_bpb": metrics["validation_bpb"][-1],
        "private_tokens": metrics["private_tokens"],
        "excluded": metrics["excluded_replies"],
        "mb_up": round(metrics["bytes_up"] / 1e6, 2),
        "mb_down": round(metrics["bytes_down"] / 1e6, 2),
    }
    for note in ("aggregation_error", "naive_error"):
        values = [record["notes"][note] for record in rounds if note in record["notes"]]
        seen |= {note: float(f"{np.mean(values):.3g}")} if values else {}
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, json.dumps(seen))
    return seen


def _base_bpb(run: Path, kept: Path) -> float:
    """The public base on what the cells are tested on."""
    from commonroot.artifact import load_artifact
    from federate.local import Workbench
    from federate.plan import FederateConfig
    from federate.shards.stage import clients_of
    from federate.stage import open_silos

    if not kept.exists():
        config = FederateConfig.model_validate(Cell(FULL, 0, 5, "natural", LRS[0]).settings())
        bench = Workbench(run / "3-base", config.compute)
        shards = load_artifact(run / "4-shards", "shards")
        silos, _ = open_silos(config, clients_of(shards), bench, run)
        tests = [silo.split.test for silo in silos.values()]
        bpb = [bench.bits_per_byte(bench.eval_set(test, config.test_blocks)) for test in tests]
        write_atomic(kept, json.dumps(float(np.mean(bpb))))
    return float(json.loads(kept.read_text("utf-8")))


def _mean_gains(table: list[dict[str, Any]]) -> dict[str, float]:
    """Each way's gain in bpb over its cells."""
    names = dict.fromkeys(row["aggregator"] for row in table)
    return {
        name: round(float(np.mean([r["gain"] for r in table if r["aggregator"] == name])), 4)
        for name in names
    }
