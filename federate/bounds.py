"""What the owner of a shard allows, whatever the server asks."""

import fnmatch
from collections.abc import Iterable, Sequence

import numpy as np
from pydantic import Field

from commonroot.config import Section
from federate.local import LocalSteps, Weights
from federate.wire import l2_norm

__all__ = ["Refusal", "SiloBounds", "matching"]


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Those of `names` that fit one of the patterns; `first/<tensor>` goes as <tensor> does."""
    return [
        name
        for name in names
        if any(fnmatch.fnmatchcase(name.rpartition("/")[2], pattern) for pattern in patterns)
    ]


class Refusal(Exception):
    """The request is not served; `str()` is for the server and holds nothing private."""


class SiloBounds(Section):
    """What the owner of a shard allows, whatever the server asks."""

    most_steps: int = Field(1000, ge=1)
    """Local optimizer steps in one request."""
    most_lr: float = Field(0.1, gt=0)
    """Learning rate of one request."""
    most_rounds: int = Field(10_000, ge=1)
    """Training requests in one run."""
    largest_weight: float = Field(1000.0, gt=0)
    """A tensor that arrives with a larger absolute value is refused."""
    share: tuple[str, ...] = ("*",)
    """Patterns of tensor names that may leave; every other tensor stays personal, in the silo."""
    rules: tuple[str, ...] = ("prox", "scaffold", "mime", "adam", "freeze")
    """Client-side rules that a strategy may ask for."""
    clip_norm: float = Field(0.0, ge=0)
    """L2 norm to which the delta is scaled down before it leaves; 0: not clipped."""
    piece_chars: int = Field(3000, ge=200)
    """Characters of the pieces that are split into training, validation and test."""

    def allow_steps(self, how: LocalSteps) -> None:
        """Raises Refusal for more than the owner allows."""
        if how.steps > self.most_steps or how.lr > self.most_lr:
            raise Refusal("more steps or a higher learning rate than the owner allows")

    def allow_rule(self, rule: dict[str, object]) -> None:
        """Raises Refusal for a client-side rule that the owner does not allow."""
        if rule and rule.get("name") not in self.rules:
            raise Refusal(f"the owner allows only the rules {', '.join(self.rules) or '(none)'}")

    def shared(self, tensors: Weights) -> Weights:
        """Those that may leave."""
        return {name: tensors[name] for name in matching(tensors, self.share)}

    def clip(self, delta: Weights) -> tuple[Weights, float]:
        """`delta` scaled down to an L2 norm of at most `clip_norm`, and its norm then."""
        norm = l2_norm(delta)
        if not self.clip_norm or norm <= self.clip_norm:
            return delta, norm
        scale = self.clip_norm / norm
        return {name: value * np.float32(scale) for name, value in delta.items()}, self.clip_norm
