"""Runs the Flower app in this process: no servers, no waiting, the same bits each time.

Every message goes through Flower's own wire format in both directions, so that this engine cannot
differ from the others by sharing an array. This file and its message store are the only ones that
use modules which Flower keeps private.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from federate.engines.message_store import MessageStore
from federate.engines.workers import Workers, answer_by_name
from federate.silo_server import SiloLike
from flowerapp.client import Ask, client_app

__all__ = ["InProcessGrid", "run"]

RUN_ID = 1
SERVER = 1
APP_CRASHED = 2
"""Flower's error code for a ClientApp that raised."""
FIRST_NODE = 100
"""Node ids are FIRST_NODE, FIRST_NODE + 1, … in the order of the silos."""
AHEAD = 2
"""Replies a worker may be ahead of the one that is waited for: more would fill the memory."""


def run(
    rounds: Callable[[Grid], None],
    silos: Mapping[str, SiloLike],
    workers: int = 0,
    threads: int = 0,
) -> None:
    """Call `rounds` with a grid whose nodes are `silos`, in their order.

    From 2 `workers` on, that many processes of `threads` torch threads each serve the silos
    (federate.engines.workers); below that, this process does. Every pushed message is executed,
    even if its reply is never asked for: so what the silos keep does not depend on `workers`.
    What `rounds` raises is passed on as it is.
    """
    if workers < 2:
        grid = InProcessGrid(silos)
        rounds(grid)
        return grid.finish()
    # Hanging up on the workers ends what the threads wait for: so they are closed last.
    with ThreadPoolExecutor(workers) as turns, Workers(silos, workers, threads) as pool:
        grid = InProcessGrid(silos, pool.ask, turns, AHEAD * workers)
        rounds(grid)
        return grid.finish()


_Reply = tuple[Message, int, int]
"""A reply as it comes off the wire, its bytes, and those of them that are array data."""


class InProcessGrid(Grid):
    """A Grid that executes a message when its reply is asked for, or somewhat before.

    Each `pull_messages` returns one reply, that to the oldest message among those asked for: equal
    messages in equal order give equal replies, however many run at once. A client's messages run
    one after the other in the order of pushing. Time plays no part (a TTL is not enforced).
    """

    bytes_down = 0
    """What Flower would send to the clients for the messages pushed so far: each receiver gets
    every distinct object of its message."""
    bytes_up = 0
    """The same of the replies pulled so far."""
    overhead = 0
    """Bytes of both that are not the arrays' .npy bytes."""

    def __init__(
        self,
        silos: Mapping[str, SiloLike],
        ask: Ask | None = None,
        turns: ThreadPoolExecutor | None = None,
        ahead: int = 0,
    ) -> None:
        """`ask` (name, frame) is served by `silos` unless given. With `turns`, messages run in its
        threads, at most `ahead` of them before the reply to the first was pulled."""
        from flwr.supercore.task_identity import TaskIdentity

        # Flower reads the sender of a new Message from these process-wide fields.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SERVER, 1
        self._names = list(silos)
        self._app = client_app(ask or (lambda name, frame: answer_by_name(silos, name, frame)))
        self._turns, self._ahead = turns, ahead
        self._store = MessageStore()
        self._nodes: dict[str, int] = {}
        """Message -> its node, in the order of pushing, until the reply is pulled."""
        self._replies: dict[str, Future[_Reply]] = {}
        self._latest: dict[int, Future[_Reply]] = {}
        self._run = Run.create_empty(RUN_ID)

    def set_run(self, run: Run) -> None:
        """Replace the description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The description of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """The same as Flower's `Message(...)`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes, in the order of the silos."""
        return range(FIRST_NODE, FIRST_NODE + len(self._names))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Store the messages; returns their ids in the same order."""
        ids = []
        for message in messages:
            node = message.metadata.dst_node_id
            if not 0 <= node - FIRST_NODE < len(self._names):
                raise ValueError(f"no node {node}")
            message_id = self._store.put(message)
            size, arrays = self._store.sizes(message_id)
            self.bytes_down += size
            self.overhead += size - arrays
            self._nodes[message_id] = node
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The reply to the oldest of `message_ids` that has none yet; nothing if all have."""
        first = self._oldest(list(message_ids))
        if first is None:
            return []
        self._start_up_to(first)
        done = self._replies.pop(first)
        reply, size, arrays = done.result()
        node = self._nodes.pop(first)
        if self._latest.get(node) is done:
            del self._latest[node]
        self.bytes_up += size
        self.overhead += size - arrays
        return [reply]

    def finish(self) -> None:
        """Execute what was pushed and not pulled."""
        while self._nodes:
            self.pull_messages(list(self._nodes))

    def _oldest(self, asked: list[str]) -> str | None:
        if asked[:1] == list(islice(self._nodes, 1)):  # mostly, and then without a set
            return next(iter(asked), None)
        wanted = set(asked)
        return next((one for one in self._nodes if one in wanted), None)

    def _start_up_to(self, first: str) -> None:
        """Start `first`, its client's older messages, and then the oldest others."""
        node = self._nodes[first]
        for one, its_node in self._nodes.items():
            if its_node == node and one not in self._replies:
                self._start(one)
            if one == first:
                break
        for one in self._nodes:
            if len(self._replies) >= self._ahead:
                break
            if one not in self._replies:
                self._start(one)

    def _start(self, message_id: str) -> None:
        message = self._store.take(message_id)
        node = message.metadata.dst_node_id
        before = self._latest.get(node)
        if self._turns:
            reply = self._turns.submit(self._execute, message, before)
        else:
            reply = Future()
            reply.set_result(self._execute(message, None))
        self._replies[message_id] = self._latest[node] = reply

    def _execute(self, message: Message, before: Future[_Reply] | None) -> _Reply:
        if before:
            wait([before])
        node = message.metadata.dst_node_id
        name = self._names[node - FIRST_NODE]
        context = Context(RUN_ID, node, {"silo": name}, RecordDict(), {})
        try:
            reply = self._app(message, context)
        except Exception as error:  # as in the other engines, a node's crash is a reply
            reply = Message(Error(APP_CRASHED, type(error).__name__), reply_to=message)
        store = MessageStore()
        reply_id = store.put(reply)
        sizes = store.sizes(reply_id)
        return store.take(reply_id), *sizes

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002 (time plays no part here)
    ) -> Iterable[Message]:
        """Push `messages` and return all replies."""
        ids = list(self.push_messages(messages))
        return [reply for _ in ids for reply in self.pull_messages(ids)]
