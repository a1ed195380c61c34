from collections.abc import Iterator, Mapping
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
    parts = grid._store._objects.values()
    held = sum(len(p if isinstance(p, bytes) else p.data) for p in parts)
    assert held < 1.2 * weights.nbytes
    for _ in ids:
        grid.pull_messages(ids)
    assert not grid._store._objects


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


def test_bytes_are_counted_as_flower_would_send_them() -> None:
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

    grid = inprocess.InProcessGrid(silos(3))
    weights = np.arange(2_000_000, dtype=np.float32)  # two of Flower's chunks
    asked = [message(node, value=weights, lr=0.1) for node in grid.get_node_ids()]
    asked[0].content["arrays"]["again"] = asked[0].content["arrays"]["w"]  # sent once
    grid.push_messages(asked)
    objects = [get_all_nested_objects(one).values() for one in asked]
    assert grid.bytes_down == sum(len(part.deflate()) for parts in objects for part in parts)
    assert grid.bytes_up == 0
    before = grid.overhead
    replies = grid.send_and_receive(asked[1:])
    up = [get_all_nested_objects(one).values() for one in replies]
    assert grid.bytes_up == sum(len(part.deflate()) for parts in up for part in parts)
    assert before < 3 * 2000
    assert grid.bytes_down + grid.bytes_up - grid.overhead == 7 * (weights.nbytes + 128)


def test_messages_have_the_ids_that_flower_gives_them() -> None:
    grid = inprocess.InProcessGrid(silos(1))
    (node,) = grid.get_node_ids()
    asked = message(node, value=np.arange(2_000_000, dtype=np.float32), lr=0.1)
    (given,) = grid.push_messages([asked])
    assert given == message_id(asked)
    # A changed array is seen, though ids and chunks are remembered.
    asked.content["arrays"]["w"].data = asked.content["arrays"]["w"].data[:-4] + b"\0\0\0\0"
    (changed,) = grid.push_messages([asked])
    assert changed == message_id(asked) != given


def message_id(message: Any) -> str:
    from flwr.app import Array

    for record in message.content.array_records.values():
        for name, array in list(record.items()):  # nothing remembered
            record[name] = Array(array.dtype, array.shape, array.stype, array.data)
    return str(message.object_id)


def test_a_sender_that_changes_an_array_in_place_changes_nothing_that_was_pushed() -> None:
    grid = inprocess.InProcessGrid(silos(1))
    (node,) = grid.get_node_ids()
    asked = message(node, value=np.zeros(4, np.float32))
    (pushed,) = grid.push_messages([asked])
    array = asked.content["arrays"]["w"]
    array.data = array.data[:-4] + np.float32(9).tobytes()
    (reply,) = grid.pull_messages([pushed])
    assert reply.content["arrays"]["w"].numpy().tolist() == [0.0] * 4


def test_a_client_s_messages_run_in_the_order_of_pushing() -> None:
    members = silos(2)
    grid = inprocess.InProcessGrid(members)
    first, other = grid.get_node_ids()
    kinds = ["query", "train", "evaluate"]
    ids = list(grid.push_messages([message(first, kind) for kind in kinds] + [message(other)]))
    (reply,) = grid.pull_messages([ids[2]])
    assert reply.metadata.reply_to_message_id == ids[2]
    assert members["silo 0"].seen == kinds
    assert members["silo 1"].seen == []
    (reply,) = grid.pull_messages(ids)
    assert reply.metadata.reply_to_message_id == ids[0]


def test_silos_are_opened_when_they_are_asked_and_not_before() -> None:
    opened: list[str] = []

    class Lazy(Mapping[str, Any]):
        def __getitem__(self, name: str) -> Any:
            opened.append(name)
            return EchoSilo(int(name))

        def __iter__(self) -> Iterator[str]:
            return map(str, range(10_000))

        def __len__(self) -> int:
            return 10_000

    grid = inprocess.InProcessGrid(Lazy())
    nodes = list(grid.get_node_ids())
    assert len(nodes) == 10_000
    (reply,) = grid.send_and_receive([message(nodes[7777])])
    assert reply.content["info"]["client"] == "client-7777"
    assert opened == ["7777"]
