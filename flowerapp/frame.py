"""How a request and its answer cross the socket between the Flower node and its silo.

A frame is a JSON header and named byte buffers:

    b"CRF1" | header length, 4 bytes | header | buffer | buffer | …

All integers are unsigned and big-endian. The header is one JSON object; its key `buffers`, a list
of [name, bytes] in the order of the buffers, belongs to the format. Standard library only: this
file travels in the FAB.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_FRAME", "FrameError", "pack", "read_frame", "unpack", "write_frame"]

MAGIC = b"CRF1"
MAX_FRAME = 4 << 30
"""Bytes; a longer frame is refused on both sides before anything is read or sent."""
CHUNK = 1 << 20


class FrameError(ValueError):
    """The bytes are not a whole frame."""


def pack(header: Mapping[str, Any], buffers: Mapping[str, bytes]) -> bytes:
    """One frame. Raises FrameError for a header that JSON cannot hold."""
    if "buffers" in header:
        raise FrameError("the header key `buffers` belongs to the frame format")
    table = [[name, len(data)] for name, data in buffers.items()]
    try:
        text = json.dumps({**header, "buffers": table}, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise FrameError(f"the header is no JSON: {type(error).__name__}") from None
    return b"".join([MAGIC, struct.pack(">I", len(text)), text, *buffers.values()])


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header and buffers of one frame. Raises FrameError unless `data` is exactly one frame."""
    if len(data) < 8 or data[:4] != MAGIC:
        raise FrameError("no commonroot frame")
    start = 8 + int(struct.unpack(">I", data[4:8])[0])
    if start > len(data):
        raise FrameError("truncated header")
    try:
        header = json.loads(data[8:start])
    except (ValueError, RecursionError):
        raise FrameError("the header is no JSON") from None
    if not isinstance(header, dict):
        raise FrameError("the header is no JSON object")
    return header, _cut(memoryview(data)[start:], header.pop("buffers", None))


def _cut(body: memoryview, table: object) -> dict[str, bytes]:
    buffers: dict[str, bytes] = {}
    start = 0
    for name, size in _rows(table):
        if name in buffers:
            raise FrameError("two buffers of one name")
        if start + size > len(body):
            raise FrameError("truncated buffers")
        buffers[name] = bytes(body[start : start + size])
        start += size
    if start != len(body):
        raise FrameError("bytes after the last buffer")
    return buffers


def _rows(table: object) -> list[tuple[str, int]]:
    rows = []
    for row in table if isinstance(table, list) else [None]:
        match row:
            case [str(name), int(size)] if size >= 0 and not isinstance(size, bool):
                rows.append((name, size))
            case _:
                raise FrameError("the table of buffers is damaged")
    return rows


def write_frame(sock: socket.socket, frame: bytes, limit: int = MAX_FRAME) -> None:
    """Send one frame after its length (8 bytes)."""
    if len(frame) > limit:
        raise FrameError(f"a frame of {len(frame)} bytes; the limit is {limit}")
    sock.sendall(struct.pack(">Q", len(frame)))
    sock.sendall(frame)


def read_frame(sock: socket.socket, limit: int = MAX_FRAME) -> bytes:
    """The next frame. Raises FrameError when the other side hangs up or claims too much."""
    size = int(struct.unpack(">Q", _read(sock, 8))[0])
    if size > limit:
        raise FrameError(f"a frame of {size} bytes; the limit is {limit}")
    return _read(sock, size)


def _read(sock: socket.socket, size: int) -> bytes:
    # In chunks, so that memory follows what has arrived and not what was claimed.
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(min(CHUNK, size - len(data)))
        if not chunk:
            raise FrameError("the other side hung up in the middle of a frame")
        data += chunk
    return bytes(data)
