"""What a silo remembers between rounds: one file in its own folder, written aside and renamed.

Groups of tensors stand side by side in it: the last reply (so that a repeated request is answered
and not served twice), what the owner withholds, what compression left over, and what the strategy's
rule or a personal model keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from commonroot.artifact import write_atomic
from federate.local import Weights
from federate.wire import decode_any, encode
from flowerapp.frame import FrameError, pack, unpack

__all__ = ["SiloState", "read_state", "write_state"]


@dataclass
class SiloState:
    """Of one run; a new run starts with an empty one."""

    run: str
    round: int = -1
    """The last request that was served."""
    served: int = 0
    """Training requests in all."""
    next_batch: int = 0
    """Where the data order goes on."""
    reply: dict[str, Any] = field(default_factory=dict)
    """The last answer."""
    sent: dict[str, bytes] = field(default_factory=dict)
    """Its buffers."""
    withheld: Weights = field(default_factory=dict)
    """Tensors that may not leave, as trained here."""
    residual: Weights = field(default_factory=dict)
    """What the codec left out so far."""
    rule: Weights = field(default_factory=dict)
    """Of the strategy's client-side rule."""
    personal: Weights = field(default_factory=dict)
    """The personal model of Ditto."""


GROUPS = ("withheld", "residual", "rule", "personal")
FIGURES = ("run", "round", "served", "next_batch", "reply")


def read_state(path: Path, run: str) -> SiloState:
    """The state of `run`; an empty one if there is none or it is another run's."""
    try:
        header, buffers = unpack(path.read_bytes())
    except (OSError, FrameError):
        return SiloState(run)
    if header.get("run") != run:
        return SiloState(run)
    groups: dict[str, dict[str, bytes]] = {group: {} for group in ("sent", *GROUPS)}
    for key, data in buffers.items():
        group, _, name = key.partition("/")
        groups[group][name] = data
    state = SiloState(sent=groups["sent"], **{key: header[key] for key in FIGURES})
    for group in GROUPS:
        setattr(state, group, decode_any(groups[group]))
    return state


def write_state(path: Path, state: SiloState) -> None:
    """Replace the file."""
    buffers = {f"sent/{name}": data for name, data in state.sent.items()}
    for group in GROUPS:
        weights: Mapping[str, np.ndarray] = getattr(state, group)
        buffers |= {f"{group}/{name}": data for name, data in encode(dict(weights)).items()}
    write_atomic(path, pack({key: getattr(state, key) for key in FIGURES}, buffers))
