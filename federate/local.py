"""Train and evaluate on one shard: pure torch, no Flower.

A workbench is one warm model in one process; the silos of that process take turns at it. Weights
cross its border as numpy arrays by parameter name, fp32, in the shapes of the base model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from commonroot.config import Section
from pretrain.model import Compute
from pretrain.packing import Blocks, pack
from pretrain.train import Step, make_optimizer, schedule, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pretrain.evaluate import EvalSet
    from pretrain.moments import Moments

__all__ = ["LocalSteps", "Weights", "Workbench"]

Weights = dict[str, npt.NDArray[np.float32]]


class LocalSteps(Section):
    """How a model is trained on private text."""

    steps: int = Field(10, ge=1, le=100_000)
    """Optimizer steps."""
    batch: int = Field(4, ge=1, le=4096)
    """Blocks a step."""
    lr: float = Field(2e-3, gt=0, le=1)
    """Peak learning rate of AdamW, which starts from the base's public second moments."""
    warmup: int = Field(0, ge=0)
    """Steps of linear warm-up."""
    decay: float = Field(0.0, ge=0, le=1)
    """Share of the steps over which the learning rate falls to zero."""
    weight_decay: float = Field(0.0, ge=0)
    """On matrices only."""


@dataclass
class Workbench:
    """One warm model and its tokenizer, loaded from a base checkpoint when first used."""

    base: Path
    compute: Compute = field(default_factory=Compute)

    @cached_property
    def model(self) -> "PreTrainedModel":
        from pretrain.model import load_model, pick_device

        return load_model(self.base, pick_device(self.compute))

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        from pretrain.model import load_tokenizer

        return load_tokenizer(self.base)

    @cached_property
    def base_weights(self) -> Weights:
        return self.read()

    @cached_property
    def moments(self) -> "Moments | None":
        """AdamW's second moments of public text, if the base brings them."""
        from pretrain.moments import load_moments

        return load_moments(self.base)

    @property
    def context(self) -> int:
        return int(self.model.config.max_position_embeddings)

    def pack(self, texts: list[str]) -> Blocks:
        """Texts as training blocks of the model's context."""
        return pack(self.tokenizer, texts, self.context)

    def eval_set(self, texts: list[str], most_blocks: int = 0) -> "EvalSet":
        """Texts as an evaluation set; `most_blocks` > 0 bounds its size."""
        from pretrain.evaluate import eval_set

        return eval_set(self.tokenizer, texts, self.context, most_blocks)

    def read(self) -> Weights:
        """A copy of the model's weights; tied ones once."""
        return {
            name: parameter.detach().cpu().numpy().copy()
            for name, parameter in self.model.named_parameters()
        }

    def load(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Set the model's weights; names and shapes must be those of the base."""
        import torch

        assert self.base_weights, "kept before they are overwritten"
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(torch.from_numpy(weights[name]))

    def train(self, data: Blocks, how: LocalSteps, seed: int, first_batch: int = 0) -> list[Step]:
        """Train the loaded weights in place; batches `first_batch`, … of the order of `seed`."""
        return list(self.steps(data, how, seed, first_batch))

    def steps(
        self, data: Blocks, how: LocalSteps, seed: int, first_batch: int = 0
    ) -> Iterator[Step]:
        """The same, step by step."""
        batches = (data.batch(seed, first_batch + step, how.batch) for step in range(how.steps))
        from pretrain.moments import prime

        optimizer = make_optimizer(self.model, how.weight_decay)
        prime(optimizer, self.model, self.moments)
        lr = schedule(how.lr, how.steps, how.warmup, how.decay)
        return train(self.model, optimizer, batches, lr, self.compute)

    def bits_per_byte(self, data: "EvalSet") -> float:
        """bpb of the loaded weights."""
        from pretrain.evaluate import bits_per_byte

        return bits_per_byte(self.model, data, self.compute)
