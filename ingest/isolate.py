"""Run a function on untrusted input in child processes that may hang, explode or die.

A page that does so costs itself and nothing else: its child is killed by the CPU or memory limit
of the kernel and a new one takes over.
"""

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

__all__ = ["Limits", "Lost", "run_isolated"]

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True)
class Limits:
    """What one job may use: CPU seconds, and bytes of address space of its process."""

    cpu_s: int = 10
    memory: int = 4 * 2**30

    @property
    def wall_s(self) -> float:
        """Backstop for a job that sleeps; wide, so that a busy machine changes no result."""
        return 12.0 * self.cpu_s + 60.0


@dataclass(frozen=True)
class Lost:
    """A job that gave no result: `cpu-limit`, `memory-limit`, `crash` or an exception's name."""

    reason: str


def run_isolated(
    work: Callable[[J], R], jobs: Iterable[J], limits: Limits, workers: int
) -> Iterator[tuple[J, R | Lost]]:
    """Yield (job, result) as they come, in no order. `work` is a module's function (picklable)."""
    waiting = iter(jobs)
    children = [_Child(work, limits) for _ in range(workers)]
    try:
        busy = [child for child in children if child.take(waiting)]
        while busy:
            ready = wait([child.pipe for child in busy], timeout=1.0)
            for child in list(busy):
                if child.pipe in ready or child.overdue():
                    yield child.job, child.result()
                    if not child.take(waiting):
                        busy.remove(child)
    finally:
        for child in children:
            child.stop()


class _Child(Generic[J, R]):
    def __init__(self, work: Callable[[J], R], limits: Limits) -> None:
        self._work, self._limits = work, limits
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._work, self._limits), daemon=True
        )
        self._process.start()
        theirs.close()

    def take(self, jobs: Iterator[J]) -> bool:
        """Send the next job; False if there is none."""
        try:
            self.job = next(jobs)
        except StopIteration:
            return False
        self._since = time.monotonic()
        self.pipe.send(self.job)
        return True

    def overdue(self) -> bool:
        return time.monotonic() - self._since > self._limits.wall_s

    def result(self) -> R | Lost:
        """The result of the job; starts a new process if this one is gone or hangs."""
        if not self.overdue():
            try:
                answer: R | Lost = self.pipe.recv()
                return answer
            except (EOFError, OSError):
                pass
        lost = Lost(self._cause())
        self.stop()
        self._start()
        return lost

    def _cause(self) -> str:
        if self.overdue():
            return "time-limit"
        self._process.join(5.0)
        return "cpu-limit" if self._process.exitcode == -signal.SIGXCPU else "crash"

    def stop(self) -> None:
        self.pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()


def _serve(pipe: Connection, work: Callable[[Any], Any], limits: Limits) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        used = sum(os.times()[:2])
        ceiling = int(used) + limits.cpu_s + 1
        resource.setrlimit(resource.RLIMIT_CPU, (ceiling, resource.RLIM_INFINITY))
        pipe.send(_attempt(work, job))


def _attempt(work: Callable[[Any], Any], job: Any) -> Any:
    try:
        return work(job)
    except MemoryError:
        return Lost("memory-limit")
    except Exception as error:  # whatever a parser raises on a hostile page costs that page only
        return Lost(type(error).__name__)
