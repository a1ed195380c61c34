"""Freed memory is kept for the next step."""

import ctypes

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 32 * 2**20
"""The most that glibc takes for M_MMAP_THRESHOLD."""


def keep_freed_memory() -> None:
    """Tell glibc not to hand large blocks back to the system; elsewhere nothing happens.

    A training step frees all its activations and asks for as many again: 10,000 page faults a
    step, a tenth of its time (docs/decisions.md). The process stays as large as it once was.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
