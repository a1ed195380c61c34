from typing import Any

import numpy as np
import pytest
from engine_echo import SECRET, EchoSilo, exchange, rounds

from federate.engines import inprocess


def silos(count: int) -> dict[str, Any]:
    return {f"silo {number}": EchoSilo(number) for number in range(count)}


def message(node: int, kind: str = "train", value: Any = None, **config: Any) -> Any:
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

    content = RecordDict({"config": ConfigRecord(config)})
    if value is not None:
        content["arrays"] = ArrayRecord({"w": Array(value)})
    return Message(content, dst_node_id=node, message_type=kind)


def test_rounds_run_over_all_silos() -> None:
    results = []
    inprocess.run(lambda grid: results.append(rounds(grid, count=3)), silos(4))
    assert results[0]["clients"] == ["client-0", "client-1", "client-2", "client-3"]
    assert results[0]["weights"] == [4.5] * 5


def test_a_pull_runs_one_message_and_no_more() -> None:
    members = silos(3)
    grid = inprocess.InProcessGrid(members)
    ids = list(grid.push_messages([message(node) for node in grid.get_node_ids()]))
    assert [silo.seen for silo in members.values()] == [[], [], []]
    (reply,) = grid.pull_messages(reversed(ids))
    assert [silo.seen for silo in members.values()] == [["train"], [], []]
    assert reply.metadata.reply_to_message_id == ids[0]


def test_replies_come_in_the_order_of_pushing_and_once() -> None:
    grid = inprocess.InProcessGrid(silos(3))
    nodes = list(grid.get_node_ids())
    order = [nodes[2], nodes[0], nodes[1]]
    ids = list(grid.push_messages([message(node) for node in order]))
    assert [r.metadata.src_node_id for r in exchange(grid, [message(n) for n in order])] == order
    assert [r.metadata.src_node_id for r in grid.send_and_receive([message(nodes[1])])] == [
        nodes[1]
    ]
    left = [reply for _ in range(5) for reply in grid.pull_messages(ids)]
    assert [reply.metadata.src_node_id for reply in left] == order


def test_no_array_is_shared_between_the_sides() -> None:
    sent = np.zeros(4, np.float32)
    grid = inprocess.InProcessGrid(silos(1))
    (node,) = grid.get_node_ids()
    content = message(node, value=sent)
    (message_id,) = grid.push_messages([content])
    # Changed after the push: what was pushed is already bytes, as it is over a network.
    content.content["arrays"]["w"] = type(content.content["arrays"]["w"])(sent + 9)
    (reply,) = grid.pull_messages([message_id])
    assert reply.content["arrays"]["w"].numpy().tolist() == [0.0] * 4


def test_stored_bytes_do_not_grow_with_the_number_of_clients() -> None:
    grid = inprocess.InProcessGrid(silos(8))
    weights = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    many = [message(node, value=weights) for node in grid.get_node_ids()]
    ids = list(grid.push_messages(many))
    held = sum(map(len, grid._wire._objects.values()))
    assert held < 1.2 * weights.nbytes
    for _ in ids:
        grid.pull_messages(ids)
    assert not grid._wire._objects


def test_a_failing_silo_is_a_refusal_without_its_text() -> None:
    results = []
    inprocess.run(lambda grid: results.append(rounds(grid, count=1, crash=[1])), silos(3))
    assert results[0]["weights"] == [1.0] * 5
    assert results[0]["refused"] == ["the silo failed (ValueError)"]
    assert SECRET not in str(results)


def test_a_deliberate_refusal_arrives_as_said() -> None:
    results = []
    inprocess.run(lambda grid: results.append(rounds(grid, count=1, refuse=[0])), silos(2))
    assert results[0]["refused"] == ["the owner said no"]


def test_an_unknown_action_is_an_error_reply_as_in_flower() -> None:
    grid = inprocess.InProcessGrid(silos(1))
    (node,) = grid.get_node_ids()
    (reply,) = grid.send_and_receive([message(node, kind="train.steal")])
    assert reply.has_error()
    assert reply.error.code == 2


def test_what_the_rounds_raise_is_passed_on() -> None:
    with pytest.raises(RuntimeError, match="no valid reply"):
        inprocess.run(lambda grid: rounds(grid, crash=[0, 1]), silos(2))  # type: ignore[arg-type,return-value]


def test_a_message_to_nobody_is_refused_at_once() -> None:
    grid = inprocess.InProcessGrid(silos(1))
    with pytest.raises(ValueError, match="no node 7"):
        grid.push_messages([message(7)])
