"""A delta to encode, and what encoding and decoding did to it."""

import numpy as np

from federate.compression.codec import CodecConfig, decode, encode
from federate.local import Weights
from federate.wire import shapes_of

__all__ = ["delta", "error", "flat", "round_trip"]


def delta(seed: int = 0, size: int = 64) -> Weights:
    """Like what training leaves: a few strong directions, noise, a vector, still rows."""
    rng = np.random.default_rng([seed, 77])
    embed = rng.standard_normal((4 * size, 6)) @ rng.standard_normal((6, size))
    embed += 0.3 * rng.standard_normal(embed.shape)
    embed[size:] *= 0.05
    square = rng.standard_normal((size, size // 2)) * np.exp(rng.standard_normal(size // 2))
    named = {"embed": embed, "square": square.T, "norm": rng.standard_normal(size)}
    return {name: (0.01 * value).astype(np.float32) for name, value in named.items()}


def round_trip(weights: Weights, config: CodecConfig, seed: int = 0) -> Weights:
    decoded = decode(encode(weights, config, [seed]), shapes_of(weights), np.inf)
    assert not isinstance(decoded, str), decoded
    assert shapes_of(decoded) == shapes_of(weights)
    assert list(decoded) == list(weights)
    return decoded


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([value.ravel() for value in weights.values()]).astype(np.float64)


def error(weights: Weights, decoded: Weights) -> float:
    """Squared, relative."""
    return float(np.square(flat(weights) - flat(decoded)).sum() / np.square(flat(weights)).sum())
