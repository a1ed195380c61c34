"""Line 3: fewer bytes than the text itself has, at nearly the gain of full-precision averaging."""

import json
from pathlib import Path
from typing import Any

from tests.benchmarks.federated.gap import FEW
from tests.benchmarks.federated.retention import SHORT_END, measure
from tests.benchmarks.federated.setting import branch, call, demo_run, made_by, rounds_of
from tests.benchmarks.record import Result

__all__ = ["line_3"]

CONFIG = Path("configs/low-bandwidth.toml")
PLAIN = [
    f"federate.{change}"
    for change in (
        "up.bits=32",
        "down.bits=32",
        "rounds=8",
        "server_lr=1",
        "evaluate_every=8",
        "local.steps=10",
        "local.svrg=0",
        "local.lr=1.6e-2",
    )
]
"""FedAvg of all weights in fp32 with as many tokens: the best of what was tried."""


def line_3(result: Result, work: Path, quick: bool = False) -> None:
    """configs/low-bandwidth.toml beside full-weight fp32 FedAvg with as many tokens."""
    run = demo_run(work)
    few = FEW if quick else []
    low = _measured(run, work / "low", few)
    full = _measured(run, work / "full", [*PLAIN, *few])
    gain = {
        name: seen["base_union"] - seen["union"] for name, seen in (("low", low), ("full", full))
    }
    private = _private(run)
    moved = low["bytes_up"] + low["bytes_down"]
    value = {
        "moved_bytes": moved,
        "up": low["bytes_up"],
        "down": low["bytes_down"],
        "private_zstd_bytes": private["private_zstd"],
        "private_zstd_best_bytes": private["private_zstd_best"],
        "private_raw_bytes": private["private_raw"],
        "share_of_the_gain": round(gain["low"] / gain["full"], 4),
        "union": {"base": low["base_union"], "low": low["union"], "full": full["union"]},
        "tokens": {"low": low["tokens"], "full": full["tokens"]},
        "full_moved_bytes": full["bytes_up"] + full["bytes_down"],
        "last_delivery_bytes": low["bytes_final"],
    }
    ok = moved < private["private_zstd_best"] and gain["low"] >= 0.9 * gain["full"]
    goal = "rounds up and down below the zstd-compressed private bytes; >= 90 % of the gain"
    result.add("3", value, goal, ok, made_by(3))


def _measured(run: Path, folder: Path, changes: list[str]) -> dict[str, Any]:
    """Figures of the low-bandwidth config with these changes."""
    own = branch(run, folder)
    words = [word for change in [*SHORT_END, *changes] for word in ("--set", change)]
    call(folder / "log", "federate", "--config", CONFIG, "--run", own, *words)
    metrics = json.loads((own / "5-federated" / "manifest.json").read_text("utf-8"))["metrics"]
    rounds = rounds_of(own)
    return {
        "bytes_up": sum(record["bytes_up"] for record in rounds),
        "bytes_down": sum(record["bytes_down"] for record in rounds),
        "bytes_final": metrics["bytes_final"],
        "tokens": metrics["private_tokens"],
        **measure(own),
    }


def _private(run: Path) -> dict[str, int]:
    """Bytes of all clients' text."""
    from commonroot.artifact import load_artifact
    from federate.comparison.verdict import private_bytes
    from federate.local import Workbench
    from federate.plan import FederateConfig
    from federate.shards.stage import clients_of
    from federate.stage import open_silos

    clients = clients_of(load_artifact(run / "4-shards", "shards"))
    silos, _ = open_silos(FederateConfig(), clients, Workbench(run / "3-base"), run)
    return private_bytes([silo.split for silo in silos.values()])
