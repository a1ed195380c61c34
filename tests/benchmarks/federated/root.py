"""Line 4: what the public root is worth at equal federated rounds."""

from pathlib import Path

from tests.benchmarks.federated.setting import federate, made_by, make_run
from tests.benchmarks.record import Result

__all__ = ["line_4"]

STOPS = (10, 20, 50)
ROUNDS = {
    "rounds": 4,
    "cohort": 8,
    "evaluate_every": 5,
    "evaluate_blocks": 2,
    "test_blocks": 4,
    "local": {"steps": 10, "batch": 4, "lr": 8e-3},
    "personal": {"steps": 1, "lr": 8e-3},
    "compute": {"threads": 1},
}


def line_4(result: Result, work: Path, quick: bool = False) -> None:
    """The same rounds from the base and from random weights (small model)."""
    from federate.comparison.stage import CompareConfig
    from federate.comparison.stage import run as compare

    run = make_run(work)
    federate(run, ROUNDS | ({"rounds": 1} if quick else {}))
    stops = (1, 2) if quick else STOPS
    section = CompareConfig(
        matched_updates=False,
        scratch_rounds=stops,
        scratch_lr=8e-3 if quick else None,
        grid=(4e-3, 8e-3, 1.6e-2),
        public_blocks=24,
    )
    seen = compare(section, run).metrics["from_scratch"]
    stated = [row["rounds"] for row in seen["at"]] == list(stops)
    goal = "the difference in bits per byte stated at 10, 20 and 50 rounds"
    result.add("4", seen, goal, stated, made_by(4))
