import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commonroot.errors import ConfigError, DataError
from federate.private_text import read_folder, split_pieces
from federate.shards import ShardsConfig, clients_of
from federate.shards import run as run_shards
from tests.conftest import make_text


def test_all_four_kinds_of_file_are_read_and_the_rest_is_counted(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "deep" / "b.md").write_text("two")
    lines = [{"text": "three"}, {"text": "  "}, {"note": "no text"}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pq.write_table(pa.table({"text": ["four", None]}), tmp_path / "d.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    (tmp_path / "bad.jsonl").write_text("{")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    pq.write_table(pa.table({"words": ["x"]}), tmp_path / "columns.parquet")
    (tmp_path / "photo.jpg").write_bytes(b"\xff")
    texts, skipped = read_folder(tmp_path)
    assert sorted(texts) == ["four", "one", "three", "two"]
    assert skipped == {"no_text": 3, "unreadable_file": 4, "other_file_type": 1}


@pytest.mark.parametrize("files", [{}, {"a.txt": " "}, {"a.jpg": "x"}])
def test_a_folder_without_text_is_one_line(tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="holds no text"):
        read_folder(tmp_path)


def test_pieces_are_split_80_10_10_without_overlap_and_the_same_each_time() -> None:
    texts = [make_text(seed, 4000) for seed in range(3)]
    split = split_pieces(texts, 500)
    sides = [set(split.train), set(split.validation), set(split.test)]
    pieces = sum(map(len, sides))
    assert len(sides[0] | sides[1] | sides[2]) == pieces
    assert 0.65 < len(sides[0]) / pieces < 0.92
    assert split_pieces(texts[::-1], 500) == split
    assert all(len(piece) <= 500 for side in sides for piece in side)
    assert sum(len("".join(side).split()) for side in sides) > 0


def test_near_duplicates_stay_on_one_side() -> None:
    twin = make_text(7, 60)
    texts = [make_text(seed, 60) for seed in range(40)] + [twin, twin + " Ba."]
    split = split_pieces(texts, 3000)
    sides = [split.train, split.validation, split.test]
    holding = [i for i, side in enumerate(sides) for piece in side if piece.startswith(twin)]
    assert len(holding) == 2
    assert len(set(holding)) == 1


def test_a_short_client_is_cut_finer_and_a_tiny_one_refused() -> None:
    split = split_pieces([make_text(1, 250)], 3000)
    assert split.train
    assert split.validation
    assert split.test
    with pytest.raises(DataError, match="too little text"):
        split_pieces(["A few words."], 3000)


def table(tmp_path: Path) -> Path:
    rows = [{"site": f"clinic {i % 3}", "text": f"note {i}"} for i in range(9)]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_table_becomes_one_folder_a_client_under_pseudonyms(tmp_path: Path) -> None:
    section = ShardsConfig(table=str(table(tmp_path)), key="site")
    clients = clients_of(run_shards(section, tmp_path / "run"))
    assert [client.name for client in clients] == ["client-00", "client-01", "client-02"]
    texts = [sorted(read_folder(client.folder)[0]) for client in clients]
    assert sorted(map(len, texts)) == [3, 3, 3]
    assert sorted(text for held in texts for text in held) == [f"note {i}" for i in range(9)]


def test_folders_are_read_in_place_and_a_changed_note_is_seen(tmp_path: Path) -> None:
    for name in ("north", "south"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "n.txt").write_text(name)
    sites = {tmp_path / "north", tmp_path / "south"}
    section = ShardsConfig(folders=tuple(map(str, sorted(sites))))
    sealed = run_shards(section, tmp_path / "run")
    assert {client.folder for client in clients_of(sealed)} == sites
    assert not list(sealed.path.rglob("n.txt"))
    assert not run_shards(section, tmp_path / "run").fresh
    (tmp_path / "south" / "n.txt").write_text("a new note")
    again = run_shards(section, tmp_path / "run")
    assert again.fresh
    assert again.digest != sealed.digest


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        (ShardsConfig(), ConfigError, "exactly one of"),
        (ShardsConfig(demo=True, table="t.jsonl"), DataError, "no such folder or table"),
        (ShardsConfig(folders=("nowhere",)), DataError, "no such folder or table"),
    ],
)
def test_mistakes_in_shards_get_one_line(
    tmp_path: Path, section: ShardsConfig, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_shards(section, tmp_path / "run")


def test_a_table_without_the_key_column(tmp_path: Path) -> None:
    section = ShardsConfig(table=str(table(tmp_path)), key="ward")
    with pytest.raises(DataError, match="`text` and `ward`"):
        run_shards(section, tmp_path / "run")


@pytest.mark.parametrize("keys", [["Ann B", "ann-b"], ["..", "x"]])
def test_keys_that_make_no_client_name_are_refused(tmp_path: Path, keys: list[str]) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"client": k, "text": "words"}) + "\n" for k in keys))
    with pytest.raises(DataError):
        run_shards(ShardsConfig(table=str(path), names="key"), tmp_path / "run")
    assert not (tmp_path / "run" / "records.jsonl").exists()
