"""Public text that travels with the base, so that fine-tuning can rehearse it.

Training on some public text beside the private one keeps a model from forgetting its root:
Robins 1995, Catastrophic forgetting, rehearsal and pseudorehearsal,
https://doi.org/10.1080/09540099550039318.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from pretrain.blend import Blend, turns
from pretrain.packing import Blocks

__all__ = ["FILE", "load_replay", "save_replay"]

FILE = "replay.npy"


def save_replay(data: Blend, blocks: int, seed: int, folder: Path) -> None:
    """Write the tokens of `blocks` blocks, drawn without replacement, each part at its share."""
    wanted = Counter(part for part, _ in turns(data.shares, 0, blocks))
    kept = []
    for number, part in enumerate(data.parts):
        drawn = np.random.default_rng(seed).permutation(len(part))[: wanted[number]]
        ends = [(block * part.context, (block + 1) * part.context) for block in np.sort(drawn)]
        kept += [part.stream_N[start:end] for start, end in ends]
    np.save(folder / FILE, np.concatenate(kept).astype(np.uint32), allow_pickle=False)


def load_replay(base: Path, context: int) -> Blocks | None:
    """What `save_replay` wrote beside a base model, or None."""
    path = base / FILE
    if not path.is_file():
        return None
    return Blocks(np.load(path, allow_pickle=False).astype(np.int64), context)
