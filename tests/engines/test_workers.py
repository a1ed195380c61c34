"""Worker processes: the same replies in the same order however many there are, and no orphans."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_echo import EchoSilo, exchange, rounds
from worker_silos import DiskSilo, Sleeper, ThreadSilo, Unopenable

from commonroot.errors import EngineError
from federate.engines import inprocess
from federate.engines.workers import Workers
from flowerapp.frame import pack, unpack

from .test_inprocess import message

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers unpickle the silos of these files."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def disk_silos(folder: Path, count: int = 5) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    return {f"silo {number}": DiskSilo(number, folder) for number in range(count)}


def talk(grid: Any) -> list[Any]:
    """Three messages to each client, all pushed at once; (node, what it had seen, array)."""
    weights = np.arange(4, dtype=np.float32)
    asked = [
        message(node, value=weights, word=word)
        for node in grid.get_node_ids()
        for word in ("one", "two", "three")
    ]
    return [
        (
            reply.metadata.src_node_id,
            reply.content["info"]["seen"],
            reply.content["arrays"]["w"].numpy().tolist(),
        )
        for reply in exchange(grid, asked)
    ]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_replies_and_states_do_not_depend_on_the_number_of_workers(
    tmp_path: Path, workers: int
) -> None:
    said: dict[int, Any] = {}
    for count in (0, workers):
        folder = tmp_path / str(count)
        inprocess.run(
            lambda grid, count=count: said.update({count: talk(grid)}),  # type: ignore[misc]
            disk_silos(folder),
            workers=count,
            threads=1,
        )
        kept = {path.name: path.read_text() for path in folder.iterdir()}
        said[count] = (said[count], kept)
    assert said[0] == said[workers]
    assert said[0][1]["3.txt"] == "one two three "


def test_work_is_shared_and_stays_out_of_this_process(tmp_path: Path) -> None:
    pids: list[int] = []

    def ask(grid: Any) -> None:
        for _ in range(3):
            asked = [message(node, word="x") for node in grid.get_node_ids()]
            pids.extend(reply.content["info"]["pid"] for reply in exchange(grid, asked))

    inprocess.run(ask, disk_silos(tmp_path), workers=2, threads=1)
    assert len(set(pids)) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_pushed_is_executed_even_if_nobody_asks_for_it(
    tmp_path: Path, workers: int
) -> None:
    def loses_interest(grid: Any) -> None:
        ids = list(grid.push_messages([message(n, word="x") for n in grid.get_node_ids()]))
        (reply,) = grid.pull_messages(ids[3:4])
        assert reply.metadata.src_node_id == list(grid.get_node_ids())[3]

    inprocess.run(loses_interest, disk_silos(tmp_path), workers=workers, threads=1)
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["x "] * 5


def test_no_more_replies_are_held_than_two_for_each_worker(tmp_path: Path) -> None:
    held = []

    def slow_server(grid: Any) -> None:
        ids = list(grid.push_messages([message(n, word="x") for n in grid.get_node_ids()]))
        grid.pull_messages(ids)
        time.sleep(1.0)
        held.append(len(list(tmp_path.iterdir())))

    inprocess.run(slow_server, disk_silos(tmp_path, 20), workers=2, threads=1)
    assert held == [4]


def test_a_dead_worker_costs_its_message_and_is_replaced(tmp_path: Path) -> None:
    results = []

    def twice(grid: Any) -> None:
        for _ in range(2):
            asked = [message(n, word="x", die=1) for n in grid.get_node_ids()]
            results.append([dict(reply.content["info"]) for reply in exchange(grid, asked)])

    inprocess.run(twice, disk_silos(tmp_path), workers=2, threads=1)
    assert [info.get("refused") for info in results[0]] == [
        None,
        "no silo answers beside this node",
        None,
        None,
        None,
    ]
    assert all("refused" not in info for info in results[1])


def test_a_silo_that_cannot_be_opened_is_a_refusal() -> None:
    class_of_reply: list[Any] = []

    def ask(grid: Any) -> None:
        asked = [message(node) for node in grid.get_node_ids()]
        class_of_reply.extend(reply.content["info"] for reply in exchange(grid, asked))

    for workers in (0, 2):
        inprocess.run(ask, Unopenable(), workers=workers, threads=1)
    assert [info["refused"] for info in class_of_reply] == ["the silo failed (OSError)"] * 2


def test_workers_that_cannot_start_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")  # so that they cannot import the silos
    silos = {"silo": EchoSilo(0)}
    with pytest.raises(EngineError, match="did not start"), Workers(silos, 2, 1):
        pass


def test_stopped_workers_are_not_started_again() -> None:
    with Workers({"silo": EchoSilo(0)}, 1, 1) as pool:
        assert pool.ask("silo", pack({"kind": "query"}, {}))
    with pytest.raises(ConnectionError, match="stopped"):
        pool.ask("silo", pack({"kind": "query"}, {}))


@pytest.mark.slow
def test_every_worker_has_the_same_fixed_number_of_threads() -> None:
    with Workers({"silo": ThreadSilo()}, 2, 1) as pool:
        header, _ = unpack(pool.ask("silo", pack({}, {})))
    assert header == {"variable": "1", "torch": 1}


def test_a_failure_of_the_rounds_ends_the_workers_in_the_middle_of_a_request(
    tmp_path: Path,
) -> None:
    silos: dict[str, Any] = {"quick": EchoSilo(0), "slow": Sleeper(tmp_path / "slow")}

    def fails(grid: Any) -> None:
        ids = list(grid.push_messages([message(node) for node in grid.get_node_ids()]))
        grid.pull_messages(ids)
        _wait(lambda: any(path.read_text() for path in tmp_path.iterdir()))
        raise RuntimeError("no quorum")

    with pytest.raises(RuntimeError, match="no quorum"):
        inprocess.run(fails, silos, workers=2, threads=1)
    said = (tmp_path / "slow").read_text()
    assert said != "slept well"
    assert not _alive(int(said))


SCRIPT = """
import signal
import sys
from pathlib import Path
from flwr.app import Message, RecordDict
from worker_silos import Sleeper
from federate.engines import inprocess

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored

def wait(grid):
    ids = list(grid.push_messages([Message(RecordDict(), n, "train") for n in grid.get_node_ids()]))
    grid.pull_messages(ids)

silos = {f"silo {n}": Sleeper(Path(sys.argv[1]) / str(n)) for n in range(2)}
inprocess.run(wait, silos, workers=2, threads=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_their_parent_in_the_middle_of_a_request(
    tmp_path: Path, number: signal.Signals
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], stderr=subprocess.DEVNULL
    )
    try:
        _wait(lambda: len([p for p in tmp_path.iterdir() if p.read_text()]) == 2)
        pids = [int(path.read_text()) for path in tmp_path.iterdir()]
        parent.send_signal(number)
        assert parent.wait(20) != 0
        _wait(lambda: not any(_alive(pid) for pid in pids))
    finally:
        parent.kill()
        parent.wait()


def test_the_whole_echo_run_gives_the_same_weights_with_workers() -> None:
    results: list[Any] = []
    for workers in (0, 2):
        inprocess.run(
            lambda grid: results.append(rounds(grid, count=3, crash=[1])),
            {f"silo {number}": EchoSilo(number) for number in range(4)},
            workers=workers,
            threads=1,
        )
    assert results[0] == results[1]
    assert results[0]["refused"] == ["the silo failed (ValueError)"] * 3


def _alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _wait(done: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
