"""Line 10: what is forgotten of the public text, over shares of replay."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.federated.gap import FEW
from tests.benchmarks.federated.setting import DEMO, ROOT, branch, call, demo_run, made_by
from tests.benchmarks.record import Result

__all__ = ["SHORT_END", "line_10", "measure"]

CONFIG = ROOT / "configs" / "demo.toml"
SHARES = (0.0, 0.25, 0.5)
SEEDS = (0, 1, 2)
SHORT_END = ["federate.personal.steps=1", "federate.personal.svrg=0", "federate.personal.batch=1"]
"""No personal models: the global one is measured."""


def line_10(result: Result, work: Path, quick: bool = False) -> None:
    """Union and public bpb of the federated model for each share of public blocks."""
    run = demo_run(work, DEMO, CONFIG)
    seeds, shares = (SEEDS[:1], SHARES[::2]) if quick else (SEEDS, SHARES)
    table = {
        str(share): _means([_one(run, work, share, seed, quick) for seed in seeds])
        for share in shares
    }
    plain = table["0.0"]
    for row in table.values():
        row["public_above_base"] = row["public"] - row["base_public"]
        gain, whole = row["base_union"] - row["union"], plain["base_union"] - plain["union"]
        row["gain_lost"] = 1 - gain / whole if whole > 0 else 1.0
    good = [s for s, r in table.items() if r["public_above_base"] <= 0.1 and r["gain_lost"] <= 0.03]
    value = {"shares": table, "shares_that_meet_both": good, "seeds": len(seeds)}
    goal = "a share with public <= 0.10 above the base and <= 3 % of the union gain lost"
    result.add("10", value, goal, bool(good), made_by(10))


def _one(run: Path, work: Path, share: float, seed: int, quick: bool) -> dict[str, float]:
    own = branch(run, work / f"replay-{share:g}-{seed}")
    changes = [f"federate.local.replay={share}", f"federate.seed={seed}", *SHORT_END]
    changes += FEW if quick else []
    words = [word for change in changes for word in ("--set", change)]
    call(own / "log", "federate", "--config", CONFIG, "--run", own, *words)
    return measure(own)


def measure(run: Path) -> dict[str, float]:
    """Union and public bpb of the base and of the federated model of `run`."""
    from commonroot.artifact import load_artifact, write_atomic
    from federate.local import Workbench
    from federate.plan import FederateConfig
    from federate.shards.stage import clients_of
    from federate.stage import open_silos
    from pretrain.corpus import corpus_texts

    federated = load_artifact(run / "5-federated", "federated")
    kept = run / f"measured-{federated.digest[:12]}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text("utf-8")))
    config = FederateConfig.model_validate(federated.config)
    heldout = corpus_texts(load_artifact(run / "2-corpus", "corpus"), "heldout")
    found: dict[str, float] = {}
    for name, folder in (("base_", run / "3-base"), ("", federated.path)):
        bench = Workbench(folder, config.compute)
        shards = load_artifact(run / "4-shards", "shards")
        silos, _ = open_silos(config, clients_of(shards), bench, run)
        texts = [bench.eval_set(silo.split.test, config.test_blocks) for silo in silos.values()]
        found[f"{name}union"] = float(np.mean([bench.bits_per_byte(text) for text in texts]))
        found[f"{name}public"] = bench.bits_per_byte(bench.eval_set(heldout, 72))
    write_atomic(kept, json.dumps(found))
    return found


def _means(rows: list[dict[str, float]]) -> dict[str, Any]:
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    values = {f"{name}_of_seeds": [round(row[name], 4) for row in rows] for name in rows[0]}
    return means | values
