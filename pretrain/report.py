"""What the pretrain stage tells in the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from commonroot import report

__all__ = ["fragment"]


def fragment(
    metrics: Mapping[str, Any], log: Sequence[Mapping[str, Any]], samples: Mapping[str, str]
) -> str:
    """The stage's section: facts, the loss by step, samples."""
    facts = (
        f"{metrics['parameters']:,} parameters, {metrics['tokens']:,} training tokens of public "
        f"text. Held-out public text: {metrics['public_bpb_at_start']:.3f} bits per byte before, "
        f"{metrics['public_bpb']:.3f} after. Provenance: {metrics['provenance']}."
    )
    parts = [report.prose(facts)]
    if log:
        parts.append(_loss(log))
    rows = report.table(["prompt", "continuation"], list(samples.items()))
    parts.append(report.details("Samples", rows))
    return report.section("The root: pretraining on public text", *parts)


def _loss(log: Sequence[Mapping[str, Any]]) -> str:
    fig = report.new_figure()
    axes = fig.subplots()
    axes.plot([r["step"] for r in log], [r["loss"] for r in log], linewidth=1.2)
    axes.set(xlabel="step", ylabel="training loss (nats per token)")
    return report.figure(fig, "Training loss on public text")
