"""Learning rates and replay of the arms, folded away in the comparison's report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from commonroot import report
from federate.comparison.plots import ARMS
from federate.plan import FederateConfig

if TYPE_CHECKING:
    from federate.comparison.stage import CompareConfig

__all__ = ["learning_rates"]

Metrics = Mapping[str, Any]


def learning_rates(
    metrics: Metrics, tables: Metrics, rounds: FederateConfig, section: "CompareConfig"
) -> str:
    """What each arm was trained with and, after tuning, what else was tried."""
    replay = (
        f"Public text mixed into training, blocks for each private block: {rounds.local.replay:g} "
        f"in every arm, {rounds.personal.replay:g} in personalisation."
    )
    used = report.table(
        ["model", "peak learning rate"],
        [[ARMS[arm], f"{lr:g}"] for arm, lr in metrics["lr"].items()],
    )
    return report.details(
        "Learning rates", report.prose(replay), used, *_grid(metrics, tables, section)
    )


def _grid(metrics: Metrics, tables: Metrics, section: "CompareConfig") -> list[str]:
    tuning: Mapping[str, Any] = tables.get("tuning", {})
    if not tuning:
        return [report.prose("As configured; compare.tune = true tries them all on one grid.")]
    grid = sorted(set(section.grid))
    names = {**ARMS, "from_scratch": "federated from random weights"}
    rows = []
    for arm, found in tuning.items():
        tried = dict(map(tuple, found["tried"]))
        cells = [_tried(tried[lr], lr == found["best"]) for lr in grid]
        rows.append([names[arm], *cells, _remark(found["best"], metrics["lr"].get(arm), grid)])
    return [
        report.prose(
            f"Bits per byte on the clients' validation text with {section.tune_share:.0%} of the "
            "steps; * marks the best."
        ),
        report.table(["model", *(f"{lr:g}" for lr in grid), ""], rows),
    ]


def _remark(best: float, used: float | None, grid: Sequence[float]) -> str:
    """What a reader should know about an arm's best learning rate."""
    edge = ["at the end of the grid"] if best in (grid[0], grid[-1]) else []
    other = [f"configured and used: {used:g}"] if used not in (None, best) else []
    return "; ".join(edge + other)


def _tried(bpb: float | None, best: bool) -> str:
    return "diverged" if bpb is None else f"{bpb:.3f}{' *' if best else ''}"
