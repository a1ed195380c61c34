"""What more tokens would give: a power law with a floor, fitted to held-out bpb along the run.

L(D) = E + A·D^-b after D tokens at a constant learning rate (the form of Hoffmann et al. 2022,
https://arxiv.org/abs/2203.15556, at one model size). What the learning rate's fall gains at the
end is taken to be the same at any length (Hu et al. 2024, https://arxiv.org/abs/2404.06395).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Outlook", "fit", "measure_after", "outlook", "outlook_of"]

Floats = npt.NDArray[np.float64]

POWERS = np.linspace(0.05, 1.5, 146)
FEWEST = 5
"""Points below which three parameters are not fitted."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Outlook:
    """A fitted line and where it leads."""

    floor: float
    """E, bits per byte."""
    scale: float
    """A, bits per byte after one token."""
    power: float
    """b."""
    cooldown: float
    """Bits per byte that the fall of the learning rate changed, against the line."""
    times: float
    """Tokens of the outlook as a multiple of the run's."""
    bpb: float
    low: float
    """With `high` a 95 % interval of the fit alone."""
    high: float


def measure_after(steps: int, warmup: int, decay: float, points: int) -> list[int]:
    """Steps after which to measure held-out bpb: `points` of them evenly spread in log tokens over
    the constant part, and the last one; none if `points` is 0.

    It starts where ten times the warm-up or a tenth of the run is over: before, it is no power law.
    """
    if not points:
        return []
    last = max(1, steps - round(steps * decay))
    first = min(last, max(10 * warmup, steps // 10, 1), max(1, last // 4))
    spread = np.geomspace(first, last, points).round().astype(int)
    return sorted({*spread.tolist(), steps})


def fit(tokens: Sequence[float], bpb: Sequence[float]) -> tuple[float, float, float]:
    """E, A and b by least squares, none below zero."""
    x, y = np.asarray(tokens, float), np.asarray(bpb, float)
    at = x[-1]
    floor, scale, power = (float(found[0]) for found in _fit(x / at, y[:, None]))
    return floor, scale * at**power, power


def outlook(
    tokens: Sequence[float], bpb: Sequence[float], total: float, final: float, times: float = 10.0
) -> Outlook | None:
    """Where bpb would be after `times` as many tokens as `total`, of the same kind of fresh text.

    `tokens`, `bpb`: the constant part; `final`: the same measure after `total` tokens, cooled down.
    The interval comes from resampled residuals: it holds the noise of the points, not whether the
    power law goes on. None with fewer than five points.
    """
    if len(tokens) < FEWEST:
        return None
    x, y = np.asarray(tokens, float) / total, np.asarray(bpb, float)
    (floor,), (scale,), (power,) = _fit(x, y[:, None])
    cooldown = final - (floor + scale)
    line = floor + scale * x**-power
    spread = (y - line) * np.sqrt(len(x) / max(1, len(x) - 3))  # three parameters took their part
    drawn = np.random.default_rng(0).choice(spread, (len(x), RESAMPLES))
    _, scales, powers = _fit(x, line[:, None] + drawn)
    # Each line is held to what the run really ended at, as the outlook itself is.
    ends = final + scales * (times**-powers - 1)
    low, high = np.quantile(ends, (0.025, 0.975))
    bpb_then = float(final + scale * (times**-power - 1))
    return Outlook(
        floor=float(floor),
        scale=float(scale * total**power),
        power=float(power),
        cooldown=float(cooldown),
        times=times,
        bpb=bpb_then,
        low=min(float(low), bpb_then),
        high=max(float(high), bpb_then),
    )


def outlook_of(
    log: Sequence[Mapping[str, Any]], step_tokens: int, whole: float
) -> dict[str, Any] | None:
    """`outlook` of the records that hold `heldout_bpb`, the last one being the run's end.

    Points are measured on few blocks, so all are moved by what the last one is away from `whole`,
    the final bpb on all of the held-out text. With the points themselves: `points` lists (tokens,
    bpb).
    """
    seen = [
        ((record["step"] + 1) * step_tokens, record["heldout_bpb"])
        for record in log
        if "heldout_bpb" in record
    ]
    if len(seen) <= FEWEST:
        return None
    moved = whole - seen[-1][1]
    seen = [(tokens, bpb + moved) for tokens, bpb in seen]
    *steady, (total, final) = seen
    tokens, bpb = [one for one, _ in steady], [one for _, one in steady]
    found = outlook(tokens, bpb, total, final)
    return {**asdict(found), "points": seen} if found else None


def _fit(x: Floats, y_NR: Floats) -> tuple[Floats, Floats, Floats]:
    """Floor, scale and power of each of R series over the same N tokens."""
    best = np.full(y_NR.shape[1], np.inf)
    found = np.zeros((3, y_NR.shape[1]))
    for power in POWERS:
        z = x**-power
        scale = _slope(z, y_NR)
        floor = y_NR.mean(0) - scale * z.mean()
        bare = z @ y_NR / (z @ z)  # the best scale if the floor is at zero
        floor, scale = np.where(floor < 0, 0.0, floor), np.where(floor < 0, bare, scale)
        floor, scale = np.where(scale < 0, y_NR.mean(0), floor), np.maximum(scale, 0.0)
        error = ((y_NR - floor - z[:, None] * scale) ** 2).sum(0)
        better = error < best
        best = np.where(better, error, best)
        found = np.where(better, np.stack([floor, scale, np.full_like(best, power)]), found)
    return found[0], found[1], found[2]


def _slope(z: Floats, y_NR: Floats) -> Floats:
    middle = z - z.mean()
    slope: Floats = middle @ y_NR / (middle @ middle)
    return slope
