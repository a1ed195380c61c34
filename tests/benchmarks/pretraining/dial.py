"""Lines 6 and 7: what the dial chooses beside a grid made by hand, and the demo's base model.

A minute is what the machine does in it when it is quiet: every size gets the tokens that its
measured speed allows, so that a run that was slowed down by others is none the worse.
"""

import json
from pathlib import Path
from typing import Any

from commonroot.artifact import load_artifact, write_atomic
from tests.benchmarks.federated.setting import DEMO, ROOT, call
from tests.benchmarks.pretraining.setting import made_by, pretrain, run_folder
from tests.benchmarks.record import Result

__all__ = ["line_6", "line_7"]

MINUTES = (1, 4)
HAND = [
    {"hidden": 64, "layers": 3, "heads": 2, "kv_heads": 1, "intermediate": 192, "vocab": 2048},
    {"hidden": 96, "layers": 4, "heads": 3, "kv_heads": 3, "intermediate": 288, "vocab": 2048},
    {"hidden": 128, "layers": 4, "heads": 4, "kv_heads": 2, "intermediate": 384, "vocab": 2048},
    {"hidden": 128, "layers": 4, "heads": 4, "kv_heads": 2, "intermediate": 384, "vocab": 4096},
    {"hidden": 160, "layers": 5, "heads": 5, "kv_heads": 5, "intermediate": 480, "vocab": 4096},
    {"hidden": 192, "layers": 6, "heads": 6, "kv_heads": 3, "intermediate": 576, "vocab": 4096},
]
WITHIN = 1.03


def line_6(result: Result, work: Path, quick: bool = False) -> None:
    """Held-out bpb of the dial's choice and of the best of six settings, at 1 and 4 minutes."""
    demo = _demo(work)
    found = {}
    for minutes in MINUTES[: 1 if quick else None]:
        seconds = 2 if quick else 60 * minutes
        grid = [
            _trained(demo, work, f"{minutes}-hand-{number}", shape, seconds)
            for number, shape in enumerate(HAND[: 1 if quick else None])
        ]
        dial = _trained(demo, work, f"{minutes}-dial", None, seconds)
        best = min(grid, key=lambda run: run["bpb"])
        found[f"{minutes} min"] = {
            "dial": dial,
            "best_by_hand": best,
            "ratio": dial["bpb"] / best["bpb"],
            "grid": grid,
        }
    ok = all(one["ratio"] <= WITHIN for one in found.values())
    goal = "the dial's bpb within 3 % of the best of six settings"
    result.add("6", found, goal, ok, made_by(6))


def line_7(result: Result, work: Path, quick: bool = False) -> None:
    """Held-out bpb of the demo's base model, and five samples."""
    demo = _demo(work)
    call(work / "log", "pretrain", "--config", ROOT / "configs/demo.toml", "--run", demo)
    base = load_artifact(demo / "3-base", "base")
    samples = json.loads((base.path / "samples.json").read_text("utf-8"))
    value = {
        "public_bpb": base.metrics["public_bpb"],
        "parameters": base.metrics["parameters"],
        "tokens": base.metrics["tokens"],
        "samples": samples,
    }
    result.add("7", value, "measured; five samples", len(samples) >= 5, made_by(7))


def _demo(work: Path) -> Path:
    call(work / "log", "ingest", "--config", ROOT / "configs/demo.toml", "--run", DEMO)
    return DEMO


def _trained(
    demo: Path, work: Path, name: str, shape: dict[str, Any] | None, seconds: int
) -> dict[str, Any]:
    """The `pretrain` command with a budget of time; `shape`: as given, or the dial's choice."""
    kept = work / f"{name}.json"
    if not kept.exists():
        table: dict[str, Any] = {
            "budget": f"{seconds}s",
            "moment_batches": 0,
            "replay_blocks": 0,
            "compute": {"threads": 2},
            **({"model": shape} if shape else {}),
        }
        base = load_artifact(pretrain(run_folder(demo, work / name), table), "base")
        found = {
            "shape": base.metrics["shape"],
            "parameters": base.metrics["parameters"],
            "tokens": base.metrics["tokens"],
            "bpb": base.metrics["public_bpb"],
        }
        write_atomic(kept, json.dumps(found))
    return dict(json.loads(kept.read_text("utf-8")))
