"""The verdict: did federation pay, for whom, and what did it cost?"""

import html
from collections.abc import Mapping
from typing import Any

__all__ = ["in_words"]

Metrics = Mapping[str, Any]


def in_words(metrics: Metrics, federated: Metrics) -> str:
    """The verdict as HTML, from the comparison's metrics and those of the federated run."""
    base, local = metrics["base"]["union_bpb"], metrics["local_only"]["union_bpb"]
    central, reached = metrics["centralised"]["union_bpb"], metrics["federated"]["union_bpb"]
    share, moved = metrics["share_of_central_gain"], metrics["bytes"]
    paid = reached < local
    forgot = metrics["federated"]["public_bpb"] > metrics["base"]["public_bpb"]
    seeds = f" Means of {metrics['seeds']} seeds." if metrics["seeds"] > 1 else ""
    lines = [
        f"<h3>{'Federation paid.' if paid else 'Federation did not pay here.'}</h3>",
        _p(
            f"On all clients' texts the shared model needs {reached:.3f} bits per byte. A client "
            f"on its own reaches {local:.3f}, the public base {base:.3f}, and pooling everybody's "
            f"text {central:.3f}."
            + (f" That is {share:.0%} of what pooling would have gained." if share else "")
            + _gap_in_words(metrics)
            + seeds
        ),
        _p(
            f"Personalised, it beats training alone for {metrics['personalised_beats_local']} of "
            f"{metrics['clients']} clients on their own text "
            f"({metrics['personalised']['own_bpb']:.3f} against "
            f"{metrics['local_only']['own_bpb']:.3f} on the mean)." + _unseen_in_words(metrics)
        ),
        _p(
            f"What left the clients: {_mb(moved['up'])} of weight deltas over "
            f"{federated['rounds']} rounds, and no text. Deltas can give text away: see "
            "docs/privacy.md."
        ),
        _p(
            f"What it cost: {federated['private_tokens']:,} private tokens of training, "
            f"{_mb(moved['down'])} sent to clients during the rounds; their text itself "
            f"is {_mb(moved['private_raw'])} ({_mb(moved['private_zstd'])} compressed). "
            f"Held-out public text went from {metrics['base']['public_bpb']:.3f} bits per byte "
            "with the base to "
            f"{metrics['federated']['public_bpb']:.3f}"
            + (": what the model forgot of it." if forgot else ": nothing of it was forgotten.")
        ),
    ]
    return "\n".join(lines)


def _gap_in_words(metrics: Metrics) -> str:
    closed = metrics["gap_closed_matched_tokens"]
    if closed is not None:
        updates = metrics.get("gap_closed_matched_updates")
        also = f" ({updates:.0%} with as many updates)" if updates is not None else ""
        return f" It closes {closed:.0%} of the gap between training alone and pooling{also}."
    gap = metrics["local_only"]["union_bpb"] - metrics["centralised"]["union_bpb"]
    return (
        f" The gap between training alone and pooling, {gap:.3f}, is too small to say what share "
        "of it federation closes."
    )


def _unseen_in_words(metrics: Metrics) -> str:
    unseen = metrics.get("unseen")
    if not unseen:
        return ""
    return (
        f" Of {unseen['clients']} clients that no round has seen it does so for "
        f"{unseen['personalised_beats_local_only']}."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} KB"


def _p(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
