"""Weights <-> .npy bytes by name, with the checks that both sides make on what arrives."""

import hashlib
import io
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from federate.local import Weights

__all__ = ["Shapes", "decode", "decode_any", "encode", "fingerprint", "l2_norm", "shapes_of"]

Shapes = dict[str, tuple[int, ...]]
NPY_1_0 = b"\x93NUMPY\x01\x00"
LONGEST_HEADER = 1024
"""Bytes; numpy's own have about 120."""


def shapes_of(weights: Weights) -> Shapes:
    """Name -> shape."""
    return {name: value.shape for name, value in weights.items()}


def fingerprint(weights: Weights) -> str:
    """Hex sha256 over names and bytes: equal models have equal fingerprints."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].tobytes())
    return digest.hexdigest()


def l2_norm(weights: Mapping[str, npt.NDArray[np.floating]]) -> float:
    """L2 norm of all tensors as one vector, summed in fp64."""
    squares = (np.square(value, dtype=np.float64).sum() for value in weights.values())
    return float(np.sqrt(sum(float(square) for square in squares)))


def encode(weights: Weights) -> dict[str, bytes]:
    """Name -> .npy bytes."""
    return {name: _npy(value) for name, value in weights.items()}


def decode(buffers: Mapping[str, bytes], expected: Shapes, largest: float) -> Weights | str:
    """The weights, or in one line why they are not acceptable.

    Names and shapes must be exactly `expected`, the type fp32, all values finite and at most
    `largest` in absolute value. Nothing is unpickled.
    """
    if buffers.keys() != expected.keys():
        wrong = sorted(buffers.keys() ^ expected.keys())
        return f"tensor names differ: {wrong[0][:80]}"
    weights: Weights = {}
    for name, shape in expected.items():
        try:
            value = from_npy(buffers[name])
        except ValueError:
            return f"{name} is not a .npy array"
        if value.dtype != np.float32:
            return f"{name} has type {value.dtype}, expected float32"
        if value.shape != shape:
            return f"{name} has shape {value.shape}, expected {shape}"
        low, high = float(value.min(initial=0)), float(value.max(initial=0))
        if not math.isfinite(high - low):  # nan and infinity both show here
            return f"{name} holds values that are not finite"
        if max(-low, high) > largest:
            return f"{name} holds values above {largest:g}"
        weights[name] = value
    return weights


def decode_any(buffers: Mapping[str, bytes]) -> Weights:
    """What this program's own `encode` wrote to its own disk. Raises ValueError if damaged."""
    return {name: from_npy(data) for name, data in buffers.items()}


def from_npy(data: bytes) -> npt.NDArray[Any]:
    """The array of .npy bytes, a copy; ValueError for anything else, pickles included.

    np.load parses the header anew each time: most of its cost for a model of many small tensors.
    """
    size = int.from_bytes(data[8:10], "little") if data[:8] == NPY_1_0 else 0
    if size > LONGEST_HEADER:
        raise ValueError("a header that no plain array has")
    shape, dtype = _header(data[8 : 10 + size])
    if len(data) != 10 + size + dtype.itemsize * math.prod(shape):
        raise ValueError("more or fewer bytes than the header says")
    return np.frombuffer(data, dtype, offset=10 + size).reshape(shape).copy()


@lru_cache(4096)
def _header(text: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(text))
    if fortran or dtype.hasobject:
        raise ValueError("not a plain array in C order")
    return shape, dtype


def _npy(value: np.ndarray) -> bytes:
    """What np.save writes, its header made once for all tensors of a shape."""
    start = _npy_start(value.dtype.str, value.shape)
    return b"".join([start, value.tobytes()])


@lru_cache(4096)
def _npy_start(descr: str, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()
