"""Processes that serve silos beside this one, each with its own warm model and torch threads.

Any worker serves any client: what a silo keeps lies on disk, in its home. Which worker serves
which request therefore changes no bit, as long as all compute with the same number of threads.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from commonroot.errors import EngineError
from federate.silo_server import SiloLike, answer_frame
from flowerapp.frame import FrameError, read_frame, write_frame

__all__ = ["Workers", "answer_by_name"]

READY = b"ready"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def answer_by_name(silos: Mapping[str, SiloLike], name: str, frame: bytes) -> bytes:
    """What silo `name` answers to `frame`; a silo that cannot be opened is a refusal as well."""
    return answer_frame(_Named(silos, name), frame)


@dataclass(frozen=True)
class _Named:
    """Opens the silo when it is asked, so that a failure to open goes the way of all failures."""

    silos: Mapping[str, SiloLike]
    name: str

    def answer(
        self, header: dict[str, Any], buffers: dict[str, bytes]
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        return self.silos[self.name].answer(header, buffers)


class Workers:
    """`count` processes that answer frames for `silos` while the context is open.

    `silos` is pickled to each of them: a mapping that opens a silo when it is asked for one
    (federate.population) keeps them small. A worker that dies costs the request that it was
    serving, and another takes its place. Workers end with this process, whatever ends it.
    """

    def __init__(self, silos: Mapping[str, SiloLike], count: int, threads: int) -> None:
        """`threads` of torch in each worker; 0 leaves their number to torch."""
        description = pickle.dumps(silos)
        self._closed = False
        self._workers = [_Worker(description, threads) for _ in range(count)]
        self._idle: queue.Queue[_Worker] = queue.Queue()

    def __enter__(self) -> Workers:
        """Start all and wait for them. Raises EngineError if one cannot start."""
        for worker in self._workers:
            self._idle.put(worker)
        try:
            for worker in self._workers:
                worker.start()
            for worker in self._workers:
                worker.wait_until_ready()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._close()

    def ask(self, name: str, frame: bytes) -> bytes:
        """The answer of silo `name` to `frame` by the next idle worker; from any thread.

        Raises ConnectionError if the worker dies over it.
        """
        worker = self._idle.get()
        try:
            if self._closed:
                raise ConnectionError("the workers have been stopped")
            return worker.ask(name, frame)
        finally:
            self._idle.put(worker)

    def _close(self) -> None:
        self._closed = True
        for worker in self._workers:
            worker.kill()
        # Each comes back here when the thread that waits for its answer has noticed.
        for worker in [self._idle.get() for _ in self._workers]:
            worker.end()
            self._idle.put(worker)


class _Worker:
    """One process and the socket to it; started again when it is asked after it has died."""

    def __init__(self, description: bytes, threads: int) -> None:
        self._description = description
        self._env = dict(os.environ)
        if threads:
            self._env |= dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._process: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None

    def start(self) -> None:
        self._door, far = socket.socketpair()
        with far:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "federate.engines.workers", str(far.fileno())],
                env=self._env,
                pass_fds=[far.fileno()],
                stdin=subprocess.PIPE,  # closes with this process, even with a killed one
                stdout=subprocess.DEVNULL,
            )

    def wait_until_ready(self) -> None:
        assert self._door is not None
        try:
            write_frame(self._door, self._description)
            ready = read_frame(self._door)
        except (OSError, FrameError):
            ready = b""
        if ready != READY:
            self.end()
            raise EngineError("a worker process did not start: see the lines above")

    def ask(self, name: str, frame: bytes) -> bytes:
        if self._process is None or self._process.poll() is not None:
            self.end()
            self.start()
            self.wait_until_ready()
        assert self._door is not None
        try:
            write_frame(self._door, name.encode())
            write_frame(self._door, frame)
            return read_frame(self._door)
        except (OSError, FrameError):
            self.end()
            raise ConnectionError(f"the worker that served {name} has died") from None

    def kill(self) -> None:
        """From any thread: whoever waits for an answer gets an error."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Leave neither the process nor an open file."""
        if self._door is not None:
            self._door.close()
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = self._door = None


def _main(number: int) -> None:
    """Serve the socket with file descriptor `number` until the other side hangs up."""
    # Ctrl-C reaches the whole process group; what is to be done then, the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with socket.socket(fileno=number) as door:
        silos: Mapping[str, SiloLike] = pickle.loads(read_frame(door))
        write_frame(door, READY)
        while name := _next_name(door):
            write_frame(door, answer_by_name(silos, name, read_frame(door)))


def _next_name(door: socket.socket) -> str:
    try:
        return read_frame(door).decode()
    except (OSError, FrameError):
        return ""


def _leave_with_parent() -> None:
    # At once and not at the end of the request: an orphan would write the state of a silo that
    # the next run has already opened.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
