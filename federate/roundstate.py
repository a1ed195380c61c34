"""Round checkpoints: one file each, written aside and renamed, the last two and the best kept."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonroot.artifact import write_atomic
from commonroot.progress import say
from federate.local import Weights
from federate.wire import decode_any, encode
from flowerapp.frame import FrameError, pack, unpack

__all__ = ["BEST", "FINAL", "RoundState", "newest_round", "read_round", "save_named", "save_round"]

KEEP = 2
BEST = "best.frame"
FINAL = "final.frame"
"""What clients are sent after the last round."""


@dataclass(frozen=True)
class RoundState:
    """Where a run stands after `done` rounds."""

    done: int
    weights: Weights
    """Global tensors, as the strategy holds them."""
    strategy: Weights
    """What else it must remember."""
    figures: dict[str, Any]
    """JSON: progress, pacing."""


def save_round(folder: Path, state: RoundState) -> None:
    """Write the state, and forget all but the last `KEEP`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"round-{state.done:06d}.frame", _packed(state))
    for old in sorted(folder.glob("round-*.frame"))[:-KEEP]:
        old.unlink()


def save_named(folder: Path, name: str, state: RoundState) -> None:
    """Write the state as the BEST so far, or the FINAL one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / name, _packed(state))


def newest_round(folder: Path) -> RoundState | None:
    """The newest whole checkpoint, or None; a damaged one is said and passed over."""
    for path in sorted(folder.glob("round-*.frame"), reverse=True):
        try:
            return read_round(path)
        except (OSError, FrameError, KeyError, ValueError):
            say(f"checkpoint {path} is damaged: using the one before it")
    return None


def read_round(path: Path) -> RoundState:
    """Raises FrameError or ValueError if the file is damaged."""
    header, buffers = unpack(path.read_bytes())
    if header.get("sha256") != _digest(buffers):
        raise FrameError(f"{path}: its hash does not fit")
    parts: dict[str, dict[str, bytes]] = {"weights": {}, "strategy": {}}
    for key, data in buffers.items():
        kind, _, name = key.partition("/")
        parts[kind][name] = data
    weights, strategy = decode_any(parts["weights"]), decode_any(parts["strategy"])
    return RoundState(int(header["done"]), weights, strategy, header["figures"])


def _packed(state: RoundState) -> bytes:
    buffers = {f"weights/{name}": data for name, data in encode(state.weights).items()}
    buffers |= {f"strategy/{name}": data for name, data in encode(state.strategy).items()}
    header = {"done": state.done, "figures": state.figures, "sha256": _digest(buffers)}
    return pack(header, buffers)


def _digest(buffers: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(buffers):
        digest.update(name.encode() + b"\0" + buffers[name])
    return digest.hexdigest()
