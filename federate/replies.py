"""Every reply is checked when it arrives: a bad one is excluded and logged, never fatal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from federate.local import Weights
from federate.wire import Shapes, decode

if TYPE_CHECKING:
    from flwr.app import Message

__all__ = ["Update", "check_metrics", "check_update"]


@dataclass(frozen=True)
class Update:
    """A valid training reply."""

    delta: Weights
    tokens: int
    loss: float
    bytes: int


def check_update(
    reply: "Message", expected: Shapes, most_tokens: int, largest: float
) -> Update | str:
    """The update, or why it is not acceptable in one line.

    `most_tokens` is what the server itself asked for: a client cannot claim more weight than that.
    """
    metrics = check_metrics(reply)
    if isinstance(metrics, str):
        return metrics
    tokens, loss = metrics.get("tokens"), metrics.get("loss")
    if not isinstance(tokens, int) or not 0 < tokens <= most_tokens:
        return f"claims {tokens} tokens, asked for at most {most_tokens}"
    if not isinstance(loss, float) or not loss >= 0:
        return f"claims a loss of {loss}"
    arrays = reply.content.array_records.get("arrays")
    buffers = {name: array.data for name, array in (arrays or {}).items()}
    delta = decode(buffers, expected, largest)
    if isinstance(delta, str):
        return delta
    return Update(delta, tokens, loss, sum(map(len, buffers.values())))


def check_metrics(reply: "Message") -> dict[str, Any] | str:
    """The reply's metrics, or why there are none in one line."""
    if reply.has_error():
        return f"node error {reply.error.code}: {str(reply.error.reason)[:120]}"
    info: Mapping[str, Any] = reply.content.config_records.get("info") or {}
    if "refused" in info:
        return f"refused: {str(info['refused'])[:120]}"
    return dict(reply.content.metric_records.get("metrics") or {})
