"""The silo's door: one Unix socket a silo, one request at a time, no exception text over the wire.

The Flower node on the other side runs code that came over the network. It gets answers that the
silo made on purpose, or one line that says what kind of failure it was. The text of an exception
stays here: it can quote the private data on which the code failed.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from commonroot.errors import UsageError
from flowerapp.frame import FrameError, pack, read_frame, unpack, write_frame

__all__ = ["SiloLike", "answer_frame", "serve", "short_folder", "socket_of"]

LONGEST_ADDRESS = 100
"""Bytes of a socket path; the kernels' own limits are 104 and 108."""

log = logging.getLogger(__name__)


class SiloLike(Protocol):
    """What the door needs of a silo."""

    def answer(
        self, header: dict[str, Any], buffers: dict[str, bytes]
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Header and .npy buffers of the request in, those of the answer out."""
        ...


def answer_frame(silo: SiloLike, frame: bytes) -> bytes:
    """The silo's answer to one request frame; whatever goes wrong becomes a refusal."""
    try:
        return pack(*silo.answer(*unpack(frame)))
    except FrameError as error:
        return pack({"refused": f"unreadable request or answer: {error}"}, {})
    except Exception as error:
        # Places in our code and the type: enough to find the fault, and no values.
        log.error("a silo failed: %s at %s", type(error).__name__, _places(error))
        return pack({"refused": f"the silo failed ({type(error).__name__})"}, {})


def _places(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " > ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames)


def socket_of(folder: Path, index: int) -> Path:
    """The socket of the silo that stands at `index` in its mapping."""
    return folder / f"{index}.sock"


@contextmanager
def short_folder() -> Iterator[Path]:
    """A private temporary folder whose path is short enough for sockets."""
    roots = [Path(tempfile.gettempdir()), Path("/tmp")]
    root = next((r for r in roots if r.is_dir() and len(os.fsencode(r)) < 60), roots[0])
    with tempfile.TemporaryDirectory(prefix="commonroot-", dir=root) as name:
        yield Path(name)


@contextmanager
def serve(
    silos: Mapping[str, SiloLike], folder: Path, at_once: int = 1
) -> Iterator[dict[str, Path]]:
    """Serve each silo on its own socket in `folder` (0700) while the context is open.

    Yields silo name -> socket. `at_once` requests at most run together over all these silos, since
    one training uses every core; the rest wait their turn. Raises UsageError when the path of a
    socket is too long for the operating system.
    """
    addresses = {name: socket_of(folder, index) for index, name in enumerate(silos)}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    turn = threading.BoundedSemaphore(at_once)
    doors = []
    try:
        for name, silo in silos.items():
            doors.append(_Door(silo, addresses[name], turn))
        yield addresses
    finally:
        for door in doors:
            door.close()


class _Door:
    """One listening socket and the threads behind it."""

    def __init__(self, silo: SiloLike, address: Path, turn: threading.BoundedSemaphore) -> None:
        self.silo, self.address, self.turn = silo, address, turn
        self.own_turn = threading.Lock()
        self.listener = _listen(address)
        self.callers: set[socket.socket] = set()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # close() shuts the listener down
            while True:
                caller, _ = self.listener.accept()
                self.callers.add(caller)
                threading.Thread(target=self._handle, args=(caller,), daemon=True).start()

    def _handle(self, caller: socket.socket) -> None:
        with caller, suppress(OSError):
            try:
                write_frame(caller, self._answer(read_frame(caller)))
            except FrameError as error:
                write_frame(caller, pack({"refused": f"unreadable request: {error}"}, {}))
        self.callers.discard(caller)

    def _answer(self, frame: bytes) -> bytes:
        with self.own_turn, self.turn:
            return answer_frame(self.silo, frame)

    def close(self) -> None:
        """Stop listening, hang up on every caller, remove the socket."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for caller in list(self.callers):
            with suppress(OSError):
                caller.shutdown(socket.SHUT_RDWR)
        self.address.unlink(missing_ok=True)


def _listen(address: Path) -> socket.socket:
    if len(os.fsencode(address)) > LONGEST_ADDRESS:
        raise UsageError(
            f"the socket path {address} is over {LONGEST_ADDRESS} bytes: "
            "set TMPDIR to a folder with a short path"
        )
    address.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(address))
        address.chmod(0o600)
        listener.listen(16)
    except OSError:
        listener.close()
        raise
    return listener
