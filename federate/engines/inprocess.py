"""Runs the Flower app in this process: no servers, no waiting, the same bits each time.

Every message goes through Flower's own wire format in both directions, so that this engine cannot
differ from the others by sharing an array. It is the only file that uses modules which Flower
keeps private; they are imported where they are used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from federate.silo_server import SiloLike, answer_frame
from flowerapp.client import client_app

__all__ = ["InProcessGrid", "run"]

RUN_ID = 1
SERVER = 1
APP_CRASHED = 2
"""Flower's error code for a ClientApp that raised."""
FIRST_NODE = 100
"""Node ids are FIRST_NODE, FIRST_NODE + 1, … in the order of the silos."""


def run(rounds: Callable[[Grid], None], silos: Mapping[str, SiloLike]) -> None:
    """Call `rounds` with a grid whose nodes are `silos`, in their order.

    What `rounds` raises is passed on as it is.
    """
    rounds(InProcessGrid(silos))


class InProcessGrid(Grid):
    """A Grid that executes a message when its reply is asked for.

    `push_messages` stores; each `pull_messages` runs the oldest pending message among those asked
    for and returns its reply alone, so that the caller streams and shows progress. Time plays no
    part (a TTL is not enforced): equal messages in equal order give equal replies.
    """

    def __init__(self, silos: Mapping[str, SiloLike]) -> None:
        from flwr.supercore.task_identity import TaskIdentity

        # Flower reads the sender of a new Message from these process-wide fields.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SERVER, 1
        self._silos = dict(silos)
        self._app = client_app(lambda name, frame: answer_frame(self._silos[name], frame))
        self._contexts = {
            FIRST_NODE + index: Context(
                run_id=RUN_ID,
                node_id=FIRST_NODE + index,
                node_config={"silo": name},
                state=RecordDict(),
                run_config={},
            )
            for index, name in enumerate(self._silos)
        }
        self._wire = _Wire()
        self._pending: list[str] = []
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
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Store the messages; returns their ids in the same order."""
        ids = []
        for message in messages:
            if message.metadata.dst_node_id not in self._contexts:
                raise ValueError(f"no node {message.metadata.dst_node_id}")
            ids.append(self._wire.store(message))
        self._pending += ids
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the oldest pending message of `message_ids`; returns its reply, or nothing."""
        wanted = set(message_ids)
        for message_id in self._pending:
            if message_id in wanted:
                self._pending.remove(message_id)
                return [self._execute(message_id)]
        return []

    def _execute(self, message_id: str) -> Message:
        message = self._wire.load(message_id)
        try:
            reply = self._app(message, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # as in the other engines, a node's crash is a reply
            reply = Message(Error(APP_CRASHED, type(error).__name__), reply_to=message)
        return self._wire.load(self._wire.store(reply))

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002 (time plays no part here)
    ) -> Iterable[Message]:
        """Push `messages` and return all replies."""
        ids = list(self.push_messages(messages))
        return [reply for _ in ids for reply in self.pull_messages(ids)]


class _Wire:
    """Messages as the bytes that Flower would send, each distinct object held once."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._uses: Counter[str] = Counter()
        self._parts: dict[str, list[str]] = {}

    def store(self, message: Message) -> str:
        """Serialise; returns the message's id."""
        from flwr.supercore.inflatable.inflatable_object import (
            get_all_nested_objects,
            no_object_id_recompute,
        )

        with no_object_id_recompute():
            objects = get_all_nested_objects(message)
            for name, part in objects.items():
                if name not in self._objects:
                    self._objects[name] = part.deflate()
            message_id = message.object_id
        self._uses.update(objects.keys())
        self._parts[message_id] = list(objects)
        return message_id

    def load(self, message_id: str) -> Message:
        """Deserialise, and forget what no other stored message needs."""
        from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

        parts = self._parts.pop(message_id)
        message = inflate_object_from_contents(
            message_id, {name: self._objects[name] for name in parts}
        )
        for name in parts:
            self._uses[name] -= 1
            if not self._uses[name]:
                del self._uses[name], self._objects[name]
        if not isinstance(message, Message):
            raise TypeError(f"stored a message and got back a {type(message).__name__}")
        message.metadata.__dict__["_message_id"] = message_id
        return message
