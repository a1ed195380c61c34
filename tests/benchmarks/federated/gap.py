"""Lines 1 and 2: how near federated training comes to pooled training, and what clients get."""

import json
from pathlib import Path
from typing import Any

from tests.benchmarks.federated.setting import call, demo_run, made_by
from tests.benchmarks.record import Result

__all__ = ["compared", "line_1", "line_2"]

CONFIG = Path("configs/gap.toml")
SEEDS = 3
FEW = ["federate.rounds=1", "federate.personal.steps=1", "federate.test_blocks=1"]
"""For a quick walk."""


def line_1(result: Result, work: Path, quick: bool = False) -> None:
    """Gap between local-only and centralised closed, and the IID control."""
    seen = compared(work, 0, quick)
    updates, tokens = seen["gap_closed_matched_updates"], seen["gap_closed_matched_tokens"]
    control = seen["iid_minus_matched_updates"]
    spread = seen["spread"]
    noise = 2 * max(
        spread[arm]["union_bpb"]["std"] or 0.0
        for arm in ("federated_iid", "centralised_matched_updates")
    )
    value = {
        "gap_closed_matched_updates": updates,
        "gap_closed_matched_tokens": tokens,
        "ratios": seen["ratios"],
        "union": {arm: spread[arm]["union_bpb"] for arm in spread},
        "iid_minus_matched_updates": control,
        "twice_the_seed_spread": noise,
        "private_tokens": seen["federated"]["tokens"],
    }
    enough = (updates or 0) >= 0.90 and (tokens or 0) >= 0.65
    ok = enough and abs(control["mean"]) <= noise
    goal = ">= 90 % at matched updates, >= 65 % at matched tokens; IID within seed noise"
    result.add("1", value, goal, ok, made_by(1))


def line_2(result: Result, work: Path, quick: bool = False) -> None:
    """Personal models beside local-only, and what newcomers get."""
    seen = compared(work.with_name("line-1"), 0, quick)
    apart = compared(work, 5, quick)
    rows = json.loads((work / "6-comparison" / "unseen.json").read_text("utf-8"))
    wins = [row["personalised"] < row["local_only"] for row in _rows(rows)]
    own = {arm: seen["spread"][arm]["own_bpb"] for arm in seen["spread"]}
    value = {
        "personalised_beats_local": seen["personalised_beats_local"],
        "clients": seen["clients"],
        "own": own,
        "held_out": apart["unseen"],
        "held_out_wins": f"{sum(wins)} of {len(wins)}",
    }
    mean = seen["personalised"]["own_bpb"]
    better = {
        arm: mean < seen[arm]["own_bpb"] for arm in ("centralised_matched_updates", "centralised")
    }
    value["personalised_beats_centralised_on_the_mean"] = better
    ok = seen["personalised_beats_local"] >= 41 and wins and all(wins) and all(better.values())
    goal = ">= 41 of 43; better than centralised on the mean; all held-out clients"
    result.add("2", value, goal, bool(ok), made_by(2))


def compared(work: Path, hold_out: int, quick: bool) -> dict[str, Any]:
    """Metrics of the comparison in `work`, made by the commands that a user has."""
    run = demo_run(work)
    changes = [f"federate.hold_out={hold_out}", f"compare.seeds={1 if quick else SEEDS}"]
    changes += ["compare.matched_updates=false", "compare.iid=false"] if hold_out else []
    changes += FEW if quick else []
    words = [word for change in changes for word in ("--set", change)]
    for stage in ("federate", "compare"):
        call(work / "log", stage, "--config", CONFIG, "--run", run, *words)
    manifest = json.loads((run / "6-comparison" / "manifest.json").read_text("utf-8"))
    return dict(manifest["metrics"])


def _rows(tables: Any) -> list[dict[str, float]]:
    """Client rows of all seeds, however they are nested."""
    if isinstance(tables, list):
        return [row for table in tables for row in _rows(table)]
    if "personalised" in tables:
        return [tables]
    return [row for table in tables.values() for row in _rows(table)]
