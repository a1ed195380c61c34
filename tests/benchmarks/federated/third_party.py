"""Line 11: a strategy in a package of its own is installed, found by its entry point, and runs."""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.federated.setting import ROOT, made_by, make_run
from tests.benchmarks.record import Result

__all__ = ["federate_with_plugin", "install", "line_11", "runs_as_it_should"]

PACKAGE = ROOT / "tests" / "third_party"
NAME = "sign-majority"
SIZE = 1e-3
"""How far the strategy moves a weight: its own option."""
ROUNDS = 2


def install(site: Path) -> None:
    """Install the package into folder `site`, offline, as `pip install` does it for anybody."""
    with tempfile.TemporaryDirectory() as name:
        source = shutil.copytree(PACKAGE, Path(name) / "source")  # building leaves files in it
        flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--upgrade"]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
        command = [*pip, *flags, "--target", str(site), str(source)]
        subprocess.run(command, check=True, timeout=300, capture_output=True)


def federate_with_plugin(run: Path, site: Path, options: Sequence[str] = ()) -> dict[str, Any]:
    """`commonroot federate` with that strategy over `run`'s base and shards, in its own process.

    `site` is where Python looks for packages beside its own. Returns how it ended, and of a run
    that was finished what it says of itself.
    """
    changes = {
        "federate.strategy": NAME,
        "federate.strategy_options": f"{{size = {SIZE}}}",
        "federate.rounds": ROUNDS,
        "federate.evaluate_every": ROUNDS,
        "federate.keep_best": "false",
        "federate.compute.threads": 1,
    }
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(site),
    }
    done = subprocess.run(
        [sys.executable, "-m", "commonroot", "federate", "--run", str(run), *options, *sets],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).strip()
    return {"exit": done.returncode, "said": said} | ({} if done.returncode else _made(run))


def _made(run: Path) -> dict[str, Any]:
    folder = run / "5-federated"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    rounds = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "strategy": manifest["config"]["strategy"],
        "rounds": len(rounds),
        "clients": manifest["metrics"]["clients"],
        "excluded": manifest["metrics"]["excluded_replies"],
        "void_rounds": manifest["metrics"]["void_rounds"],
        "change_norms": [record["delta_norm"] for record in rounds],
        "norm_if_all_move": SIZE * math.sqrt(_parameters(run)),
    }


def _parameters(run: Path) -> int:
    manifest = json.loads((run / "3-base" / "manifest.json").read_text("utf-8"))
    return int(manifest["metrics"]["parameters"])


def runs_as_it_should(seen: dict[str, Any]) -> bool:
    """It ran by its name, and the weights moved as only this strategy moves them: by one step
    each, or in a tie not at all."""
    return (
        seen["exit"] == 0
        and (seen["strategy"], seen["rounds"]) == (NAME, ROUNDS)
        and not seen["excluded"]
        and not seen["void_rounds"]
        and all(0.7 < norm / seen["norm_if_all_move"] <= 1.001 for norm in seen["change_norms"])
    )


def line_11(result: Result, work: Path, quick: bool = False) -> None:
    """Install, run, and fail without the package."""
    run = make_run(work / "run")
    site = work / "site"
    install(site)
    small = [] if not quick else ["--set", "federate.local.steps=2"]
    small += ["--set", "federate.cohort=4", "--set", "federate.test_blocks=1"]
    small += ["--set", "federate.personal.steps=1"]
    shutil.rmtree(run / "5-federated", ignore_errors=True)
    without = federate_with_plugin(run, work / "nothing", small)
    seen = federate_with_plugin(run, site, small)
    value = {key: one for key, one in seen.items() if key != "said"}
    value |= {"package": NAME, "exit_without_it": without["exit"]}
    value["said_without_it"] = without["said"].splitlines()[-1][:160]
    ok = runs_as_it_should(seen) and without["exit"] == 2
    goal = "found by its entry point and runs: exit 0, every weight moved by its rule"
    result.add("11", value, goal, ok, made_by(11))
