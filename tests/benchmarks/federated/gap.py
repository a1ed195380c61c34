"""Lines 1 and 2: how near federated training comes to pooled training, and what clients get."""

import json
from pathlib import Path
from typing import Any

from commonroot.artifact import load_artifact, write_atomic
from tests.benchmarks.federated.setting import call, demo_run, made_by
from tests.benchmarks.record import Result

__all__ = ["compared", "line_1", "line_2"]

CONFIG = Path("configs/gap.toml")
SEEDS = 3
HELD_OUT = 5
FEW = ["federate.rounds=1", "federate.personal.steps=1", "federate.test_blocks=1"]
"""For a quick walk."""


def line_1(result: Result, work: Path, quick: bool = False) -> None:
    """Gap between local-only and centralised closed, and the IID control."""
    seen = compared(work, quick)
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
        "iid_minus_matched_updates_of_plain_steps": seen["iid_minus_matched_updates_plain"],
        "iid_minus_natural": [
            one - other
            for one, other in zip(
                spread["federated_iid"]["union_bpb"]["values"],
                spread["federated"]["union_bpb"]["values"],
                strict=True,
            )
        ],
        "twice_the_seed_spread": noise,
        "private_tokens": seen["federated"]["tokens"],
    }
    enough = (updates or 0) >= 0.90 and (tokens or 0) >= 0.65
    ok = enough and abs(control["mean"]) <= noise
    goal = ">= 90 % at matched updates, >= 65 % at matched tokens; IID within seed noise"
    result.add("1", value, goal, ok, made_by(1))


def line_2(result: Result, work: Path, quick: bool = False) -> None:
    """Personal models beside local-only and centralised, and what newcomers get."""
    seen = compared(work.with_name("line-1"), quick)
    seeds = range(1 if quick else SEEDS)
    rows = [row for seed in seeds for row in _newcomers(work / f"seed-{seed}", seed, quick)]
    wins = [row["personalised"] < min(row["local_only"], row["local_only_long"]) for row in rows]
    mean = seen["personalised"]["own_bpb"]
    central = [arm for arm in seen["spread"] if arm.startswith("centralised")]
    better = {arm: mean < seen[arm]["own_bpb"] for arm in central}
    value = {
        "personalised_beats_local": seen["personalised_beats_local"],
        "clients": seen["clients"],
        "own": {arm: seen["spread"][arm]["own_bpb"] for arm in seen["spread"]},
        "personalised_beats_centralised_on_the_mean": better,
        "held_out": rows,
        "held_out_wins": f"{sum(wins)} of {len(wins)}",
    }
    ok = seen["personalised_beats_local"] >= 41 and wins and all(wins) and all(better.values())
    goal = ">= 41 of 43; better than centralised on the mean; all held-out clients"
    result.add("2", value, goal, bool(ok), made_by(2))


def compared(work: Path, quick: bool) -> dict[str, Any]:
    """Metrics of the comparison in `work`, made by the commands that a user has."""
    run = demo_run(work)
    changes = [f"compare.seeds={1 if quick else SEEDS}", *(FEW if quick else [])]
    words = [word for change in changes for word in ("--set", change)]
    for stage in ("federate", "compare"):
        call(work / "log", stage, "--config", CONFIG, "--run", run, *words)
    manifest = json.loads((run / "6-comparison" / "manifest.json").read_text("utf-8"))
    return dict(manifest["metrics"])


def _newcomers(work: Path, seed: int, quick: bool) -> list[dict[str, Any]]:
    """Clients that no round has seen: own bpb by model, a row a client.

    Local-only is measured twice: with the steps that personalisation takes, and with as many as
    clients in rounds had on the mean.
    """
    from commonroot.cli import STAGES
    from commonroot.config import load_tables, parse_section
    from federate.comparison.arms import newcomers
    from federate.comparison.stage import CompareConfig, open_study

    run = demo_run(work)
    changes = [f"federate.hold_out={HELD_OUT}", f"federate.seed={seed}", *(FEW if quick else [])]
    words = [word for change in changes for word in ("--set", change)]
    call(work / "log", "federate", "--config", CONFIG, "--run", run, *words)
    kept = work / f"newcomers-{load_artifact(run / '5-federated', 'federated').digest[:12]}.json"
    if not kept.exists():
        section = parse_section(CompareConfig, "compare", load_tables(CONFIG, [], STAGES))
        study = open_study(section, run, work / "reruns", work)
        found = newcomers(study.trial(0))
        rows = [{"seed": seed, "client": client, **row} for client, row in found.items()]
        write_atomic(kept, json.dumps(rows))
    return list(json.loads(kept.read_text("utf-8")))
