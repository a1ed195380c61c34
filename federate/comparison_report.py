"""The verdict in plain words, and the comparison's part of the report."""

import html
from pathlib import Path
from typing import Any

from commonroot import report
from commonroot.artifact import write_atomic

__all__ = ["write_fragments"]

NAMES = {
    "base": "base (public text only)",
    "local_only": "local only",
    "centralised": "centralised, matched tokens",
    "centralised_matched_updates": "centralised, matched updates",
    "federated": "federated",
    "personalised": "federated + personalised",
}

PerClient = dict[str, dict[str, float]]


def write_fragments(
    folder: Path,
    metrics: dict[str, Any],
    per_client: PerClient,
    samples: dict[str, str],
    rounds: dict[str, Any],
    prompt: str,
) -> None:
    """Write verdict.html and report.html into the comparison's folder."""
    write_atomic(folder / report.VERDICT, _verdict(metrics, rounds))
    arms = [arm for arm in NAMES if arm in per_client]
    rows = [
        [
            NAMES[arm],
            *(metrics[arm][f"{what}_bpb"] for what in ("own", "union", "public")),
            metrics[arm]["tokens"],
        ]
        for arm in arms
    ]
    header = ["model", "own", "union", "public", "private tokens"]
    said = [[NAMES[arm], samples[arm]] for arm in arms]
    write_atomic(
        folder / report.FRAGMENT,
        report.section(
            "Did federation pay?",
            report.prose(
                "Bits per UTF-8 byte, lower is better. Own: a client's model on that client's test "
                "text. Union: one model on every client's test text. Public: held-out public text, "
                "which shows what was forgotten."
            ),
            report.table(header, rows),
            report.figure(_bars(metrics, arms), "Own, union and public bits per byte of every arm"),
            report.figure(_per_client(per_client), "Own test text, client by client"),
            report.details(
                "One prompt, every model",
                report.prose(f"Prompt: {prompt}"),
                report.table(["model", "text"], said),
            ),
            report.details("Every client", _client_table(per_client, arms)),
        ),
    )


def _verdict(metrics: dict[str, Any], rounds: dict[str, Any]) -> str:
    base, local = metrics["base"]["union_bpb"], metrics["local_only"]["union_bpb"]
    central, fed = metrics["centralised"]["union_bpb"], metrics["federated"]["union_bpb"]
    share = metrics["share_of_central_gain"]
    paid = fed < local
    lines = [
        f"<h3>{'Federation paid.' if paid else 'Federation did not pay here.'}</h3>",
        _p(
            f"On all clients' texts the shared model needs {fed:.3f} bits per byte. A client on "
            f"its own reaches {local:.3f}, the public base {base:.3f}, and pooling everybody's "
            f"text {central:.3f}."
            + (f" That is {share:.0%} of what pooling would have gained." if share else "")
        ),
        _p(
            f"Personalised, it beats training alone for {metrics['personalised_beats_local']} of "
            f"{metrics['clients']} clients on their own text "
            f"({metrics['personalised']['own_bpb']:.3f} against "
            f"{metrics['local_only']['own_bpb']:.3f} on the mean)."
        ),
        _p(
            f"What left the clients: {rounds['bytes_up'] / 1e6:,.1f} MB of weight deltas over "
            f"{rounds['rounds']} rounds, and no text. Deltas can give text away: see "
            "docs/privacy.md."
        ),
        _p(
            f"What it cost: {rounds['private_tokens']:,} private tokens of training, "
            f"{rounds['bytes_down'] / 1e6:,.1f} MB sent to clients. Held-out public text went from "
            f"{metrics['base']['public_bpb']:.3f} bits per byte with the base to "
            f"{metrics['federated']['public_bpb']:.3f}: what the model forgot of it."
        ),
    ]
    return "\n".join(lines)


def _bars(metrics: dict[str, Any], arms: list[str]) -> Any:
    fig = report.new_figure(height=3.6)
    axes = fig.subplots()
    for place, what in enumerate(("own", "union", "public")):
        values = [metrics[arm][f"{what}_bpb"] for arm in arms]
        bars = axes.bar(
            [i + 0.27 * (place - 1) for i in range(len(arms))], values, 0.25, label=what
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
    labels = [
        NAMES[arm].replace(", ", ",\n").replace(" + ", " +\n").replace(" (", "\n(") for arm in arms
    ]
    axes.set_xticks(range(len(arms)), labels, fontsize=8)
    axes.set(ylabel="bits per byte")
    axes.grid(visible=False, axis="x")
    axes.legend(ncols=3, loc="upper right", bbox_to_anchor=(1, 1.12))
    return fig


def _per_client(per_client: PerClient) -> Any:
    order = sorted(per_client["base"], key=lambda c: per_client["local_only"][c])
    fig = report.new_figure(height=3.6)
    axes = fig.subplots()
    marks = {"base": "_", "local_only": "o", "federated": "s", "personalised": "D"}
    for arm, mark in marks.items():
        axes.plot(
            [per_client[arm][c] for c in order],
            linestyle="",
            marker=mark,
            markersize=4,
            label=NAMES[arm],
        )
    axes.set(
        xlabel="clients, from the easiest text to the hardest", ylabel="bits per byte", xticks=[]
    )
    axes.legend(ncols=2, fontsize=8)
    return fig


def _client_table(per_client: PerClient, arms: list[str]) -> str:
    rows = [[client, *(per_client[arm][client] for arm in arms)] for client in per_client["base"]]
    return report.table(["client", *(NAMES[arm] for arm in arms)], rows)


def _p(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
