"""When training goes wrong: a loss that is no number, or one that jumps and stays up.

One odd batch is no reason to stop: its gradient is clipped, and the loss is back at the next step.
A run that diverges stays above. So a spike is several losses in a row that lie far above the
latest ones, by their median and their median absolute deviation, which no single loss can move.
"""

import statistics
from collections import deque
from collections.abc import Iterable

from pydantic import Field

from commonroot.config import Section
from commonroot.errors import DivergedError

__all__ = ["Safety", "SpikeWatch"]

AT_LEAST = 32
"""Losses before anything can be called a spike."""
NORMAL = 1.4826
"""Standard deviation of a normal distribution whose median absolute deviation is one."""
SMALLEST = 0.02
"""Nats a token below which a spread counts as this."""


class Safety(Section):
    """What is done about a loss that is no number, or one that jumps."""

    spike: float = Field(10.0, ge=0)
    """Standard deviations above the median of the latest losses that are a spike; 0: only a loss
    that is no number is."""
    window: int = Field(128, ge=32)
    """Losses that make up the latest ones."""
    patience: int = Field(3, ge=1)
    """Steps in a row that have to be above."""
    rollbacks: int = Field(3, ge=0)
    """How often a run goes back to a checkpoint and leaves out the batches since; then it stops."""


class SpikeWatch:
    """Compares every loss with the latest ones."""

    def __init__(self, safety: Safety, losses: Iterable[float] = ()) -> None:
        self._safety = safety
        self._latest = deque(losses, maxlen=safety.window)
        self._above = 0

    @property
    def calm(self) -> bool:
        """Whether the last loss was an ordinary one: no other state is worth a checkpoint."""
        return not self._above

    @property
    def losses(self) -> tuple[float, ...]:
        """What a resumed run has to know."""
        return tuple(self._latest)

    def see(self, step: int, loss: float) -> None:
        """Raises DivergedError if this and the losses before it are a spike."""
        limit = self._limit()
        if limit is None or loss <= limit:
            self._above = 0
            self._latest.append(loss)
            return
        self._above += 1
        if self._above >= self._safety.patience:
            usual = statistics.median(self._latest)
            raise DivergedError(step, f"the loss is {loss:.3f}, usual is {usual:.3f}")

    def _limit(self) -> float | None:
        if not self._safety.spike or len(self._latest) < AT_LEAST:
            return None
        median = statistics.median(self._latest)
        spread = NORMAL * statistics.median(abs(loss - median) for loss in self._latest)
        return median + self._safety.spike * max(spread, SMALLEST)
