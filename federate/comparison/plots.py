"""Figures of the comparison: levels, rounds, clients, starts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from commonroot import report
from commonroot.report import CYCLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ARMS", "bars", "by_client", "by_round", "starts"]

ARMS = {
    "base": "base (public text only)",
    "local_only": "local only",
    "centralised": "centralised, matched tokens",
    "centralised_matched_updates": "centralised, matched updates",
    "centralised_plain": "centralised, matched tokens, plain steps",
    "centralised_matched_updates_plain": "centralised, matched updates, plain steps",
    "federated": "federated",
    "personalised": "federated + personalised",
    "federated_iid": "federated, IID control",
}
GREEN, ORANGE, BLUE, PURPLE, GREY = CYCLE
COLOURS = {
    "base": GREY,
    "local_only": ORANGE,
    "centralised": BLUE,
    "centralised_matched_updates": BLUE,
    "centralised_plain": BLUE,
    "centralised_matched_updates_plain": BLUE,
    "federated": GREEN,
    "personalised": PURPLE,
    "federated_iid": GREEN,
}
Curve = Sequence[Sequence[float]]
"""(rounds done, bpb)."""


def bars(metrics: Mapping[str, Any], arms: Sequence[str]) -> "Figure":
    """Own, union and public of every arm; with several seeds, their 95 % intervals."""
    fig = report.new_figure(height=3.9)
    axes = fig.subplots()
    for place, what in enumerate(("own", "union", "public")):
        spread = [metrics["spread"][arm][f"{what}_bpb"] for arm in arms]
        half = [0.0 if s["low"] is None else s["mean"] - s["low"] for s in spread]
        drawn = axes.bar(
            [i + 0.28 * (place - 1) for i in range(len(arms))],
            [s["mean"] for s in spread],
            0.26,
            yerr=half if any(half) else None,
            error_kw={"linewidth": 0.8, "capsize": 2},
            label=what,
        )
        axes.bar_label(drawn, fmt="%.2f", fontsize=6.5, padding=1)
    labels = [ARMS[arm].replace(", ", ",\n").replace(" + ", " +\n") for arm in arms]
    labels = [label.replace(" (", "\n(").replace("matched ", "matched\n") for label in labels]
    axes.set_xticks(range(len(arms)), labels, fontsize=8)
    axes.set(ylabel="bits per byte")
    axes.grid(visible=False, axis="x")
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return fig


def by_round(seeds: Sequence[Mapping[str, Any]]) -> "Figure":
    """Validation by round, every seed; the levels of models that know no rounds as lines."""
    from matplotlib.ticker import MaxNLocator

    fig = report.new_figure(height=3.8)
    axes = fig.subplots()
    levels = {"base": "-", "centralised_matched_updates": "--", "centralised": "-"}
    first = seeds[0]["arms"]
    for arm, style in levels.items():
        if arm in first:
            level = first[arm]["validation_bpb"]
            axes.axhline(level, color=COLOURS[arm], linestyle=style, linewidth=1, label=ARMS[arm])
    for arm, style in {"federated": "-", "federated_iid": ":"}.items():
        for number, seed in enumerate(seeds):
            if arm in seed["curves"]:
                axes.plot(
                    *_from_base(seed, arm),
                    color=COLOURS[arm],
                    linestyle=style,
                    marker="o" if style == "-" else "s",
                    markersize=3.5,
                    alpha=1 if number == 0 else 0.45,
                    label=ARMS[arm] if number == 0 else None,
                )
    axes.set(xlabel="rounds", ylabel="clients' validation text (bits per byte)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    return fig


def by_client(per_client: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Own test text of every client, from the easiest to the hardest."""
    order = sorted(per_client["base"], key=lambda c: per_client["local_only"][c])
    fig = report.new_figure(height=3.8)
    axes = fig.subplots()
    marks = {"base": "_", "local_only": "o", "federated": "s", "personalised": "D"}
    places = range(len(order))
    axes.vlines(
        places,
        [per_client["personalised"][c] for c in order],
        [per_client["local_only"][c] for c in order],
        color="#d5ddd7",
        linewidth=1.2,
    )
    for arm, mark in marks.items():
        axes.plot(
            places,
            [per_client[arm][c] for c in order],
            linestyle="",
            marker=mark,
            markersize=4,
            color=COLOURS[arm],
            label=ARMS[arm],
        )
    axes.set(xlabel="clients, from the easiest text to the hardest", ylabel="bits per byte")
    axes.set_xticks([])
    axes.legend(ncols=4, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    return fig


def starts(found: Mapping[str, Any]) -> "Figure":
    """Validation by round from the base and from random weights, and how far they are apart."""
    from matplotlib.ticker import MaxNLocator

    fig = report.new_figure(height=3.8)
    axes = fig.subplots()
    curves: Mapping[str, Curve] = found["curves"]
    for name, colour in {"base": GREEN, "scratch": ORANGE}.items():
        label = "from the base" if name == "base" else "from random weights"
        rounds = [point[0] for point in curves[name]]
        bpb = [point[1] for point in curves[name]]
        axes.plot(rounds, bpb, color=colour, marker="o", markersize=3.5, label=label)
    for row in found["at"]:
        axes.vlines(row["rounds"], row["base"], row["scratch"], color=GREY, linestyle=":")
        middle = (row["base"] + row["scratch"]) / 2
        text = f"{row['difference']:+.2f}"
        axes.annotate(
            text, (row["rounds"], middle), (-4, 0), textcoords="offset points", ha="right"
        )
    axes.set(xlabel="rounds", ylabel="clients' validation text (bits per byte)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    return fig


def _from_base(seed: Mapping[str, Any], arm: str) -> tuple[list[float], list[float]]:
    points = [(0, seed["arms"]["base"]["validation_bpb"]), *seed["curves"][arm]]
    return [point[0] for point in points], [point[1] for point in points]
