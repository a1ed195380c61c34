"""A total deadline for one request, however slowly bytes arrive.

A socket timeout is not enough: it starts again with every byte that drips in. One thread watches
over all requests and shuts down the connection of whichever runs over; a timer for each would cost
more than the request.
"""

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Deadlines", "Watch", "current"]

_this_thread = threading.local()


def current() -> "Watch | None":
    """The deadline under which this thread works."""
    return getattr(_this_thread, "watch", None)


class Watch:
    """One request that has a deadline."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds
        self.over = False
        self.peer = ""
        self.sent_at = 0.0
        """When the request was out, by the monotonic clock."""
        self._sock: Any = None
        self._own: socket.socket | None = None

    @property
    def left(self) -> float:
        """Seconds that remain, never negative."""
        return max(0.0, self.ends - time.monotonic())

    @property
    def expired(self) -> bool:
        """Is the time over?"""
        return self.left == 0.0

    def opened(self, sock: socket.socket, peer: str) -> None:
        """A connection was made for this request. A handle of our own is kept, because TLS takes
        the socket over long before the connection knows it by that name."""
        if self._own is not None:
            self._own.close()
        self._own = sock.dup()
        self.uses(self._own, peer)

    def uses(self, sock: Any, peer: str) -> None:
        """The request goes out over a connection that is open already."""
        self._sock, self.peer = self._own or sock, peer
        if self.expired:
            self.cut()

    def cut(self) -> None:
        """End the connection now."""
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def end(self) -> None:
        """The request is done: nothing is cut any more."""
        self.over, self._sock = True, None
        if self._own is not None:
            self._own.close()


class Deadlines:
    """All requests under way, the soonest deadline first."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Watch]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def watch(self, seconds: float) -> Iterator[Watch]:
        """Cut this thread's connection if the block takes longer."""
        watch = Watch(seconds)
        entry = (watch.ends, next(self._count), watch)
        with self._changed:
            heapq.heappush(self._due, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            elif self._due[0] is entry:
                self._changed.notify()
        _this_thread.watch = watch
        try:
            yield watch
        finally:
            _this_thread.watch = None
            with self._changed:  # a connection that goes back to its pool must not be cut there
                watch.end()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                while self._due and self._due[0][2].over:
                    heapq.heappop(self._due)
                left = self._due[0][2].left if self._due else None
                if left is None or left > 0.0:
                    self._changed.wait(left)
                else:
                    heapq.heappop(self._due)[2].cut()
