"""When memory that was freed goes back to the system: glibc's allocator, told so."""

import ctypes

__all__ = ["keep_freed_memory", "release_large_blocks"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 32 * 2**20
"""The most that glibc takes for M_MMAP_THRESHOLD."""
LARGE = 2**20


def keep_freed_memory() -> None:
    """Do not hand large blocks back to the system; elsewhere than on glibc nothing happens.

    A training step frees all its activations and asks for as many again: 10,000 page faults a
    step, a tenth of its time (docs/decisions.md). The process stays as large as it once was.
    """
    _set(M_MMAP_THRESHOLD, LARGEST)
    _set(M_TRIM_THRESHOLD, 2**31 - 1)


def release_large_blocks() -> None:
    """Keep blocks of a megabyte and more apart, and hand each back as soon as it is freed.

    Left alone, glibc no longer does that for sizes of which it has seen one freed. A body that
    grows while it is received then leaves its smaller copies behind, which together are larger.
    """
    _set(M_MMAP_THRESHOLD, LARGE)


def _set(option: int, value: int) -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(option, value)
