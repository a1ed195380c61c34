"""Messages between the round loop and the silos, over Flower's public Grid.

What goes out is encoded once for all who get the same; what comes back is checked on arrival.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from commonroot.config import Section
from commonroot.errors import RoundError
from commonroot.progress import say
from federate.bounds import matching
from federate.compression.codec import CodecConfig
from federate.compression.downlink import encode_down
from federate.local import Weights
from federate.replies import Update, Wanted, check_metrics, check_update
from federate.requests import EvaluateAsk, TrainAsk
from federate.wire import Shapes, encode

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, Message
    from flwr.serverapp import Grid

__all__ = ["Exchange", "Node", "Parcel"]

POLL_S = 0.2
AT_ONCE = 256
"""Messages that a Grid holds at a time when all clients are asked."""
GRACE_S = 60.0
"""A message outlives the round's deadline by this much."""


@dataclass(frozen=True)
class Node:
    """A client that can be asked."""

    id: int
    share: tuple[str, ...]
    """Patterns of the tensor names that its owner lets out."""

    def shares(self, shapes: Shapes) -> Shapes:
        """Those of `shapes` that it may send."""
        return {name: shapes[name] for name in matching(shapes, self.share)}


@dataclass(frozen=True)
class Parcel:
    """Tensors on their way down, encoded once."""

    buffers: dict[str, bytes]
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes", sum(map(len, self.buffers.values())))

    @cached_property
    def record(self) -> "ArrayRecord":
        """The same object for all receivers: Flower then hashes it only once."""
        from flwr.app import Array, ArrayRecord

        return ArrayRecord(
            {
                name: Array("npy", (len(data),), "numpy.ndarray", data)
                for name, data in self.buffers.items()
            }
        )


@dataclass
class Exchange:
    """One run's side of the Grid."""

    grid: "Grid"
    timeout_s: float
    largest: float
    """A reply with a larger absolute value is excluded."""
    _under_way: dict[str, tuple[str, Wanted]] = field(default_factory=dict)

    def parcel(
        self, weights: Weights, extra: Weights, start: Weights, down: CodecConfig, seed: list[int]
    ) -> Parcel:
        """Global tensors, encoded against what the silo starts from, and those of the rule."""
        plain = {name: value for name, value in weights.items() if name in start}
        buffers = encode_down(plain, start, down, seed)
        buffers |= encode({n: value for n, value in weights.items() if n not in start})
        buffers |= {f"rule/{name}": data for name, data in encode(extra).items()}
        return Parcel(buffers)

    def roster(self, fingerprint: str, wanted: int, wait_s: float) -> dict[str, Node]:
        """Ask every node who it is, until enough clients are there. Name -> node, sorted.

        Raises RoundError when fewer than `wanted` come within `wait_s` seconds.
        """
        end = time.monotonic() + wait_s
        nodes: dict[str, Node] = {}
        asked: set[int] = set()
        while True:
            new = sorted(set(self.grid.get_node_ids()) - asked)
            asked.update(new)
            messages = {str(node): self._message(node, "query", None, 0, None) for node in new}
            for node, reply in self._replies(messages, end):
                _admit(nodes, int(node), reply, fingerprint)
            if len(nodes) >= wanted:
                return dict(sorted(nodes.items()))
            if time.monotonic() > end:
                raise RoundError(
                    f"{len(nodes)} of {wanted} clients came within {wait_s:g} s: "
                    "start more clients, or lower federate.min_clients"
                )
            time.sleep(POLL_S)

    def send(self, asks: Mapping[str, tuple[Node, TrainAsk, Parcel, Wanted]]) -> None:
        """Ask these clients to train."""
        messages = [
            self._message(node.id, "train", ask, ask.round, parcel)
            for node, ask, parcel, _ in asks.values()
        ]
        ids = list(self.grid.push_messages(messages))
        # An earlier request of these clients was given up: its reply must not pass for this one's.
        self._under_way = {i: kept for i, kept in self._under_way.items() if kept[0] not in asks}
        for message_id, (client, ask) in zip(ids, asks.items(), strict=False):
            if message_id is not None:
                self._under_way[message_id] = client, ask[3]

    def receive(self) -> Iterator[tuple[str, Update | str]]:
        """Updates that have come, or why a reply is not acceptable; after a short wait if none."""
        replies = list(self.grid.pull_messages(list(self._under_way)))
        if not replies:
            time.sleep(POLL_S)
        for reply in replies:
            client, wanted = self._under_way.pop(reply.metadata.reply_to_message_id, (None, None))
            if client is not None and wanted is not None:
                yield client, check_update(reply, client, wanted, self.largest)

    def evaluate(
        self, nodes: Mapping[str, Node], ask: EvaluateAsk, parcel: Parcel
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each client's figures, as they arrive; a client that gives none is said and left out."""
        messages = {
            name: self._message(node.id, "evaluate", ask, ask.round, parcel)
            for name, node in nodes.items()
        }
        for name, reply in self._replies(messages, time.monotonic() + self.timeout_s):
            metrics = check_metrics(reply, ("bpb",))
            if isinstance(metrics, str):
                say(f"{name} was not evaluated: {metrics}")
            else:
                yield name, metrics

    def _message(
        self, node: int, kind: str, ask: Section | None, number: int, parcel: Parcel | None
    ) -> "Message":
        from flwr.app import ConfigRecord, Message, RecordDict

        text = "" if ask is None else json.dumps(ask.model_dump(mode="json", exclude_defaults=True))
        content = RecordDict({"config": ConfigRecord({"ask": text})})
        if parcel is not None:
            content["arrays"] = parcel.record
        return Message(content, node, kind, ttl=self.timeout_s + GRACE_S, group_id=str(number))

    def _replies(
        self, messages: dict[str, "Message"], end: float
    ) -> Iterator[tuple[str, "Message"]]:
        """Push, and yield (name, reply) as replies arrive, until `end` on the monotonic clock."""
        names = list(messages)
        for first in range(0, len(names), AT_ONCE):
            part = {name: messages[name] for name in names[first : first + AT_ONCE]}
            yield from self._replies_to(part, end)

    def _replies_to(
        self, messages: dict[str, "Message"], end: float
    ) -> Iterator[tuple[str, "Message"]]:
        ids = list(self.grid.push_messages(messages.values()))
        pending = {i: name for i, name in zip(ids, messages, strict=False) if i is not None}
        while pending:
            replies = list(self.grid.pull_messages(list(pending)))
            for reply in replies:
                name = pending.pop(reply.metadata.reply_to_message_id, None)
                if name is not None:
                    yield name, reply
            if not replies:
                if time.monotonic() > end:
                    return
                time.sleep(POLL_S)


def _admit(nodes: dict[str, Node], node: int, reply: "Message", fingerprint: str) -> None:
    metrics = check_metrics(reply)
    if isinstance(metrics, str):
        return say(f"node {node} is left out: {metrics}")
    info = reply.content.config_records["info"]
    name, share = str(info.get("client")), info.get("shares")
    if info.get("base") != fingerprint:
        return say(f"client {name} is left out: it holds another base model")
    if not isinstance(share, list) or not share:
        return say(f"client {name} is left out: it shares no tensor")
    if name in nodes:
        return say(f"node {node} is left out: there is a client {name} already")
    nodes[name] = Node(node, tuple(map(str, share)))
    return None
