"""Every reply is checked when it arrives: a bad one is excluded and logged, never fatal."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import federate.compression.codec
from federate.local import Weights
from federate.wire import Shapes

if TYPE_CHECKING:
    from flwr.app import Message

__all__ = ["Update", "Wanted", "check_metrics", "check_update"]


@dataclass(frozen=True)
class Update:
    """A valid training reply."""

    client: str
    delta: Weights
    """Trained minus received."""
    extra: Weights
    """What the strategy's client-side rule sends back."""
    tokens: int
    """Really processed."""
    loss: float
    bytes: int
    staleness: int = 0
    """Server updates since the client was asked."""
    rank: int = 0
    """LoRA rank that the client trained; 0: not LoRA, or all clients train the same."""
    discount: float = 1.0
    """What a stale reply counts for."""

    @property
    def weight(self) -> float:
        """In the mean."""
        return self.tokens * self.discount


@dataclass(frozen=True)
class Wanted:
    """What an acceptable reply holds."""

    delta: Shapes
    extra: Shapes
    tokens: int
    """What the server itself asked for: a client cannot claim more weight than that."""
    rank: int = 0


def check_update(reply: "Message", client: str, wanted: Wanted, largest: float) -> Update | str:
    """The update, or why it is not acceptable in one line."""
    metrics = check_metrics(reply, ("loss",))
    if isinstance(metrics, str):
        return metrics
    tokens, loss = metrics.get("tokens"), metrics["loss"]
    if not isinstance(tokens, int) or not 0 < tokens <= wanted.tokens:
        return f"claims {tokens} tokens, asked for at most {wanted.tokens}"
    if not loss >= 0:
        return f"claims a loss of {loss}"
    arrays = reply.content.array_records.get("arrays")
    buffers = {name: array.data for name, array in (arrays or {}).items()}
    rule = {n.removeprefix("rule/"): b for n, b in buffers.items() if n.startswith("rule/")}
    plain = {n: b for n, b in buffers.items() if not n.startswith("rule/")}
    delta = federate.compression.codec.decode(plain, wanted.delta, largest)
    extra = federate.compression.codec.decode(rule, wanted.extra, largest)
    if isinstance(delta, str) or isinstance(extra, str):
        return delta if isinstance(delta, str) else str(extra)
    size = sum(map(len, buffers.values()))
    return Update(client, delta, extra, tokens, loss, size, 0, wanted.rank)


def check_metrics(reply: "Message", figures: tuple[str, ...] = ()) -> dict[str, Any] | str:
    """The reply's metrics, with finite floats under `figures`; or in one line why not."""
    if reply.has_error():
        return f"node error {reply.error.code}: {str(reply.error.reason)[:120]}"
    info: Mapping[str, Any] = reply.content.config_records.get("info") or {}
    if "refused" in info:
        return f"refused: {str(info['refused'])[:120]}"
    metrics = dict(reply.content.metric_records.get("metrics") or {})
    for name in figures:
        value = metrics.get(name)
        if not isinstance(value, float) or not math.isfinite(value):
            return f"claims a {name} of {value}"
    return metrics
