"""Weights <-> .npy bytes by name, with the checks that both sides make on what arrives."""

import hashlib
import io
from collections.abc import Mapping

import numpy as np

from federate.local import Weights

__all__ = ["Shapes", "decode", "encode", "fingerprint", "l2_norm", "shapes_of"]

Shapes = dict[str, tuple[int, ...]]


def shapes_of(weights: Weights) -> Shapes:
    """Name -> shape."""
    return {name: value.shape for name, value in weights.items()}


def fingerprint(weights: Weights) -> str:
    """Hex sha256 over names and bytes: equal models have equal fingerprints."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].tobytes())
    return digest.hexdigest()


def l2_norm(weights: Weights) -> float:
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
            value = np.load(io.BytesIO(buffers[name]), allow_pickle=False)
        except (ValueError, EOFError, OSError):
            return f"{name} is not a .npy array"
        if value.dtype != np.float32:
            return f"{name} has type {value.dtype}, expected float32"
        if value.shape != shape:
            return f"{name} has shape {value.shape}, expected {shape}"
        if not np.isfinite(value).all():
            return f"{name} holds values that are not finite"
        if value.size and float(np.abs(value).max()) > largest:
            return f"{name} holds values above {largest:g}"
        weights[name] = value
    return weights


def _npy(value: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(value), allow_pickle=False)
    return buffer.getvalue()
