"""Train and evaluate on one shard: pure torch, no Flower.

A workbench is one warm model in one process; the silos of that process take turns at it. Weights
cross its border as fp32 numpy arrays by name: the parameters of the base model, or the LoRA tensors
that stand in for them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from commonroot.config import Section
from commonroot.errors import DataError
from federate.svrg import Anchored
from pretrain.model import Compute
from pretrain.packing import IGNORE, Blocks, Int64, pack
from pretrain.records import Document
from pretrain.train import Gradients, Step, gradients, make_optimizer, schedule, train

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from federate.lora.adapter import LoraConfig
    from federate.rules import Rule
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
    beta_1: float = Field(0.9, ge=0, lt=1)
    """AdamW's memory of gradients. A longer one pays where the strategy averages it between rounds
    (local-adam): more of a step is then what all clients found, less this client's own noise."""
    beta_2: float = Field(0.95, ge=0, lt=1)
    """AdamW's memory of squared gradients."""
    svrg: int = Field(0, ge=0, le=1000)
    """Steps over which the gradients of single batches are corrected by their mean at the first of
    them, usually all of `steps` (federate.svrg); 0: plain steps. Takes two gradient passes a batch
    and holds this many more copies of the gradient."""
    replay: float = Field(0.0, ge=0, le=4)
    """Blocks of public text trained on for each private block, so that the root is not
    forgotten."""

    @property
    def passes(self) -> float:
        """Gradient passes over a block, private or public, for each private block."""
        return (2 if self.svrg else 1) * (1 + self.replay)


@dataclass
class Workbench:
    """One warm model and its tokenizer, loaded from a base checkpoint when first used."""

    base: Path
    compute: Compute = field(default_factory=Compute)
    _lora: "LoraConfig | None" = None

    def __getstate__(self) -> dict[str, object]:
        """For another process: what is warm here is loaded there."""
        return {"base": self.base, "compute": self.compute, "_lora": None}

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
        """The public base; tied weights once."""
        assert not self._lora, "read before LoRA is put on"
        return _copied(self.model.named_parameters())

    @cached_property
    def fingerprint(self) -> str:
        """Of the public base: both sides must start from one."""
        from federate.wire import fingerprint

        return fingerprint(self.base_weights)

    @cached_property
    def moments(self) -> "Moments | None":
        """AdamW's second moments of public text, if the base brings them."""
        from pretrain.moments import load_moments

        return load_moments(self.base)

    @cached_property
    def replay(self) -> "Blocks | None":
        """Public text to train on beside the client's own, if the base brings it."""
        from pretrain.replay import load_replay

        return load_replay(self.base, self.context)

    @cached_property
    def context(self) -> int:
        """Tokens a block: those of the base's stage, for an adopted model may take far more."""
        from pretrain.adopt import context_of

        return context_of(self.base, self.model.config)

    def pack(self, texts: Sequence[Document]) -> Blocks:
        """Records as training blocks of the model's context."""
        return pack(self.tokenizer, texts, self.context)

    def eval_set(self, texts: Sequence[Document], most_blocks: int = 0) -> "EvalSet":
        """Records as an evaluation set; `most_blocks` > 0 bounds its size."""
        from pretrain.evaluate import eval_set

        return eval_set(self.tokenizer, texts, self.context, most_blocks)

    def wear(self, lora: "LoraConfig") -> None:
        """Train all weights (rank 0), or low-rank factors beside frozen ones."""
        if lora == self._lora or (self._lora is None and not lora.rank):
            return
        from federate.lora.adapter import attach, detach

        assert self.base_weights, "kept before anything stands beside them"
        detach(self.model)
        self._lora = None
        if lora.rank:
            attach(self.model, lora)
            self._lora = lora

    def start(self) -> Weights:
        """The tensors that training begins with and that travel: as the public base has them."""
        if self._lora is None:
            return self.base_weights
        from federate.lora.adapter import initial

        return initial(self.model, self._lora)

    def read(self) -> Weights:
        """A copy of the tensors that are trained."""
        if self._lora is None:
            return _copied(self.model.named_parameters())
        from federate.lora.adapter import read

        return read(self.model)

    def load(self, weights: Weights) -> None:
        """Set what `read` reads; `base/<parameter>` is added to a frozen one of the base."""
        assert self.base_weights, "kept before they are overwritten"
        if self._lora is None:
            return _set(dict(self.model.named_parameters()), weights)
        from federate.lora.adapter import load

        return load(self.model, weights, self.base_weights)

    def merged(self) -> Weights:
        """All weights by the plain model's names, LoRA factors multiplied out."""
        if self._lora is None:
            return self.read()
        from federate.lora.adapter import merged

        return merged(self.model)

    def trained(self) -> "dict[str, torch.nn.Parameter]":
        """The parameters that `read` reads, under the same names."""
        if self._lora is None:
            return dict(self.model.named_parameters())
        from federate.lora.adapter import parameters

        return parameters(self.model)

    def steps(
        self,
        data: Blocks,
        how: LocalSteps,
        seed: int,
        first_batch: int = 0,
        rule: "Rule | None" = None,
    ) -> Iterator[Step]:
        """Train what is loaded in place, step by step; batches `first_batch`, … of `seed`.

        `tokens` of a step are the private ones.
        """
        from pretrain.moments import prime

        optimizer = make_optimizer(self.model, how.weight_decay, (how.beta_1, how.beta_2))
        prime(optimizer, self.model, self._second_moments())
        if rule:
            rule.begin(optimizer)
        lr = schedule(how.lr, how.steps, how.warmup, how.decay)
        private: list[int] = []

        def batches() -> Iterator[tuple[Int64, Int64]]:
            for number in range(first_batch, first_batch + how.steps):
                x_BT, y_BT = data.batch(seed, number, how.batch)
                private.append(int((y_BT != IGNORE).sum()))
                yield self._with_replay(x_BT, y_BT, how, seed, number)

        ready = batches()
        gradient: Gradients = gradients
        if how.svrg:
            anchored = Anchored(self.model, how.svrg, self.compute)
            ready, gradient = anchored.ahead(ready), anchored.gradients
        done = train(self.model, optimizer, ready, lr, self.compute, 0, gradient, rule)
        for number, step in enumerate(done):
            yield replace(step, tokens=private[number])

    def _second_moments(self) -> "Moments | None":
        if self._lora is None:
            return self.moments
        from federate.lora.adapter import second_moments

        return second_moments(self.model, self.moments)

    def _with_replay(
        self, x_BT: Int64, y_BT: Int64, how: LocalSteps, seed: int, number: int
    ) -> tuple[Int64, Int64]:
        """The private blocks, and after them the public ones that batch `number` rehearses."""
        share = how.batch * how.replay
        blocks = round(share * (number + 1)) - round(share * number)
        if not blocks:
            return x_BT, y_BT
        if self.replay is None:
            raise DataError(f"{self.base} holds no public text to replay: set local.replay = 0")
        public_x_BT, public_y_BT = self.replay.batch(seed, number, blocks)
        return np.concatenate([x_BT, public_x_BT]), np.concatenate([y_BT, public_y_BT])

    def train(
        self,
        data: Blocks,
        how: LocalSteps,
        seed: int,
        first_batch: int = 0,
        rule: "Rule | None" = None,
    ) -> list[Step]:
        """`steps`, all of them."""
        return list(self.steps(data, how, seed, first_batch, rule))

    def bits_per_byte(self, data: "EvalSet") -> float:
        """bpb of the loaded weights."""
        from pretrain.evaluate import bits_per_byte

        return bits_per_byte(self.model, data, self.compute)


def _copied(named: Iterable[tuple[str, "torch.nn.Parameter"]]) -> Weights:
    return {name: value.detach().cpu().numpy().copy() for name, value in named}


def _set(parameters: "dict[str, torch.nn.Parameter]", weights: Weights) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(weights[name]))
