"""Round checkpoints: weights and strategy state in one file, written aside, the last two kept."""

from pathlib import Path
from typing import Any

import numpy as np

from commonroot.artifact import write_atomic
from commonroot.progress import say
from federate.local import Weights
from federate.wire import decode, encode, shapes_of
from flowerapp.frame import FrameError, pack, unpack

__all__ = ["read_round", "restore_round", "save_round"]

KEEP = 2


def save_round(folder: Path, strategy: Any, done: int) -> None:
    """Write the state after `done` rounds."""
    folder.mkdir(parents=True, exist_ok=True)
    buffers = {f"weights/{name}": data for name, data in encode(strategy.weights).items()}
    buffers |= {f"state/{name}": data for name, data in encode(strategy.state()).items()}
    write_atomic(folder / f"round-{done:06d}.frame", pack({"done": done}, buffers))
    for old in sorted(folder.glob("round-*.frame"))[:-KEEP]:
        old.unlink()


def restore_round(folder: Path, strategy: Any) -> int:
    """Load the newest whole checkpoint into `strategy`; returns the rounds done, 0 if none."""
    for path in sorted(folder.glob("round-*.frame"), reverse=True):
        try:
            done, weights, state = read_round(path, strategy.weights)
        except (OSError, FrameError, KeyError):
            say(f"checkpoint {path} is damaged: using the one before it")
            continue
        strategy.weights = weights
        strategy.restore(state)
        return done
    return 0


def read_round(path: Path, like: Weights) -> tuple[int, Weights, Weights]:
    """Rounds done, weights and strategy state. Raises FrameError if the file is damaged."""
    header, buffers = unpack(path.read_bytes())
    shapes = shapes_of(like)
    parts: dict[str, dict[str, bytes]] = {"weights": {}, "state": {}}
    for key, data in buffers.items():
        kind, _, name = key.partition("/")
        parts[kind][name] = data
    weights = decode(parts["weights"], shapes, np.inf)
    state_shapes = {name: shapes[name.rpartition(":")[2]] for name in parts["state"]}
    state = decode(parts["state"], state_shapes, np.inf)
    if isinstance(weights, str) or isinstance(state, str):
        raise FrameError(f"{path}: {weights if isinstance(weights, str) else state}")
    return int(header["done"]), weights, state
