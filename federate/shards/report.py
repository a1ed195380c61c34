"""The shards stage's part of the report: how large and how unlike the clients are."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from commonroot import report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["fragment"]

ROWS_SHOWN = 200
POINTS_DRAWN = 500
"""Above that one picture is smaller than the points."""


def fragment(
    figures: Mapping[str, Any], clients: Sequence[Mapping[str, Any]], how: str, left_out: int
) -> str:
    """The stage's part of the report."""
    kinds = [kind for kind in ("words", "labels") if kind in figures]
    fig = report.new_figure(height=2.8)
    sizes, *others = fig.subplots(1, 1 + len(kinds), squeeze=False)[0]
    ordered = sorted((client["bytes"] / 1000 for client in clients), reverse=True)
    sizes.fill_between(range(len(ordered) + 1), [*ordered, ordered[-1]], step="post")
    sizes.set(xlabel="clients, by size", ylabel="private text (KB)", xticks=[])
    sizes.set_ylim(bottom=0)
    for axes, kind in zip(others, kinds, strict=True):
        _plot(axes, clients, kind)
    rows = sorted(clients, key=lambda client: -client["bytes"])[:ROWS_SHOWN]
    columns = [key for key in clients[0] if key != "client"]
    return report.section(
        "Private shards",
        report.prose(_sentences(figures, len(clients), how, left_out)),
        report.figure(fig, "Size and divergence of the clients; the line is an IID re-draw"),
        report.details(
            f"The {ROWS_SHOWN} largest clients" if len(clients) > ROWS_SHOWN else "Clients",
            report.table(
                ["client", *(column.replace("_", " ") for column in columns)],
                [[row["client"], *(row[column] for column in columns)] for row in rows],
            ),
        ),
    )


def _sentences(figures: Mapping[str, Any], clients: int, how: str, left_out: int) -> str:
    size, words = figures["bytes"], figures["words"]
    total = round(size["mean"] * clients)
    text = (
        f"{clients:,} clients ({how}) hold {total:,} bytes of private text; by size they count as "
        f"{size['effective_clients']:.1f} equal ones (Gini {size['gini']:.2f}). "
        "Each splits its own into training, validation and test pieces; none of it is copied out "
        "of the client's folder. A client's words diverge from the pool by "
        f"{words['mean']:.3f} bits on average, against {words['chance']:.3f} if the same pieces "
        f"were dealt out at random; {words['beyond_chance']:.0%} of the clients lie beyond chance "
        "(IID: a tenth)."
    )
    if "labels" in figures:
        labels = figures["labels"]
        text += (
            f" Labels diverge by {labels['mean']:.3f} bits ({labels['chance']:.3f} by chance); a "
            f"client has {labels['effective']:.1f} effective labels."
        )
    return text + (f" {left_out:,} clients without rows enough were left out." if left_out else "")


def _plot(axes: "Axes", clients: Sequence[Mapping[str, Any]], kind: str) -> None:
    ordered = sorted(clients, key=lambda client: client["bytes"])
    size = [max(client["bytes"], 1) / 1000 for client in ordered]
    few = len(ordered) <= POINTS_DRAWN
    axes.scatter(size, [row[kind] for row in ordered], s=14 if few else 4, rasterized=not few)
    chance = [row[f"{kind}_chance"] for row in ordered]
    axes.plot(size, chance, color="#c8722c", label="IID", rasterized=not few)
    axes.set(xlabel="private text (KB)", ylabel=f"{kind}: bits from the pool", xscale="log")
    axes.set_ylim(bottom=0)
    axes.legend()
