import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from commonroot.config import parse_section
from commonroot.errors import ConfigError
from federate.private_text import cut_text
from federate.shards.partition import PartitionConfig, by_column, cut_rows, draw
from tests.conftest import make_text

LABELS = [f"label {number % 6}" for number in range(600)]
WAYS = ("iid", "dirichlet", "linear", "square", "exponential", "pathological", "shard")


def drawn(how: str, clients: int = 6, labels: list[str] = LABELS, **more: Any) -> list[list[int]]:
    return draw(PartitionConfig(how=how, **more), clients, labels)


def labels_held(clients: list[list[int]]) -> list[Counter[str]]:
    return [Counter(LABELS[row] for row in rows) for rows in clients]


@pytest.mark.parametrize("how", WAYS)
def test_each_row_goes_to_one_client_and_the_seed_decides_which(how: str) -> None:
    clients = drawn(how)
    assert len(clients) == 6
    assert sorted(row for rows in clients for row in rows) == list(range(600))
    assert all(rows == sorted(rows) for rows in clients)
    assert drawn(how) == clients
    assert drawn(how, seed=1) != clients


@pytest.mark.parametrize("how", WAYS)
def test_nothing_is_printed_or_written_and_no_global_generator_moves(
    how: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    drawn(how)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index, union-attr]
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_iid_deals_out_like_mixtures_of_given_or_equal_sizes() -> None:
    # The rows stand in label order, as a table often does: taken in runs they would not mix.
    labels = sorted(LABELS)
    clients = draw(PartitionConfig(how="iid"), 3, labels, [300, 200, 100])
    assert [len(rows) for rows in clients] == [300, 200, 100]
    for rows in clients:
        shares = [n / len(rows) for n in Counter(labels[row] for row in rows).values()]
        assert len(shares) == 6
        assert all(abs(share - 1 / 6) < 0.1 for share in shares)
    assert sorted(map(len, drawn("iid", 7))) == [85, 85, 86, 86, 86, 86, 86]


def test_dirichlet_is_nearly_iid_at_a_large_alpha_and_one_sided_at_a_small_one() -> None:
    def largest_share(alpha: float) -> float:
        held = [held for held in labels_held(drawn("dirichlet", alpha=alpha)) if held]
        return float(np.mean([max(held.values()) / held.total() for held in held]))

    assert largest_share(1000.0) < 0.25
    assert largest_share(0.03) > 0.6


def test_few_labels_a_client() -> None:
    assert [len(held) for held in labels_held(drawn("pathological"))] == [2] * 6
    assert [len(held) for held in labels_held(drawn("pathological", labels_per_client=1))] == [
        1
    ] * 6
    assert max(len(held) for held in labels_held(drawn("shard"))) == 2


def test_rows_that_stand_together_do_not_stay_together_within_a_label() -> None:
    assert all(max(rows) - min(rows) > 300 for rows in drawn("dirichlet", alpha=1000.0))


def test_quantity_skew() -> None:
    sizes = {how: [len(rows) for rows in drawn(how, 4)] for how in WAYS[2:5]}
    assert sizes["linear"] == [60, 120, 180, 240]
    assert sizes["square"] == [20, 80, 180, 320]
    assert sizes["exponential"] == [19, 52, 142, 387]
    assert all(len(Counter(LABELS[row] for row in rows)) > 4 for rows in drawn("square", 4))


def test_natural_groups_are_those_of_flwr_datasets() -> None:
    from datasets import Dataset
    from flwr_datasets.partitioner import NaturalIdPartitioner

    ids = [f"site {number * number % 7}" for number in range(50)]
    partitioner = NaturalIdPartitioner("site")
    partitioner.dataset = Dataset.from_dict({"site": ids, "row": list(range(50))})
    theirs = {
        partitioner.load_partition(place)["site"][0]: partitioner.load_partition(place)["row"][:]
        for place in range(partitioner.num_partitions)
    }
    assert by_column(ids) == theirs


@pytest.mark.parametrize(
    ("options", "clients", "message"),
    [
        ({"how": "iid"}, 601, "601 clients out of 600 rows: ask for fewer"),
        ({"how": "exponential"}, 40, "some of 40 clients without rows: ask for fewer"),
        ({"how": "pathological", "labels_per_client": 7}, 6, "only 6 labels"),
        ({"how": "pathological", "labels_per_client": 6}, 101, "fewer rows than clients"),
        ({"how": "dirichlet", "alpha": 0.01, "min_rows": 50}, 20, "raise alpha"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    options: dict[str, Any], clients: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        drawn(clients=clients, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [{"alpha": 0}, {"alpha": -1.0}, {"alpha": float("inf")}, {"clients": -1}, {"how": "fair"}],
)
def test_bounds_are_checked_before_anything_runs(table: dict[str, Any]) -> None:
    (key,) = table
    with pytest.raises(ConfigError, match=key):
        parse_section(PartitionConfig, "shards.partition", {"shards.partition": table})


def test_dirichlet_is_redrawn_until_all_have_enough() -> None:
    once = drawn("dirichlet", 10, alpha=0.3, seed=4)
    again = drawn("dirichlet", 10, alpha=0.3, seed=4, min_rows=10)
    assert min(map(len, once)) < 10 <= min(map(len, again))


def test_long_texts_are_cut_until_there_are_ten_a_client_and_records_never() -> None:
    long = {"text": make_text(1, 4000), "site": "a"}
    pair = {"prompt": "p " * 4000, "completion": "c", "text": None}
    chat = {"messages": [{"role": "assistant", "content": "c " * 4000}], "text": "x" * 9000}
    section = PartitionConfig()
    rows, held = cut_rows([[long], [pair, chat]], section, 1)
    assert held == [len(rows) - 2, 2]
    assert rows[-2:] == [pair, chat]
    assert max(len(row["text"]) for row in rows[:-2]) > 1500
    assert {row["site"] for row in rows[:-2]} == {"a"}
    assert " ".join(row["text"] for row in rows[:-2]) == long["text"]
    finer, _ = cut_rows([[long]], section, 5)
    assert len(finer) >= 50
    assert cut_rows([[long]], PartitionConfig(piece_chars=0), 5) == ([long], [1])
    finest, _ = cut_rows([[long]], section, 100_000)
    assert 150 < max(len(row["text"]) for row in finest) <= 200


def test_cut_at_white_space() -> None:
    assert list(cut_text("one two three", 9)) == ["one two", "three"]
    assert list(cut_text("x" * 25, 10)) == ["x" * 10, "x" * 10, "x" * 5]
