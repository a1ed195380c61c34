"""What the pretrain stage tells in the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from commonroot import report
from pretrain.blend import FRESH_EPOCHS

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
    if metrics.get("outlook"):
        parts += _outlook(metrics["outlook"], metrics["tokens"], metrics["corpus_tokens"])
    if len(metrics.get("corpora", {})) > 1:
        parts.append(_corpora(metrics["corpora"]))
    if metrics.get("sources"):
        parts.append(_sources(metrics["sources"]))
    if metrics.get("pairs"):
        parts += _pairs(metrics["pairs"])
    rows = report.table(["prompt", "continuation"], list(samples.items()))
    parts.append(report.details("Samples", rows))
    return report.section("The root: pretraining on public text", *parts)


def _loss(log: Sequence[Mapping[str, Any]]) -> str:
    fig = report.new_figure()
    axes = fig.subplots()
    axes.plot([r["step"] for r in log], [r["loss"] for r in log], linewidth=1.2)
    axes.set(xlabel="step", ylabel="training loss (nats per token)")
    return report.figure(fig, "Training loss on public text")


def _outlook(found: Mapping[str, Any], tokens: int, corpus_tokens: int) -> list[str]:
    times, (low, high) = found["times"], (found["low"], found["high"])
    text = (
        f"What {times:g} times the tokens would give: {found['bpb']:.3f} bits per byte, 95 % "
        f"interval {low:.3f} to {high:.3f}. This extrapolates one run: a power law with a floor "
        "fitted to held-out text at a constant learning rate, moved down by what the fall of the "
        f"learning rate gained ({-found['cooldown']:.3f}). The interval holds the noise of the "
        f"points, not whether the law goes on. It supposes this model and {times:g} times as much "
        "text of the same kind; a larger model would gain more."
    )
    epochs = times * tokens / max(1, corpus_tokens)
    if epochs > FRESH_EPOCHS:
        text += (
            f" The corpus at hand would be read {epochs:.0f} times: repeated text is worth less "
            "than fresh text, so gather more before training longer."
        )
    return [report.prose(text), _line(found)]


def _line(found: Mapping[str, Any]) -> str:
    import numpy as np

    *steady, (total, final) = found["points"]
    x = np.geomspace(steady[0][0], total * found["times"], 100)
    y = found["floor"] + found["scale"] * x ** -found["power"]
    fig = report.new_figure()
    axes = fig.subplots()
    axes.plot(x, y, linewidth=1.2, label="fitted at a constant learning rate")
    axes.plot(*zip(*steady, strict=True), "o", color=report.CYCLE[0])
    axes.plot(x[x >= total], y[x >= total] + found["cooldown"], "--", color=report.CYCLE[1])
    axes.plot([total], [final], "o", color=report.CYCLE[1], label="cooled down: measured, expected")
    bar = [[found["bpb"] - found["low"]], [found["high"] - found["bpb"]]]
    axes.errorbar([x[-1]], [found["bpb"]], bar, fmt="o", mfc="white", color=report.CYCLE[1])
    axes.set(xscale="log", xlabel="training tokens", ylabel="held-out bits per byte")
    axes.legend()
    return report.figure(fig, "Held-out public text along the run, and where it leads")


def _corpora(corpora: Mapping[str, Mapping[str, Any]]) -> str:
    header = [
        "part of the mixture", "share of tokens", "documents", "MB", "bytes per token",
        "tokens trained", "times read", "held-out bits per byte",
    ]  # fmt: skip
    rows = [
        [name, f"{row['share']:.1%}", row["documents"], row["bytes"] / 1e6,
         row["bytes_per_token"], row["tokens_trained"], row["epochs"],
         "none held out" if row["bpb"] is None else row["bpb"]]
        for name, row in corpora.items()
    ]  # fmt: skip
    return report.details("By corpus", report.table(header, rows))


def _sources(sources: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [name, float(row["bpb"]), float(row["bytes_per_token"]), int(row["documents"])]
        for name, row in sources.items()
    ]
    header = ["held-out text of", "bits per byte", "bytes per token", "documents"]
    return report.details("By source", report.table(header, rows))


def _pairs(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    overall = found["overall"]
    text = (
        f"Of {overall['pairs']:,} pairs of sentences that differ in one place, the English one is "
        f"the likelier in {overall['accuracy']:.1%} (95 % interval over pairs "
        f"{overall['low']:.1%} to {overall['high']:.1%}); guessing gives 50 %."
    )
    names = [name for name in reversed(list(found)) if name != "overall"]
    shares = [found[name]["accuracy"] for name in names]
    bars = [
        [found[name]["accuracy"] - found[name]["low"] for name in names],
        [found[name]["high"] - found[name]["accuracy"] for name in names],
    ]
    fig = report.new_figure(height=4.4)
    axes = fig.subplots()
    axes.errorbar(shares, names, xerr=bars, fmt="o", linewidth=1.2)
    axes.axvline(0.5, linestyle="--", linewidth=1.0, color=report.CYCLE[-1])
    axes.set(xlim=(0, 1), xlabel="share of pairs with the English one likelier; dashed: guessing")
    return [report.prose(text), report.figure(fig, "Minimal pairs by phenomenon")]
