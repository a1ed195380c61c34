"""Flower messages as the objects that Flower sends one by one, each distinct one held once.

A cohort that is sent the same weights costs the bytes of one model. The sizes counted here are
those of Flower's own objects; what HTTP and TLS add is not in them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    _get_computed_object_ids,
    get_object_id,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

__all__ = ["MessageStore"]


class MessageStore:
    """Holds messages between pushing and pulling.

    An array's .npy bytes cannot change, so they are kept and handed on instead of being copied in
    and out of Flower's chunks; everything else is deflated and inflated.
    """

    def __init__(self) -> None:
        self._objects: dict[str, bytes | Array] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._uses: Counter[str] = Counter()
        self._parts: dict[str, list[str]] = {}

    def put(self, message: Message) -> str:
        """Serialise; returns the message's id."""
        parts: dict[str, InflatableObject] = {}
        with no_object_id_recompute():
            self._collect(message, parts)
            message_id = message.object_id
        self._uses.update(parts.keys())
        self._parts[message_id] = list(parts)
        return message_id

    def _collect(self, part: InflatableObject, found: dict[str, InflatableObject]) -> None:
        """Keep `part` and all below it, in the order and with the ids that Flower gives them."""
        # Before its arrays are named: a record is changed as long as one of them is.
        unchanged = not part.is_dirty and "_object_id" in part.__dict__
        for child in _below(part):
            self._collect(child, found)
        name, content = (part.object_id, b"") if unchanged else _identify(part)
        found[name] = part
        if name not in self._objects:
            self._objects[name], self._sizes[name] = _kept(part, content or part.deflate())

    def sizes(self, message_id: str) -> tuple[int, int]:
        """Bytes of all distinct objects of a stored message, and of its arrays' data in them."""
        sizes = [self._sizes[name] for name in self._parts[message_id]]
        return sum(size for size, _ in sizes), sum(data for _, data in sizes)

    def take(self, message_id: str) -> Message:
        """Deserialise, and forget what no other stored message needs."""
        parts = {name: self._objects[name] for name in self._parts.pop(message_id)}
        message = inflate_object_from_contents(
            message_id,
            {name: part for name, part in parts.items() if isinstance(part, bytes)},
            # Flower's ArrayRecord makes new Array objects around the bytes of these.
            objects={name: part for name, part in parts.items() if isinstance(part, Array)},
        )
        for name in parts:
            self._uses[name] -= 1
            if not self._uses[name]:
                del self._uses[name], self._objects[name], self._sizes[name]
        if not isinstance(message, Message):
            raise TypeError(f"stored a message and got back a {type(message).__name__}")
        message.metadata.__dict__["_message_id"] = message_id
        return message


def _below(part: InflatableObject) -> Iterable[InflatableObject]:
    """The objects that `part` refers to; Flower's `children` would serialise each to name it."""
    if isinstance(part, Message):
        return [part.content] if part.has_content() else []
    return part.values() if isinstance(part, RecordDict | ArrayRecord) else []


def _identify(part: InflatableObject) -> tuple[str, bytes]:
    """Flower's id of `part`, and the bytes that it is the hash of."""
    if isinstance(part, Array):
        _chunk(part)
    content = part.deflate()
    part.__dict__["_object_id"] = name = get_object_id(content)
    _get_computed_object_ids().add(name)
    return part.object_id, content  # asked for, so that it notes that nothing has changed since


def _chunk(array: Array) -> None:
    """What Flower's `Array.slice_array` does and remembers, without its copies of the data."""
    if "_chunks" in array.__dict__:
        return
    view, chunks = memoryview(array.data), []
    for start in range(0, len(view), FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE):
        piece = view[start : start + FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE]
        digest = hashlib.sha256(_chunk_head(piece))
        digest.update(piece)
        chunks.append((digest.hexdigest(), ArrayChunk(piece)))
    array.__dict__["_chunks"] = chunks


def _chunk_head(piece: memoryview) -> bytes:
    return b"ArrayChunk  %d\0" % len(piece)


def _kept(part: InflatableObject, content: bytes) -> tuple[bytes | Array, tuple[int, int]]:
    """What is kept of an object; its bytes on the wire, and those of array data in them."""
    if not isinstance(part, Array):
        return content, (len(content), 0)
    pieces = dict(part.slice_array()).values()
    views = [piece.data for piece in pieces if isinstance(piece, ArrayChunk)]
    data = sum(map(len, views))
    heads = sum(len(_chunk_head(view)) for view in views)
    # A copy: the sender may still change its own.
    kept = Array(part.dtype, tuple(part.shape), part.stype, part.data)
    return kept, (len(content) + heads + data, data)
