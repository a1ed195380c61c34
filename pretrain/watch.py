"""What is seen of a training run while it goes on: bar, metrics.jsonl, tracker, held-out bpb."""

import time
from collections.abc import Callable

from commonroot.progress import Bar, MetricsLog
from commonroot.tracker import Track
from pretrain.train import Step

__all__ = ["Watch"]


class Watch:
    """Told of every step; `tokens` and `seconds` are those of this process, without measuring."""

    def __init__(
        self,
        shown: Bar,
        log: MetricsLog,
        track: Track,
        measure: Callable[[], float],
        peak_tokens: float = 0.0,
    ) -> None:
        """`measure` returns held-out bpb; `peak_tokens`: tokens a second that the machine's peak
        would train, 0: not known."""
        self._shown, self._log, self._track = shown, log, track
        self._measure, self._peak = measure, peak_tokens
        self._began: float | None = None
        self.tokens, self._away = 0, 0.0

    def begin(self, first: int) -> None:
        """The next step is `first`: a run begins, is resumed, or goes back."""
        self._log.keep(first, "step")
        self._shown.start_at(first)
        self._began = self._began or time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        now = time.perf_counter()
        return now - (self._began or now) - self._away

    def step(self, number: int, step: Step, measured: bool = False) -> None:
        """Show and keep step `number`, and measure if asked."""
        self.tokens += step.tokens
        rate = self.tokens / max(self.seconds, 1e-9)
        values = {"loss": step.loss, "grad_norm": step.grad_norm}
        shown: dict[str, float | int | str] = {"loss": step.loss, "tokens/s": int(rate)}
        if self._peak:
            shown["of peak"] = f"{rate / self._peak:.0%}"
        if measured:
            values["heldout_bpb"] = shown["bpb"] = self._measured()
        self._log.write(step=number, **values)
        self._track(number, {**values, "tokens_per_second": rate})
        self._shown.show(**shown)
        self._shown.advance()

    def _measured(self) -> float:
        started = time.perf_counter()
        bpb = self._measure()
        self._away += time.perf_counter() - started
        return bpb
