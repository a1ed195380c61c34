"""Line 5: time to a target on devices of ten-fold speed spread, a fifth of the requests lost.

The clock is virtual: what a request takes follows from the device's profile alone. All modes start
from one base on the same devices, and run until about the same number of private tokens was trained
on; they differ in when they ask, for how many steps, and in what they wait for. The target is the
validation bpb at which synchronous rounds have 80 % of all that they gain.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.federated.setting import folder_of, made_by, make_run
from tests.benchmarks.record import Result

if TYPE_CHECKING:
    from federate.plan import FederateConfig
    from federate.population import Population

__all__ = ["line_5"]

LINE = 5
SHARE_OF_GAIN = 0.8
SOONER = 3.0
SAME = 0.01
COHORT = 8
ROUNDS = {
    "synchronous": 30,
    "synchronous, adapted steps": 41,
    "deadline, adapted steps": 33,
    "fedbuff": 24,
}
"""For equal tokens: synchronous rounds lose a fifth of their replies, adapted ones are of fewer
steps."""
SPEEDS = {1000.0: 4, 333.0: 3, 100.0: 3}
"""Tokens a second -> parts of the clients: 5, 15 and 51 s for a whole request."""
DROPOUT = 0.2

COMMON: dict[str, Any] = {
    "cohort": COHORT,
    "local": {"steps": 10, "batch": 4, "lr": 6e-3},
    "evaluate_every": 1,
    "evaluate_clients": 16,
    "evaluate_blocks": 4,
    "personal": {"steps": 1},
    "test_blocks": 1,
    "test_clients": 1,
    "keep_best": False,
    "compute": {"threads": 1},
}
PATIENT, HURRIED, ADAPTED = 66.0, 20.0, 15.0
"""Time-outs of synchronous rounds, the first just above the slowest device; and the time for which
steps are adapted. Virtual seconds."""
MODES: dict[str, dict[str, Any]] = {
    "synchronous": {"pacing": {"timeout_s": PATIENT}},
    "synchronous, adapted steps": {"pacing": {"timeout_s": HURRIED}, "adapt": True},
    "deadline, adapted steps": {
        "pacing": {
            "mode": "deadline",
            "deadline_s": HURRIED,
            "timeout_s": PATIENT,
            "over_selection": 1.75,
        },
        "adapt": True,
    },
    "fedbuff": {
        "pacing": {
            "mode": "fedbuff",
            "timeout_s": PATIENT,
            "concurrency": 2 * COHORT,
            "buffer": COHORT,
        },
    },
}


def line_5(result: Result, work: Path, quick: bool = False) -> None:
    """All modes over the demo's 43 clients; `quick`: two rounds each."""
    run = make_run(work / "small")
    silos, base = clients(run), run / "3-base"
    few = {"rounds": 2} if quick else {}
    still = _curve(silos, base, work, "base", {"rounds": 1, "local": {"steps": 1, "lr": 1e-12}})
    start = still[0]["validation_bpb"]
    curves = {
        name: _curve(silos, base, work, name, {"rounds": ROUNDS[name], **mode, **few})
        for name, mode in MODES.items()
    }
    slow = curves["synchronous"]
    target = start - SHARE_OF_GAIN * (start - _end(slow))
    seen = {name: _figures(curve, target) for name, curve in curves.items()}
    waited = seen["synchronous"]["target_after_s"]
    for figures in seen.values():
        reached = figures["target_after_s"]
        figures["times_sooner"] = round(waited / reached, 2) if waited and reached else None
        figures["final_bpb_ratio"] = round(figures["final_bpb"] / _end(slow), 4)
    value = {
        "base_bpb": round(start, 4),
        "target_bpb": round(target, 4),
        "share_of_gain": SHARE_OF_GAIN,
        "cohort": COHORT,
        "tokens_per_s": list(SPEEDS),
        "dropout": DROPOUT,
        "timeouts_s": {"synchronous": PATIENT, "adapted, deadline": HURRIED, "fedbuff": PATIENT},
        "modes": seen,
    }
    good = [
        name
        for name in ("deadline, adapted steps", "fedbuff")
        if (seen[name]["times_sooner"] or 0) >= SOONER
        and abs(seen[name]["final_bpb_ratio"] - 1) <= SAME
    ]
    goal = "fedbuff or deadline >= 3x sooner than synchronous rounds, same final bpb +- 1 %"
    result.add(str(LINE), value, goal, bool(good), made_by(LINE))


def clients(run: Path) -> "Population":
    """The demo's clients, whose text is read and packed once for all modes."""
    from commonroot.artifact import load_artifact
    from federate.local import Workbench
    from federate.population import Population
    from federate.shards.stage import clients_of

    config = _config({})
    bench = Workbench(run / "3-base", config.compute)
    shards = clients_of(load_artifact(run / "4-shards", "shards"))
    silos = Population(shards, run / "silos", bench, config.silo, warm=len(shards))
    silos.leave_out_unusable()
    return silos


def _curve(
    silos: "Population", base: Path, work: Path, name: str, mode: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The records of all rounds of one mode: the round loop over the in-process engine.

    Not the stage, which would read and pack all shards again for each mode.
    """
    from commonroot.progress import MetricsLog
    from federate.engines import inprocess
    from federate.plan import Plan
    from federate.rounds import run_rounds

    folder = work / folder_of(name)
    if not (folder / "ended").exists():
        folder.mkdir(parents=True, exist_ok=True)
        silos.homes = folder / "silos"
        plan = Plan("line5", folder, base, len(silos), _config(mode))
        inprocess.run(lambda grid: run_rounds(grid, plan), silos)
        (folder / "ended").touch()
    return MetricsLog(folder / "metrics.jsonl").read()


def _config(mode: Mapping[str, Any]) -> "FederateConfig":
    from federate.plan import FederateConfig

    changes = {key: value for key, value in mode.items() if key != "adapt"}
    devices = {
        "adapt": mode.get("adapt", False),
        "target_s": ADAPTED,
        "jitter": 0.1,
        "profiles": [
            {"name": f"{speed:g}", "tokens_per_s": speed, "share": share, "dropout": DROPOUT}
            for speed, share in SPEEDS.items()
        ],
    }
    return FederateConfig.model_validate(COMMON | {"devices": devices} | changes)


def _end(curve: list[dict[str, Any]]) -> float:
    """Mean validation bpb of the last three rounds: one alone is noisy."""
    last = [record["validation_bpb"] for record in curve[-3:]]
    return float(sum(last) / len(last))


def _figures(curve: list[dict[str, Any]], target: float) -> dict[str, Any]:
    reached = [r for r in curve if r["validation_bpb"] <= target]
    asked = sum(len(record["cohort"]) for record in curve)
    return {
        "target_after_s": reached[0]["virtual_s"] if reached else None,
        "target_after_rounds": reached[0]["round"] + 1 if reached else None,
        "seconds_a_round": round(curve[-1]["virtual_s"] / len(curve), 1),
        "final_bpb": round(_end(curve), 4),
        "updates": sum(len(record["clients"]) for record in curve),
        "asked": asked,
        "tokens": sum(record["tokens"] for record in curve),
        "void_rounds": sum(record["void"] for record in curve),
    }
