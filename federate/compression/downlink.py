"""Global weights on their way down: what changed since the public base that clients hold already.

The server goes on from the exact weights, so what a message leaves out is in the next one; clients
train from what they decode, and their deltas refer to that.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from federate.compression.codec import PACKED, CodecConfig, decode, encode
from federate.local import Weights
from federate.wire import encode as to_npy
from federate.wire import shapes_of

__all__ = ["decode_down", "encode_down"]


def encode_down(
    weights: Weights, start: Weights, config: CodecConfig, seed: Sequence[int]
) -> dict[str, bytes]:
    """The weights as they are (32 bits), or their difference from `start`."""
    if config.bits >= 32:
        return to_npy(weights)
    return encode({name: value - start[name] for name, value in weights.items()}, config, seed)


def decode_down(buffers: Mapping[str, bytes], start: Weights, largest: float) -> Weights | str:
    """What `encode_down` made, or in one line why it is not acceptable."""
    decoded = decode(buffers, shapes_of(start), largest)
    if isinstance(decoded, str) or PACKED not in buffers:
        return decoded
    weights = {name: start[name] + value for name, value in decoded.items()}
    for name, value in weights.items():
        if not float(np.abs(value).max(initial=0)) <= largest:
            return f"{name} holds values above {largest:g}"
    return weights
