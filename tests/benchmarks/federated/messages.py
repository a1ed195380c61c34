"""What a message costs in the in-process engine and in Flower's Ray engine.

The clients do nothing but answer with what they were sent, the payload is the same in both, and
replies are asked for without a pause.
"""

import json
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.server_app import write_app, write_plan

__all__ = ["beside_ray", "exchange_rounds"]

CLIENTS = 8
PAYLOADS = {"empty": 5, "model": 1_050_000}
"""Values of one fp32 tensor in each direction."""


class EmptySilo:
    """A client that answers with what it was sent."""

    def answer(self, header: dict[str, Any], buffers: dict[str, bytes]) -> Any:
        return {"metrics": {"loss": 0.5, "tokens": 7}, "info": {"client": header["kind"]}}, buffers


def exchange_rounds(grid: Any, clients: int, rounds: int, values: int) -> list[float]:
    """Seconds a message in each of the rounds: the same tensor to all clients and back."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

    end = time.monotonic() + 90
    while len(list(grid.get_node_ids())) < clients and time.monotonic() < end:
        time.sleep(0.2)
    nodes = sorted(grid.get_node_ids())
    value = np.random.default_rng(0).normal(size=values).astype(np.float32)
    seconds = []
    for number in range(rounds):
        started = time.perf_counter()
        array = Array(value + np.float32(number))
        messages = [
            Message(
                RecordDict({"arrays": ArrayRecord({"w": array}), "config": ConfigRecord({})}),
                node,
                "train",
                ttl=600,
                group_id=str(number),
            )
            for node in nodes
        ]
        got = sum(1 for reply in _replies(grid, messages) if not reply.has_error())
        assert got == clients, f"{got} of {clients} clients answered"
        seconds.append((time.perf_counter() - started) / clients)
    return seconds


def _replies(grid: Any, messages: list[Any]) -> Iterator[Any]:
    """Asked for without a pause of note: Flower's own loop would wait three seconds a time."""
    pending = set(grid.push_messages(messages))
    while pending:
        replies = list(grid.pull_messages(sorted(pending)))
        for reply in replies:
            pending.discard(reply.metadata.reply_to_message_id)
            assert reply.has_error() or len(reply.content["arrays"]["w"].data) > 0
            yield reply
        if not replies:
            time.sleep(0.002)


def beside_ray(work: Path, quick: bool) -> dict[str, Any]:
    """Milliseconds a message in both engines, in-process before and after Ray."""
    found: dict[str, Any] = {}
    for name, values in PAYLOADS.items():
        arguments = {"clients": CLIENTS, "rounds": 4 if quick else 12, "values": values}
        before = _in_process(arguments)
        ray = _ray(work / f"ray-{name}", arguments)
        here = max(before, _in_process(arguments))
        found[name] = {
            "payload_bytes": 4 * values,
            "in_process_ms": round(1000 * here, 3),
            "ray_ms": round(1000 * ray, 3),
            "times_less": round(ray / here, 1),
        }
    return found


def _silos(clients: int) -> dict[str, EmptySilo]:
    return {f"silo {number}": EmptySilo() for number in range(clients)}


def _in_process(arguments: dict[str, int]) -> float:
    from federate.engines import inprocess

    seconds: list[float] = []
    inprocess.run(
        lambda grid: seconds.extend(exchange_rounds(grid, **arguments)),
        _silos(arguments["clients"]),
    )
    return statistics.median(seconds[1:])


def _ray(folder: Path, arguments: dict[str, int]) -> float:
    from federate.engines import simulation

    shutil.rmtree(folder, ignore_errors=True)
    app = write_app(folder / "app")
    plan = write_plan(folder, exchange_rounds, **arguments)
    simulation.run(plan, _silos(arguments["clients"]), folder / "logs", app)
    seconds: list[float] = json.loads((folder / "out.json").read_text())
    return statistics.median(seconds[1:])
