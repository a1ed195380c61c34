"""All tensors of a message in as few bytes as asked for: the search for the step, and the format.

step fp64 · length of the head u32 · head (zlib: classes and directions of each tensor, tables of
frequencies) · coded integers. A step of zero ends a message of zeros.
"""

import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from federate.compression.bits import (
    CLASSES,
    SYMBOLS,
    entropy_bytes,
    pack_integers,
    unpack_integers,
)
from federate.compression.parts import Part, Reader, analyse, join, longest_head, quantise
from federate.local import Weights
from federate.wire import Shapes

__all__ = ["read", "write"]

FRAME = struct.Struct("<dI")
CLOSE = 0.98
"""A message this full is full enough."""
SEARCHES = 10
FINEST = 2.0**-24
"""Smallest step, as a share of the largest value."""


def write(named: Weights, bits: float, stochastic: bool, seed: Sequence[int]) -> bytes:
    """The message of the smallest step that `bits` a parameter allow."""
    if not any(value.any() for value in named.values()):
        return _message(0.0, None)
    tensors = [analyse(value, [*seed, place]) for place, value in enumerate(named.values())]

    def at(step: float) -> Part:
        rngs = (np.random.default_rng([*seed, place, 1]) for place in range(len(tensors)))
        return join(
            quantise(tensor, step, rng if stochastic else None)
            for tensor, rng in zip(tensors, rngs, strict=True)
        )

    return _message(*_search(at, named, bits))


def _search(at: Callable[[float], Part], named: Weights, bits: float) -> tuple[float, Part]:
    """The step, and what it gives, whose size is the largest that fits."""
    values = np.concatenate([value.ravel() for value in named.values()])
    largest = float(np.abs(values).max())
    budget = bits * len(values) / 8
    step = float(np.sqrt(np.square(values, dtype=np.float64).mean())) * 4 / 2**bits
    fits: tuple[float, float, Part] | None = None
    exceeds: tuple[float, float] | None = None
    for _ in range(SEARCHES):
        step = max(step, largest * FINEST)
        part = at(step)
        size = entropy_bytes(part.values_N, part.classes_N) + len(zlib.compress(part.head, 6))
        if size > budget:
            exceeds = step, size / budget
        else:
            fits = step, size / budget, part
            if size > CLOSE * budget or step <= largest * FINEST * 1.001:
                break
        step = _next(step, size / budget, fits and fits[:2], exceeds, bits)
    return (fits[0], fits[2]) if fits else (step, at(step))


def _next(
    step: float,
    fullness: float,
    fits: tuple[float, float] | None,
    exceeds: tuple[float, float] | None,
    bits: float,
) -> float:
    """The step to try next: between the two that enclose the budget, or on from the last."""
    aim = np.log2((1 + CLOSE) / 2)
    if fits and exceeds:
        low, high = np.log2(fits), np.log2(exceeds)
        share = (aim - low[1]) / (high[1] - low[1])
        return float(np.exp2(low[0] + np.clip(share, 0.1, 0.9) * (high[0] - low[0])))
    return step * float(np.exp2(np.clip((np.log2(fullness) - aim) * max(bits, 0.7), -4, 4)))


def _message(step: float, part: Part | None) -> bytes:
    """Step, lengths, head with the tables of frequencies, coded integers."""
    if part is None:
        return FRAME.pack(0.0, 0)
    tables, coded = pack_integers(part.values_N, part.classes_N)
    head = zlib.compress(part.head + tables, 9)
    return FRAME.pack(step, len(head)) + head + coded


def read(message: bytes, shapes: Shapes) -> Weights:
    """What `write` wrote for tensors of these shapes in this order.

    Raises ValueError, zlib.error or struct.error for anything else; memory is bounded by `shapes`.
    """
    step, length = FRAME.unpack_from(message)
    if not (np.isfinite(step) and step >= 0):
        raise ValueError("the step is no positive number")
    if not step:
        if len(message) != FRAME.size:
            raise ValueError("bytes after the end")
        return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    most = sum(map(longest_head, shapes.values())) + CLASSES * (SYMBOLS + 1)
    head = _inflate(message[FRAME.size : FRAME.size + length], most)
    readers: dict[str, Reader] = {}
    place = 0
    for name, shape in shapes.items():
        readers[name] = Reader(shape, head[place : place + longest_head(shape)])
        place += readers[name].used
    classes = [reader.classes() for reader in readers.values()]
    coded = message[FRAME.size + length :]
    values_N = unpack_integers(head[place:], coded, np.concatenate(classes))
    ends = np.cumsum([len(part) for part in classes])
    return {
        name: reader.tensor(values_N[end - len(part) : end], step)
        for (name, reader), part, end in zip(readers.items(), classes, ends, strict=True)
    }


def _inflate(data: bytes, most: int) -> bytes:
    """At most `most` bytes come out of it, whatever it says."""
    stream = zlib.decompressobj()
    plain = stream.decompress(data, most + 1)
    if len(plain) > most or not stream.eof or stream.unused_data:
        raise ValueError("the head is cut short or too long")
    return plain
