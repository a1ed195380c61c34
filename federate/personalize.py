"""A model for one client, made in its silo from the global one; nothing of it leaves.

Three ways: fine-tune all weights; train a low-rank adapter beside the frozen global model (dual);
or keep a personal model through the rounds, pulled towards the global one (Ditto, Li et al. 2021,
https://arxiv.org/abs/2012.04221). In each the client's own validation text decides between the
global model, what came out, and weights between the two: a part of the way is often the better
model, for what training on a little text learns overshoots (Wortsman et al. 2022, WiSE-FT,
https://arxiv.org/abs/2109.01903).
"""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from federate.local import LocalSteps, Weights, Workbench
from federate.lora.adapter import LoraConfig
from pretrain.evaluate import EvalSet
from pretrain.packing import Blocks

__all__ = ["PersonalConfig", "advance_ditto", "choose"]


class PersonalConfig(LocalSteps):
    """Fine-tuning for one client."""

    method: str = Field("finetune", pattern="^(finetune|dual|ditto)$")
    """finetune: all weights; dual: a low-rank adapter beside the global model; ditto: a personal
    model that trains in every round beside the global one."""
    pull: float = Field(0.1, ge=0)
    """Ditto's lambda: weight of the squared distance to the global model."""
    rank: int = Field(8, ge=1)
    """Rank of dual's adapter."""
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.25, 0.5, 0.75, 1.0)
    """How much of what training changed is kept: each is tried on validation text, and the global
    model as it is."""


def advance_ditto(
    bench: Workbench, data: Blocks, how: PersonalConfig, seed: int, first: int, own: Weights
) -> Weights:
    """Train `own` (at first: the global model on the bench) pulled towards the global model."""
    from federate.rules import make_rule

    towards = bench.merged()
    bench.wear(LoraConfig())
    bench.load(towards)
    rule = make_rule({"name": "prox", "mu": how.pull}, bench.trained(), {}, {})
    bench.load(own or towards)
    bench.train(data, how, seed, first, rule)
    return bench.read()


def choose(
    bench: Workbench,
    data: Blocks,
    judge: EvalSet,
    how: PersonalConfig,
    seed: int,
    first: int,
    own: Weights,
) -> tuple[Weights, dict[str, Any]]:
    """The best by `judge` of the global model on the bench and shares of the way to its own one.

    `own` is what Ditto kept so far. Returns all weights by the plain model's names, which are then
    on the bench as well, and figures.
    """
    as_is, shared = bench.bits_per_byte(judge), bench.merged()
    if how.method == "dual":
        bench.wear(LoraConfig(rank=how.rank))
        bench.load(bench.start() | _offsets(shared, bench.base_weights))
        tokens = sum(step.tokens for step in bench.train(data, how, seed, first))
        personal = bench.merged()
    else:
        bench.wear(LoraConfig())
        bench.load((own if how.method == "ditto" else {}) or shared)
        tokens = sum(step.tokens for step in bench.train(data, how, seed, first))
        personal = bench.read()
    bench.wear(LoraConfig())
    found = {0.0: as_is}
    for share in sorted(how.shares):
        bench.load(_between(shared, personal, share))
        found[share] = bench.bits_per_byte(judge)
    best = min(found, key=lambda share: (found[share], -share))
    chosen = _between(shared, personal, best)
    bench.load(chosen)
    figures = {"personal_chosen": int(best > 0), "personal_share": best}
    return chosen, figures | {"personal_tokens": tokens}


def _between(start: Weights, end: Weights, share: float) -> Weights:
    """`share` of the way: exactly `start` at 0 and `end` at 1."""
    if share in (0.0, 1.0):
        return end if share else start
    return {name: value + np.float32(share) * (end[name] - value) for name, value in start.items()}


def _offsets(weights: Weights, base: Weights) -> Weights:
    return {f"base/{name}": value - base[name] for name, value in weights.items()}
