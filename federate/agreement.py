"""How far the replies of a round point the same way, from a sketch of each.

Keeping every reply would cost O(clients x model). A fixed sample of coordinates is kept instead;
for models of up to `SAMPLE` coordinates it is exact.
"""

import numpy as np
import numpy.typing as npt

from federate.local import Weights
from federate.wire import Shapes, l2_norm

__all__ = ["Agreement"]

SAMPLE = 16_384
Sketch = npt.NDArray[np.float64]


class Agreement:
    """Norm of each reply, and its cosine with the mean of all."""

    def __init__(self, shapes: Shapes, seed: int) -> None:
        sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        total = max(1, sum(sizes.values()))
        random = np.random.default_rng([seed, total])
        self._picks = {
            name: np.sort(random.choice(size, max(1, min(size, SAMPLE * size // total)), False))
            for name, size in sizes.items()
            if size
        }
        self.begin()

    def begin(self) -> None:
        """Start a round."""
        self._sketches: dict[str, Sketch] = {}
        self._norms: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    def add(self, client: str, delta: Weights, weight: float) -> None:
        """Remember one reply's sketch."""
        self._sketches[client] = self._sketch(delta)
        self._norms[client] = l2_norm(delta)
        self._weights[client] = weight

    def figures(self) -> dict[str, dict[str, float]]:
        """Client -> {"norm", "cosine"}."""
        if not self._sketches:
            return {}
        total = sum(self._weights.values())
        mean = sum(
            (self._weights[client] / total) * sketch for client, sketch in self._sketches.items()
        )
        return {
            client: {
                "norm": round(self._norms[client], 6),
                "cosine": round(_cosine(sketch, np.asarray(mean)), 4),
            }
            for client, sketch in self._sketches.items()
        }

    def mean(self) -> float:
        """Mean cosine of the replies with their mean; 0 for none."""
        cosines = [figure["cosine"] for figure in self.figures().values()]
        return float(np.mean(cosines)) if cosines else 0.0

    def _sketch(self, delta: Weights) -> Sketch:
        parts = [
            delta[name].reshape(-1)[picks]
            if name in delta and delta[name].size > picks[-1]
            else np.zeros(len(picks))
            for name, picks in self._picks.items()
        ]
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros(1)


def _cosine(a: Sketch, b: Sketch) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else 0.0
