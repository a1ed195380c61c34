"""The dial: how long, how many tokens or how large -> everything else of a training run.

A run's loss is predicted as E + A / N^a + B / D^b (N million parameters, D megabytes of training
text; Hoffmann et al. 2022, https://arxiv.org/abs/2203.15556), where text that is seen again counts
less each time (Muennighoff et al. 2023, https://arxiv.org/abs/2305.16264). The constants are those
of a grid of small runs (docs/decisions.md); how many tokens a second a size trains is measured
before it starts.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pretrain.model import ModelShape

__all__ = [
    "Budget",
    "Choice",
    "bytes_per_token",
    "choose",
    "flops_of",
    "ladder",
    "parameters_of",
    "parse_budget",
    "predicted_bpb",
]

WRITTEN = re.compile(r"([\d.]+)( ?s| ?min| ?h|[kMG]? tokens|[kMG]? parameters)")
SECONDS = {"s": 1, "min": 60, "h": 3600}
THOUSANDS = {"k": 10**3, "M": 10**6, "G": 10**9, "": 1}
E, A, ALPHA, B, BETA = 0.806, 0.246, 0.434, 0.887, 0.510
"""Of bits per byte: fitted to the grid in docs/decisions.md."""
RUNGS = (
    *((2, 3), (3, 4), (4, 4), (5, 5), (6, 6), (8, 6)),
    *((10, 7), (12, 8), (16, 10), (20, 12), (24, 12)),
)
"""Heads of 32 and layers."""
VOCABULARIES = (2048, 4096, 8192)
HALF_LIFE = 15.4
"""Epochs after which what repetition adds is nearly used up (Muennighoff et al., R*)."""
MOST_EPOCHS = 5
"""As many as the grid tried; sixteen made a small corpus a matter of memory (docs/decisions.md)."""
BYTES_A_PARAMETER = 1.0
"""Of the corpus, at least: a larger model would learn it by heart, which the formula does not know.
"""
TOKENS_A_PARAMETER = 3.0
"""Where N is given and D is free: about what a budget of minutes leads to."""


@dataclass(frozen=True)
class Budget:
    """One of the three is set."""

    seconds: float | None = None
    tokens: int | None = None
    parameters: int | None = None


@dataclass(frozen=True)
class Choice:
    """A size that was considered."""

    shape: ModelShape
    parameters: int
    tokens: int
    epochs: float
    """Passes over the corpus."""
    bpb: float
    """Predicted, held-out public text."""
    seconds: float
    """Of training."""


def parse_budget(text: str) -> Budget:
    """E.g. "90s", "4 min", "2h", "20M tokens", "3M parameters". Raises ValueError."""
    found = WRITTEN.fullmatch(text)
    if not found or not re.fullmatch(r"\d+(\.\d+)?", found[1]):
        raise ValueError("write a time (90s, 4min, 2h), 20M tokens or 3M parameters")
    amount, unit = float(found[1]), found[2].lstrip()
    if unit in SECONDS:
        return Budget(seconds=amount * SECONDS[unit])
    scale, _, what = unit.rpartition(" ")
    return Budget(**{what: int(amount * THOUSANDS[scale])})


def ladder(vocab: int | None = None) -> list[ModelShape]:
    """Shapes from 0.2M to 100M parameters, each width about 1.3 times the one before.

    Every width comes with each of `VOCABULARIES`, or with `vocab` alone.
    """
    return [
        ModelShape(
            hidden=32 * heads,
            layers=layers,
            heads=heads,
            kv_heads=heads // 2 if heads % 2 == 0 else heads,
            intermediate=96 * heads,
            vocab=words,
        )
        for heads, layers in RUNGS
        for words in ((vocab,) if vocab else VOCABULARIES)
    ]


def bytes_per_token(vocab: int) -> float:
    """About how many bytes of English prose a token of a trained byte-level BPE stands for."""
    return 2.46 + 0.56 * math.log2(vocab / 1024)


def parameters_of(shape: ModelShape) -> int:
    """Parameters of a tied model of this shape, norms left out."""
    head = shape.hidden // shape.heads
    attention = 2 * shape.hidden * head * (shape.heads + shape.kv_heads)
    mlp = 3 * shape.hidden * shape.intermediate
    return shape.vocab * shape.hidden + shape.layers * (attention + mlp)


def flops_of(shape: ModelShape, context: int) -> float:
    """What pretrain.speed.flops_per_token counts, without building the model."""
    attention = 4 * shape.layers * shape.hidden * context
    return float(3 * (2 * parameters_of(shape) + attention))


def predicted_bpb(parameters: int, text: float, corpus: float) -> float:
    """Held-out bpb after training on `text` bytes, drawn from a corpus of `corpus` bytes."""
    fresh = min(text, corpus)
    again = text / fresh - 1
    worth = fresh * (1 + HALF_LIFE * (1 - math.exp(-again / HALF_LIFE)))
    return float(E + A / (parameters / 1e6) ** ALPHA + B / (worth / 1e6) ** BETA)


def choose(
    budget: Budget,
    shapes: Iterable[ModelShape],
    corpus: int,
    tokens_per_second: Callable[[ModelShape], float],
) -> list[Choice]:
    """Every shape with the tokens that the budget buys it, the best one first.

    `corpus`: bytes of training text.
    """
    choices = [_choice(budget, shape, corpus, tokens_per_second(shape)) for shape in shapes]
    if budget.parameters is None:
        most = corpus / BYTES_A_PARAMETER
        least = min(choice.parameters for choice in choices)
        choices = [choice for choice in choices if choice.parameters <= max(most, least)]
    if budget.seconds is not None:
        return sorted(choices, key=lambda one: one.bpb)
    wanted = budget.parameters or budget.tokens / TOKENS_A_PARAMETER  # type: ignore[operator]
    return sorted(choices, key=lambda one: abs(math.log(one.parameters / wanted)))


def _choice(budget: Budget, shape: ModelShape, corpus: int, rate: float) -> Choice:
    parameters, each = parameters_of(shape), bytes_per_token(shape.vocab)
    if budget.seconds is not None:
        tokens = int(budget.seconds * rate)
    else:
        tokens = budget.tokens or int(parameters * TOKENS_A_PARAMETER)
    tokens = max(1, min(tokens, int(MOST_EPOCHS * corpus / each)))
    bpb = predicted_bpb(parameters, tokens * each, corpus)
    return Choice(shape, parameters, tokens, tokens * each / corpus, bpb, tokens / rate)
