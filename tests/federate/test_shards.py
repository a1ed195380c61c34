import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commonroot.artifact import Artifact
from commonroot.errors import ConfigError, DataError
from federate.private_text import read_folder
from federate.shards.partition import PartitionConfig
from federate.shards.skew import divergence, effective_number, gini, jensen_shannon, measure
from federate.shards.stage import ShardsConfig, clients_of, run
from tests.conftest import make_text

CHAT = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
# As large clients as these are far from the pool by their words, not by chance.
SITES = {f"site {seed}": [make_text(seed, 900 * (seed + 1)) for _ in (0, 1)] for seed in range(6)}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sites(tmp_path: Path) -> str:
    rows = [
        {"site": site, "kind": f"kind {number % 2}", "text": text, "when": number}
        for site, texts in SITES.items()
        for number, text in enumerate(texts)
    ]
    return write(tmp_path / "sites.jsonl", rows)


def built(tmp_path: Path, table: str, key: str = "site", **partition: Any) -> Artifact:
    plan = PartitionConfig(**partition)
    name = f"run-{'-'.join(map(str, partition.values()))}"
    return run(ShardsConfig(table=table, key=key, names="key", partition=plan), tmp_path / name)


def rows_of(sealed: Artifact) -> dict[str, list[dict[str, Any]]]:
    return {
        client.name: [
            json.loads(line)
            for line in (client.folder / "records.jsonl").read_text("utf-8").splitlines()
        ]
        for client in clients_of(sealed)
    }


def test_rows_of_every_kind_reach_their_client_with_all_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"site": "a", "text": "plain  ", "ward": 3, "tags": ["x", "y"]},
        {"site": "a", "prompt": "2 + 2", "completion": "4", "grade": None},
        {"site": "b", "messages": CHAT, "score": 0.5},
    ]
    unusable = [
        {"site": "b", "text": "  "},
        {"site": None, "text": "whose?"},
        {"site": "b", "messages": []},
        {"site": "b", "text": "half \ud800"},
    ]
    sealed = built(tmp_path, write(tmp_path / "t.jsonl", rows + unusable))
    assert rows_of(sealed) == {"a": rows[:2], "b": rows[2:]}
    drawn = built(tmp_path, str(tmp_path / "t.jsonl"), how="iid", clients=3)
    got = [row for held in rows_of(drawn).values() for row in held]
    # Dealing out needs no owner, so the row without one is as good as the others.
    assert sorted(map(str, got)) == sorted(map(str, [*rows, unusable[1]]))


def test_dates_in_parquet_become_text_and_a_ragged_csv_is_refused(tmp_path: Path) -> None:
    import datetime

    table = {"site": ["a"], "text": ["note"], "day": [datetime.date(2020, 2, 3)]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    sealed = built(tmp_path, str(tmp_path / "t.parquet"))
    assert rows_of(sealed) == {"a": [{"site": "a", "text": "note", "day": "2020-02-03"}]}
    (tmp_path / "t.csv").write_text("site,text\na,note,more\n")
    with pytest.raises(DataError, match="more cells than the header"):
        built(tmp_path, str(tmp_path / "t.csv"))


def test_natural_clients_differ_beyond_chance_and_their_iid_control_does_not(
    tmp_path: Path,
) -> None:
    natural = built(tmp_path, sites(tmp_path)).metrics
    control = built(tmp_path, sites(tmp_path), how="iid").metrics
    assert control["clients"] == natural["clients"] == 6
    sizes = [sorted(metrics["bytes"].values()) for metrics in (natural, control)]
    assert all(abs(a / b - 1) < 0.25 for a, b in zip(*sizes, strict=True))
    words = natural["skew"]["words"]
    assert words["beyond_chance"] == 1
    assert words["mean"] > 2 * words["chance"]
    assert abs(control["skew"]["words"]["mean"] / control["skew"]["words"]["chance"] - 1) < 0.2


def test_the_control_deals_out_the_text_of_the_clients_that_natural_keeps(tmp_path: Path) -> None:
    section = ShardsConfig(
        table=sites(tmp_path),
        key="site",
        most_clients=2,
        partition=PartitionConfig(how="iid"),
    )
    sealed = run(section, tmp_path / "run")
    rows = rows_of(sealed)
    assert len(rows) == 2
    assert {row["site"] for held in rows.values() for row in held} == {"site 4", "site 5"}
    assert all({row["site"] for row in held} == {"site 4", "site 5"} for held in rows.values())


def test_label_skew_is_measured_where_a_label_is_named(tmp_path: Path) -> None:
    table = sites(tmp_path)
    one = built(tmp_path, table, how="pathological", label="kind", clients=4, labels_per_client=1)
    even = built(tmp_path, table, how="iid", label="kind", clients=4)
    assert one.metrics["skew"]["labels"]["effective"] == 1
    assert one.metrics["skew"]["labels"]["beyond_chance"] == 1
    assert even.metrics["skew"]["labels"]["effective"] > 1.5
    assert "labels" not in built(tmp_path, table).metrics["skew"]
    assert "labels: bits from the pool" in (one.path / "report.html").read_text()
    of_clients = json.loads((one.path / "skew.json").read_text())
    assert [entry["client"] for entry in of_clients] == ["part-0", "part-1", "part-2", "part-3"]
    assert all(entry["labels"] > entry["labels_chance"] for entry in of_clients)


def test_clients_without_rows_enough_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = sites(tmp_path)
    sealed = built(tmp_path, table, how="dirichlet", label="kind", clients=30, alpha=0.02)
    left_out = sealed.metrics["left_out"]
    assert left_out > 0
    assert sealed.metrics["clients"] == len(clients_of(sealed)) == 30 - left_out
    assert f"{left_out} clients have too few rows" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no client has 3 rows"):
        built(tmp_path, table, min_rows=3)


def test_rows_that_a_partition_has_no_place_for_are_counted(tmp_path: Path) -> None:
    table = write(tmp_path / "t.jsonl", [{"text": f"note {n}", "kind": n % 2} for n in range(43)])
    sealed = built(tmp_path, table, how="shard", label="kind", clients=4)
    held = sum(map(len, rows_of(sealed).values()))
    assert sealed.metrics["unused_rows"] == 43 - held == 3


@pytest.mark.slow
def test_a_thousand_tiny_clients_each_with_enough_to_split(tmp_path: Path) -> None:
    from federate.private_text import split_pieces

    rows = [{"text": make_text(n % 7, 40_000)} for n in range(5)]
    table = write(tmp_path / "t.jsonl", rows)
    sealed = built(tmp_path, table, how="iid", clients=1000)
    clients = clients_of(sealed)
    assert len(clients) == 1000
    assert len({client.name for client in clients}) == 1000
    for client in clients[::250]:
        split = split_pieces(read_folder(client.folder)[0], 3000)
        assert split.train
        assert split.test
    assert (sealed.path / "report.html").stat().st_size < 2_000_000


def test_every_subfolder_of_a_parent_is_a_client_read_in_place(tmp_path: Path) -> None:
    for name in ("north", "south", ".hidden"):
        (tmp_path / "sites" / name).mkdir(parents=True)
        (tmp_path / "sites" / name / "n.txt").write_text(f"words of {name}")
    (tmp_path / "sites" / "README.md").write_text("not a client")
    section = ShardsConfig(parent=str(tmp_path / "sites"), names="key")
    sealed = run(section, tmp_path / "run")
    assert {c.name: c.folder for c in clients_of(sealed)} == {
        name: tmp_path / "sites" / name for name in ("north", "south")
    }
    assert sealed.metrics["skew"]["words"]["mean"] > 0
    assert not list(sealed.path.rglob("n.txt"))
    (tmp_path / "sites" / "south" / "n.txt").write_text("other words")
    assert run(section, tmp_path / "run").fresh


@pytest.mark.parametrize("text", ["words", "!!", ""])
def test_a_folder_without_text_is_still_a_client_here(tmp_path: Path, text: str) -> None:
    for name in ("full", "void"):
        (tmp_path / "sites" / name).mkdir(parents=True)
    (tmp_path / "sites" / "full" / "n.txt").write_text(text)
    sealed = run(ShardsConfig(parent=str(tmp_path / "sites"), names="key"), tmp_path / "run")
    assert sealed.metrics["clients"] == 2
    assert sealed.metrics["skew"]["words"]["mean"] == 0


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        ({"how": "dirichlet", "label": "colour", "clients": 3}, "`colour`.*has: site, kind"),
        ({"how": "iid", "clients": 13, "piece_chars": 0}, "13 clients out of 12 rows"),
    ],
)
def test_mistakes_in_a_partition_get_one_line(
    tmp_path: Path, partition: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        built(tmp_path, sites(tmp_path), **partition)
    assert "\n" not in str(caught.value)


def test_folders_cannot_be_dealt_out_and_an_empty_parent_is_named(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    iid = PartitionConfig(how="iid")
    with pytest.raises(ConfigError, match="folders are clients already"):
        run(ShardsConfig(parent=str(tmp_path / "sites"), partition=iid), tmp_path / "run")
    (tmp_path / "file").write_text("words")
    for name in ("sites", "file"):
        with pytest.raises(DataError, match="holds no folders"):
            run(ShardsConfig(parent=str(tmp_path / name)), tmp_path / "run")


def test_equal_inputs_give_equal_artifacts(tmp_path: Path) -> None:
    table = sites(tmp_path)
    options = {"how": "dirichlet", "label": "kind", "clients": 5}
    digests = {built(tmp_path / place, table, **options).digest for place in ("one", "two")}
    assert len(digests) == 1


def test_divergence_of_known_histograms() -> None:
    pool = np.array([1, 1, 0])
    same, half, other, empty = np.array([[5, 5, 0], [4, 0, 0], [0, 0, 3], [0, 0, 0]])
    found = jensen_shannon(np.stack([same, half, other, empty]), pool)
    assert found == pytest.approx([0, 0.311278, 1, 0], abs=1e-6)
    assert effective_number(np.stack([same, half, other, empty])) == pytest.approx([2, 1, 1, 0])


def test_chance_is_what_dealing_out_the_same_units_gives() -> None:
    rng = np.random.default_rng(0)
    units = [rng.integers(0, 50, 30) for _ in range(300)]
    figures = divergence(units, [1] * 100 + [10] * 20, seed=0)
    small, large = figures.found_C[:100], figures.found_C[100:]
    assert small.mean() > 3 * large.mean()
    assert figures.chance_C[:100].mean() == pytest.approx(small.mean(), rel=0.1)
    assert figures.chance_C[100:].mean() == pytest.approx(large.mean(), rel=0.1)
    assert figures.beyond_C.mean() < 0.25


def test_inequality_of_sizes() -> None:
    assert gini(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)
    figures, clients = measure({"a": ["x" * 30], "b": ["x" * 10]}, {})
    assert figures["bytes"]["effective_clients"] == pytest.approx(1.6)
    assert figures["bytes"]["gini"] == pytest.approx(0.25)
    assert [client["bytes"] for client in clients] == [30, 10]


def test_scripts_without_spaces_are_counted_by_character() -> None:
    alike = measure({"a": ["天地玄黄宇宙洪荒"], "b": ["荒洪宙宇黄玄地天"]}, {})[0]
    assert alike["words"]["mean"] == 0
