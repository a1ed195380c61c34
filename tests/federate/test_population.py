"""Many clients, few of them in memory."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from commonroot.errors import DataError
from federate.engines import inprocess
from federate.local import Workbench
from federate.population import Population
from federate.shards.stage import Client
from federate.silo import SiloBounds

from .conftest import train_request

BOUNDS = SiloBounds(piece_chars=400)


@pytest.fixture
def clients(tmp_path: Path, text: Callable[[int, int], str]) -> list[Client]:
    """Six clients with text; the third has only one sentence and the fifth only a picture."""
    found = []
    for number in range(6):
        folder = tmp_path / "shards" / f"c{number}"
        folder.mkdir(parents=True)
        found.append(Client(f"c{number}", folder))
        if number == 4:
            (folder / "picture.png").write_bytes(b"PNG")
        else:
            (folder / "notes.txt").write_text("One." if number == 2 else text(60 + number, 500))
    return found


def population(clients: list[Client], tmp_path: Path, bench: Workbench, warm: int = 64):  # type: ignore[no-untyped-def]
    return Population(clients, tmp_path / "homes", bench, BOUNDS, warm)


def test_clients_without_enough_text_are_left_out_with_a_reason(
    clients: list[Client],
    tmp_path: Path,
    bench: Workbench,
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = population(clients, tmp_path, bench)
    assert many.leave_out_unusable() == dict.fromkeys(["c2", "c4"], "no usable text")
    assert list(many) == ["c0", "c1", "c3", "c5"]
    assert len(many) == 4
    assert "c2" not in many
    with pytest.raises(KeyError):
        many["c2"]
    said = capsys.readouterr().err
    assert "client c2 is left out: too little text" in said
    assert "client c4 is left out" in said


def test_of_a_large_population_no_text_is_read_before_it_is_asked_for(
    clients: list[Client],
    tmp_path: Path,
    bench: Workbench,
    base_buffers: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = population(clients, tmp_path, bench)
    monkeypatch.setattr("federate.silo.read_folder", None)
    assert list(many.leave_out_unusable(most_read=5)) == ["c4"]
    monkeypatch.undo()
    header, out = many["c2"].answer(train_request(), dict(base_buffers))
    assert header == {"refused": "the client's data is not usable"}
    assert not out


def test_a_population_without_any_text_is_an_error(
    clients: list[Client], tmp_path: Path, bench: Workbench
) -> None:
    with pytest.raises(DataError, match="no client has usable text"):
        population(clients[2:3], tmp_path, bench).leave_out_unusable()


def test_only_so_many_clients_keep_their_text_in_memory(
    clients: list[Client], tmp_path: Path, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = population(clients, tmp_path, bench, warm=2)
    read: list[str] = []
    from federate import silo

    real = silo.read_folder
    monkeypatch.setattr(
        silo, "read_folder", lambda folder: (read.append(folder.name), real(folder))[1]
    )
    for name in ["c0", "c1", "c0", "c1", "c3", "c1", "c0"]:
        assert many[name].split.train
        assert len(many._recent) <= 2
    assert read == ["c0", "c1", "c3", "c0"]


def test_the_ledger_is_read_anew_since_another_process_may_have_written_it(
    clients: list[Client], tmp_path: Path, bench: Workbench
) -> None:
    here, there = (population(clients, tmp_path, bench) for _ in range(2))
    for many in (here, there, here, there):
        header, _ = many["c0"].answer({"kind": "query"}, {})
        assert header["info"]["client"] == "c0"
    assert [entry["number"] for entry in here["c0"].ledger.entries()] == [0, 1, 2, 3]


def test_what_goes_to_a_worker_is_small_and_cold(
    clients: list[Client], tmp_path: Path, bench: Workbench
) -> None:
    many = population(clients, tmp_path, bench)
    assert many["c0"].blocks
    assert bench.model is not None
    data = pickle.dumps(many)
    assert len(data) < 5000
    again = pickle.loads(data)
    assert list(again) == list(many)
    assert "model" not in again.bench.__dict__
    assert again["c0"].split == many["c0"].split


@pytest.mark.slow
def test_workers_give_the_same_bits_as_this_process(
    clients: list[Client],
    tmp_path: Path,
    bench: Workbench,
    base_buffers: dict[str, bytes],
) -> None:
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

    results = {}

    def rounds(grid):  # type: ignore[no-untyped-def]
        arrays = ArrayRecord(
            {
                n: Array("float32", bench.base_weights[n].shape, "numpy.ndarray", data)
                for n, data in base_buffers.items()
            }
        )
        out = []
        for number in range(2):
            config = ConfigRecord(train_request(number)["config"])
            content = RecordDict({"config": config, "arrays": arrays})
            messages = [Message(content, node, "train") for node in grid.get_node_ids()]
            for reply in grid.send_and_receive(messages):
                assert "refused" not in reply.content["info"], reply.content["info"]
                out.append({n: a.data for n, a in reply.content["arrays"].items()})
        results[len(results)] = out

    for workers in (0, 2):
        many = Population(
            [clients[i] for i in (0, 1, 3, 5)], tmp_path / f"homes{workers}", bench, BOUNDS
        )
        inprocess.run(rounds, many, workers=workers, threads=1)
    assert results[0] == results[1]
    states = [
        (tmp_path / f"homes{workers}" / "c5" / "state.frame").read_bytes() for workers in (0, 2)
    ]
    assert len(set(states)) == 1
