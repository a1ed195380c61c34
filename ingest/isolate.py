"""Run a function on untrusted input in child processes that may hang, explode or die.

A page that does so costs itself and nothing else: its child is killed by the CPU or memory limit
of the kernel and a new one takes over. Jobs travel in batches, because handing over costs more
than many a job; what else was in the batch of a job that killed its child is done again.
"""

import ctypes
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

BATCH_JOBS, BATCH_BYTES = 32, 4_000_000
"""A batch is closed when it holds so many jobs, or bytes of them."""


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
    work: Callable[[J], R],
    jobs: Iterable[J],
    limits: Limits,
    workers: int,
    size: Callable[[J], int] = lambda _: 0,
) -> Iterator[tuple[J, R | Lost]]:
    """Yield (job, result) as they come, in no order. `work` is a module's function (picklable).

    `size` says how many bytes a job is, about.
    """
    waiting = _Queue(iter(jobs), size)
    children = [_Child(work, limits) for _ in range(workers)]
    try:
        busy = [child for child in children if child.take(waiting)]
        while busy:
            ready = wait([child.pipe for child in busy], timeout=1.0)
            for child in list(busy):
                if child.pipe in ready or child.overdue():
                    yield from child.results(waiting)
                    if not child.take(waiting):
                        busy.remove(child)
            # Jobs given back by a child that died may outlast those who ran out of work.
            busy += [child for child in children if child not in busy and child.take(waiting)]
    finally:
        for child in children:
            child.stop()


class _Queue(Generic[J]):
    """Jobs in batches that grow from one, so that a few jobs are shared out as well."""

    def __init__(self, jobs: Iterator[J], size: Callable[[J], int]) -> None:
        self._jobs, self._size = jobs, size
        self._returned: list[J] = []
        self._most = 1.0

    def batch(self) -> list[J]:
        """The next jobs, none if there are no more."""
        taken: list[J] = []
        room = BATCH_BYTES
        while len(taken) < int(self._most) and room > 0:
            try:
                job = self._returned.pop() if self._returned else next(self._jobs)
            except StopIteration:
                break
            taken.append(job)
            room -= self._size(job)
        self._most = min(BATCH_JOBS, self._most * 1.25)
        return taken

    def give_back(self, jobs: Iterable[J]) -> None:
        self._returned.extend(jobs)


class _Child(Generic[J, R]):
    def __init__(self, work: Callable[[J], R], limits: Limits) -> None:
        self._work, self._limits = work, limits
        self._start()

    def _start(self) -> None:
        # Imports cost as much as a hundred pages: a server does them once for all that it forks.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([self._work.__module__])
        self.pipe, theirs = context.Pipe()
        self._at = context.RawValue(ctypes.c_long, 0)  # place in the batch of the job at work
        self._process = context.Process(
            target=_serve, args=(theirs, self._at, self._work, self._limits), daemon=True
        )
        self._process.start()
        theirs.close()

    def take(self, waiting: _Queue[J]) -> bool:
        """Send the next jobs; False if there are none."""
        self._batch = waiting.batch()
        if not self._batch:
            return False
        self._at.value = 0
        self._seen, self._since = 0, time.monotonic()
        self.pipe.send(self._batch)
        return True

    def overdue(self) -> bool:
        """Whether it has been at one job for too long."""
        if self._at.value != self._seen:
            self._seen, self._since = self._at.value, time.monotonic()
        return time.monotonic() - self._since > self._limits.wall_s

    def results(self, waiting: _Queue[J]) -> list[tuple[J, R | Lost]]:
        """All of the batch; if the process is gone or hangs, that of the job that did it.

        The others go back, and a new process is started.
        """
        if not self.overdue():
            try:
                return list(zip(self._batch, self.pipe.recv(), strict=True))
            except (EOFError, OSError):
                pass
        lost, guilty = Lost(self._cause()), int(self._at.value)
        self.stop()
        waiting.give_back(self._batch[:guilty] + self._batch[guilty + 1 :])
        self._start()
        return [(self._batch[guilty], lost)]

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


def _serve(pipe: Connection, at: Any, work: Callable[[Any], Any], limits: Limits) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    while True:
        try:
            batch = pipe.recv()
        except (EOFError, OSError):
            return
        results = []
        for place, job in enumerate(batch):
            at.value = place
            ceiling = int(sum(os.times()[:2])) + limits.cpu_s + 1
            resource.setrlimit(resource.RLIMIT_CPU, (ceiling, resource.RLIM_INFINITY))
            results.append(_attempt(work, job))
        pipe.send(results)


def _attempt(work: Callable[[Any], Any], job: Any) -> Any:
    try:
        return work(job)
    except MemoryError:
        return Lost("memory-limit")
    except Exception as error:  # whatever a parser raises on a hostile page costs that page only
        return Lost(type(error).__name__)
