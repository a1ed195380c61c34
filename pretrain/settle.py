"""From a budget to the settings of one run: measured here, written down, and kept on resuming."""

import json
from typing import TYPE_CHECKING

from commonroot.artifact import Workspace, write_atomic
from commonroot.errors import ConfigError
from commonroot.progress import say
from pretrain.budget import Choice, choose, flops_of, ladder, parse_budget
from pretrain.model import ModelShape

if TYPE_CHECKING:
    from pretrain.stage import PretrainConfig

__all__ = ["considered", "describe", "given", "settle"]

PLAN = "plan.json"


def given(section: "PretrainConfig") -> str:
    """Names of the model's settings that a user chose: the budget leaves them alone."""
    return " ".join(sorted(section.model.model_fields_set))


def settle(section: "PretrainConfig", corpus_bytes: int, work: Workspace) -> "PretrainConfig":
    """`section` with the size and the tokens that its budget buys.

    The first call measures and decides; a resumed run goes on with the same decision, which stands
    in the artifact's metrics.
    """
    if not section.budget:
        return section
    kept = work.scratch(PLAN)
    if not kept.exists():
        best = considered(section, corpus_bytes)[0]
        chosen = {"tokens": best.tokens, "model": best.shape.model_dump()}
        write_atomic(kept, json.dumps(chosen))
    chosen = json.loads(kept.read_text("utf-8"))
    shape = ModelShape.model_validate(chosen["model"])
    settled = section.model_copy(update={"tokens": chosen["tokens"], "model": shape})
    say(f"pretrain: {section.budget} buys {describe(settled)}")
    return settled


def considered(section: "PretrainConfig", corpus_bytes: int) -> list[Choice]:
    """What the budget could be spent on, the best choice first; measures speed for seconds.

    Raises ConfigError for a budget beside what it decides.
    """
    if "tokens" in section.model_fields_set:
        raise ConfigError("pretrain.budget decides pretrain.tokens: give one of the two")
    chosen = section.model.model_fields_set
    if chosen - {"family", "vocab"}:
        shapes = [section.model]
    else:
        rungs = ladder(section.model.vocab if "vocab" in chosen else None)
        shapes = [rung.model_copy(update={"family": section.model.family}) for rung in rungs]
    seconds = _seconds_per_token(section, shapes)
    return choose(
        parse_budget(section.budget),
        shapes,
        corpus_bytes,
        lambda shape: 1 / seconds[shape],
    )


def describe(section: "PretrainConfig") -> str:
    """Size and tokens in a few words."""
    model = section.model
    return (
        f"{model.layers} layers of width {model.hidden}, a vocabulary of {model.vocab:,}, "
        f"{section.tokens:,} tokens"
    )


def _seconds_per_token(
    section: "PretrainConfig", shapes: list[ModelShape]
) -> dict[ModelShape, float]:
    """Measured for two sizes; for the others along a line over their FLOP."""
    from pretrain.model import build_model
    from pretrain.speed import tokens_per_second

    ends = [shapes[0]] if len(shapes) == 1 else [shapes[len(shapes) // 6], shapes[len(shapes) // 2]]
    known: dict[ModelShape, float] = {}
    for shape in ends:
        model = build_model(shape, section.context, 0, section.seed)
        known[shape] = 1 / tokens_per_second(model, section)
    if len(shapes) == 1:
        return known
    flops = {shape: flops_of(shape, section.context) for shape in shapes}
    (low, high), (few, many) = [flops[end] for end in ends], [known[end] for end in ends]
    slope = max((many - few) / (high - low), 0.0)
    return {shape: max(few + slope * (flops[shape] - low), few / 4) for shape in shapes}
