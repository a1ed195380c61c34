"""A silo that adds its number to what it gets, and a round loop over such silos.

As a script it is a silo process: `engine_echo.py NUMBER SOCKET_FOLDER`.
"""

import io
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

SECRET = "a line of private text"


def npy(value: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value)
    return buffer.getvalue()


class EchoSilo:
    def __init__(self, number: int) -> None:
        self.number, self.seen = number, []  # type: ignore[var-annotated]

    def answer(self, header: dict[str, Any], buffers: dict[str, bytes]) -> Any:
        self.seen.append(header["kind"])
        info = {"client": f"client-{self.number}"}
        if header["kind"] == "query":
            return {"metrics": {}, "info": info}, {}
        if self.number in header["config"].get("crash", []):
            raise ValueError(SECRET)
        if self.number in header["config"].get("refuse", []):
            return {"refused": "the owner said no"}, {}
        arrays = {name: np.load(io.BytesIO(data)) for name, data in buffers.items()}
        changed = {name: npy(value + self.number) for name, value in arrays.items()}
        return {"metrics": {"loss": 0.5 * self.number, "tokens": 7}, "info": info}, changed


def exchange(grid: Any, messages: list[Any], seconds: float = 120) -> Any:
    ids = list(grid.push_messages(messages))
    assert len(ids) == len(messages)
    pending, end = set(ids), time.monotonic() + seconds
    while pending and time.monotonic() < end:
        replies = list(grid.pull_messages(sorted(pending)))
        for reply in replies:
            pending.discard(reply.metadata.reply_to_message_id)
            yield reply
        if not replies:
            time.sleep(0.1)


def rounds(grid: Any, count: int = 2, nodes: int = 0, **config: Any) -> dict[str, Any]:
    """Mean over the clients, `count` times from zero; fails when a round has no valid reply."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

    def message(kind: str, node: int, content: Any) -> Any:
        return Message(content, dst_node_id=node, message_type=kind, group_id="1", ttl=600)

    end = time.monotonic() + 90
    while len(list(grid.get_node_ids())) < nodes and time.monotonic() < end:
        time.sleep(0.5)
    asked = [message("query", node, RecordDict()) for node in grid.get_node_ids()]
    names = {r.content["info"]["client"]: r.metadata.src_node_id for r in exchange(grid, asked)}
    weights, refused = np.zeros(5, np.float32), []
    for _ in range(count):
        content = RecordDict(
            {"arrays": ArrayRecord({"w": Array(weights)}), "config": ConfigRecord(config)}
        )
        valid = []
        for reply in exchange(grid, [message("train", names[c], content) for c in sorted(names)]):
            if reply.has_error() or "refused" in reply.content["info"]:
                text = reply.error.reason if reply.has_error() else reply.content["info"]["refused"]
                refused.append(text)
            else:
                valid.append(reply.content["arrays"]["w"].numpy())
        if not valid:
            raise RuntimeError(f"no valid reply in this round: {refused}")
        weights = np.sort(np.stack(valid), 0).mean(0).astype(np.float32)
    return {"clients": sorted(names), "weights": weights.tolist(), "refused": refused}


if __name__ == "__main__":
    from federate.silo_server import serve

    with serve({"silo": EchoSilo(int(sys.argv[1]))}, Path(sys.argv[2])):
        threading.Event().wait()
