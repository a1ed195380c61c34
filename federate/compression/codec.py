"""Fewer bits for what travels: deltas up, differences from the public base down.

One number is asked for: `bits` a parameter. Below 16, one step for all tensors is searched that
meets it; matrices are split into their leading directions and a rest (`factors`), and everything is
rounded to multiples of that step with a dead zone and entropy coded (`bits`), so that small values
cost next to nothing wherever they are. What is left out can be added to what is sent next (error
feedback: Seide et al. 2014; Karimireddy et al. 2019, https://arxiv.org/abs/1901.09847).
"""

import hashlib
import io
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from commonroot.config import Section
from commonroot.errors import TrainingError
from federate import wire
from federate.compression.quantised import read, write
from federate.local import Weights
from federate.wire import Shapes, shapes_of

__all__ = ["PACKED", "CodecConfig", "Sent", "compress", "decode", "encode"]

PACKED = "packed"
"""The name of the one buffer of a compressed message."""
HALF, QUANTISED = b"crh1", b"crq1"
DIGEST = 8


class CodecConfig(Section):
    """How tensors are encoded for the wire."""

    bits: float = Field(32.0, gt=0, le=32)
    """Bits a parameter. 32: fp32 as it is; from 16: bf16; below: quantised and entropy coded to
    this size (0.2 to 1 is usual)."""
    stochastic: bool = False
    """Round at random so that the mean of many messages is right (unbiased). Below about 4 bits
    the noise costs more than the bias."""
    feedback: float = Field(1.0, ge=0, le=1)
    """Share of what a message left out that is added to the sender's next one."""


class Sent(NamedTuple):
    """A message and what it means."""

    buffers: dict[str, bytes]
    received: Weights
    """What every receiver decodes, to the bit."""
    residual: Weights
    """What was left out: the sender's to keep."""


def encode(weights: Weights, config: CodecConfig, seed: Sequence[int]) -> dict[str, bytes]:
    """Name -> .npy bytes: one buffer a tensor (fp32), or one named "packed" for all of them.

    Raises TrainingError if a value is not finite.
    """
    if config.bits >= 32:
        return wire.encode(weights)
    named = {name: np.asarray(weights[name], np.float32) for name in sorted(weights)}
    if not all(np.isfinite(value).all() for value in named.values()):
        raise TrainingError("an update holds values that are not finite: lower the learning rate")
    if config.bits >= 16:
        body = HALF + _digest(shapes_of(named)) + _to_half(named, config.stochastic, seed)
    else:
        body = (
            QUANTISED
            + _digest(shapes_of(named))
            + write(named, config.bits, config.stochastic, seed)
        )
    return {PACKED: _npy(body)}


def decode(buffers: Mapping[str, bytes], expected: Shapes, largest: float) -> Weights | str:
    """The weights in the order of `expected`, or in one line why they are not acceptable.

    Takes whatever `encode` makes. Names and shapes must be `expected`, values finite and at most
    `largest`; memory and time are bounded by `expected`, whatever the bytes say.
    """
    if buffers.keys() != {PACKED}:
        return wire.decode(buffers, expected, largest)
    packed = _opened(buffers[PACKED])
    if packed is None:
        return f"{PACKED} is not a .npy array"
    if packed[0] != np.uint8:
        return wire.decode(buffers, expected, largest)
    return _unpacked(packed[2], expected, largest)


def _unpacked(body: bytes, expected: Shapes, largest: float) -> Weights | str:
    shapes = {name: expected[name] for name in sorted(expected)}
    start = len(HALF) + DIGEST
    if body[len(HALF) : start] != _digest(shapes):
        return "packed tensors of other names or shapes"
    try:
        if body[: len(HALF)] == HALF:
            weights = _from_half(body[start:], shapes)
        elif body[: len(HALF)] == QUANTISED:
            weights = read(body[start:], shapes)
        else:
            return "packed in an unknown way"
    except (ValueError, zlib.error, struct.error) as error:
        return f"packed tensors are damaged: {str(error)[:80]}"
    for name, value in weights.items():
        if not np.isfinite(value).all():
            return f"{name} holds values that are not finite"
        if float(np.abs(value).max(initial=0.0)) > largest:
            return f"{name} holds values above {largest:g}"
    return {name: weights[name] for name in expected}


def compress(delta: Weights, residual: Weights, config: CodecConfig, seed: Sequence[int]) -> Sent:
    """Encode `delta` and what earlier messages left out ({} for the first)."""
    wanted = {
        name: value + config.feedback * residual[name] if name in residual else value
        for name, value in delta.items()
    }
    wanted = {name: np.asarray(value, np.float32) for name, value in wanted.items()}
    buffers = encode(wanted, config, seed)
    if config.bits >= 32:
        return Sent(buffers, wanted, {})
    received = decode(buffers, shapes_of(wanted), np.inf)
    assert not isinstance(received, str), received
    left = {name: wanted[name] - received[name] for name in wanted}
    return Sent(buffers, received, left if config.feedback else {})


def _to_half(named: Weights, stochastic: bool, seed: Sequence[int]) -> bytes:
    """bf16: the upper halves of the fp32 bits, rounded."""
    bits = _flat(named).view(np.uint32)
    rng = np.random.default_rng([*seed, 0])
    low = rng.integers(0, 1 << 16, len(bits), np.uint32) if stochastic else 0x7FFF
    # To even in a tie, unless drawn; a value that would round up to infinity is cut instead.
    raised = bits + low + (0 if stochastic else (bits >> 16) & 1)
    raised = np.where((raised >> 16) & 0x7F80 == 0x7F80, bits, raised)
    return (raised >> 16).astype("<u2").tobytes()


def _from_half(message: bytes, shapes: Shapes) -> Weights:
    sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()]
    if len(message) != 2 * sum(sizes):
        raise ValueError("another number of bytes than two a value")
    values = (np.frombuffer(message, "<u2").astype(np.uint32) << 16).view(np.float32)
    ends = np.cumsum(sizes)
    return {
        name: values[end - size : end].reshape(shape).copy()
        for (name, shape), size, end in zip(shapes.items(), sizes, ends, strict=True)
    }


def _flat(named: Weights) -> npt.NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *(v.ravel() for v in named.values())])


def _digest(shapes: Shapes) -> bytes:
    told = repr([(name, tuple(map(int, shapes[name]))) for name in sorted(shapes)])
    return hashlib.sha256(told.encode()).digest()[:DIGEST]


def _npy(body: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.frombuffer(body, np.uint8), allow_pickle=False)
    return buffer.getvalue()


def _opened(npy: bytes) -> tuple[np.dtype, tuple[int, ...], bytes] | None:
    """Type, shape and data of .npy bytes without allocating what they claim; None if damaged."""
    stream = io.BytesIO(npy)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            return None
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, EOFError, OSError):
        return None
    data = npy[stream.tell() :]
    fits = min(shape, default=0) >= 0 and math.prod(shape) * dtype.itemsize == len(data)
    return (dtype, shape, data) if fits else None
