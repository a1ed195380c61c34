"""Two halves of a batch at the same time, each on half of the threads."""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["at_once", "halves"]

SOFT = 1
"""Of OpenMP 5: threads go, settings stay."""
A = TypeVar("A")
B = TypeVar("B")


def halves(blocks: int) -> list[slice]:
    """A batch's blocks in two; in how many does not depend on threads, so bits do not either."""
    middle = blocks // 2
    return [slice(0, middle), slice(middle, blocks)] if middle else [slice(0, blocks)]


def at_once(work: Callable[[A], B], parts: Sequence[A], library: ctypes.CDLL | None) -> list[B]:
    """`work` of each part: of two side by side where there are threads for it.

    `library` is linked with the OpenMP that torch uses.
    """
    threads = torch.get_num_threads()
    if library is None or len(parts) < 2 or threads < 2:
        return [work(part) for part in parts]

    def with_some(part: A, some: int) -> B:
        torch.get_num_threads()  # gives a new thread torch's number of them, once
        library.omp_set_num_threads(some)  # for this thread; torch's own is for all
        return work(part)

    first, second = parts
    library.omp_pause_resource_all(SOFT)  # idle threads spin for milliseconds where these work
    with ThreadPoolExecutor(1) as aside:
        other = aside.submit(with_some, second, threads // 2)
        try:
            return [with_some(first, threads - threads // 2), other.result()]
        finally:
            library.omp_set_num_threads(threads)
