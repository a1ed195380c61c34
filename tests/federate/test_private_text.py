import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commonroot.errors import ConfigError, DataError
from federate.private_text import read_folder, split_pieces
from federate.shards.stage import ShardsConfig, clients_of
from federate.shards.stage import run as run_shards
from pretrain.records import Document, Record
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
    assert skipped == {
        "no_text": 3,
        "unreadable_file": 2,
        "bad_line": 1,
        "no_text_column": 1,
        "other_file_type": 1,
    }


def test_all_kinds_of_record_are_read_from_one_folder(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "ba?"}, {"role": "assistant", "content": "ko."}]
    rows = [{"text": "plain"}, {"prompt": "2 + 2 =", "completion": " 4"}, {"messages": chat}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = ("text", "prompt", "completion", "messages")
    filled = [{name: row.get(name) for name in names} for row in rows]
    pq.write_table(pa.Table.from_pylist([*filled, dict.fromkeys(names)]), tmp_path / "b.parquet")
    documents, skipped = read_folder(tmp_path)
    expected: list[Document] = [
        "plain",
        Record((("prompt", "2 + 2 ="), ("completion", " 4"))),
        Record((("user", "ba?"), ("assistant", "ko."))),
    ]
    assert documents == expected * 2
    assert skipped == {"no_text": 1}


def test_a_bad_line_costs_itself_and_not_its_file(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"text": "one"}\r',
        b'{"text": "two',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"prompt": "p", "completion": ""}',
        b'{"text": "\\ud800"}',
        b'{"messages": [{"role": "user", "content": 1}]}',
        b"[1]",
        b"",
        '{"text": "three\u2028lines"}'.encode(),
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    documents, skipped = read_folder(tmp_path)
    assert documents == ["one", "three\u2028lines"]
    assert skipped == {
        "bad_line": 3,
        "no_completion": 1,
        "not_unicode": 1,
        "bad_messages": 1,
        "no_text": 1,
    }


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
    twins = [make_text(seed, 60) for seed in range(40)]
    copies: list[Document] = [*twins, *(twin + " Ba." for twin in twins)]
    copies += [Record((("prompt", str(copy)), ("completion", "ba"))) for copy in copies]
    split = split_pieces(copies, 3000)
    sides = [split.train, split.validation, split.test]
    for kind in (str, Record):
        texts = [[str(item) for item in side if isinstance(item, kind)] for side in sides]
        assert sum(map(len, texts)) == 80
        for twin in twins:
            assert sorted(sum(twin in text for text in side) for side in texts) == [0, 0, 2]


def test_a_short_client_is_cut_finer_and_a_tiny_one_refused() -> None:
    split = split_pieces([make_text(1, 250)], 3000)
    assert split.train
    assert split.validation
    assert split.test
    with pytest.raises(DataError, match="too little text"):
        split_pieces(["A few words."], 3000)


def prose(seed: int, words: int) -> str:
    """Made of hashes, so that no library's random numbers can change it."""
    found = [hashlib.sha256(f"{seed} {n}".encode()).hexdigest()[: 2 + n % 6] for n in range(words)]
    return " ".join(word + ("." if n % 9 == 8 else "") for n, word in enumerate(found))


def test_plain_text_is_split_as_it_always_was() -> None:
    """Digests of what the code before records existed made of the same texts."""
    texts = [prose(100 + seed, 3000) for seed in range(3)] + [prose(7, 50)] * 2
    for documents, sizes, digests in (
        (texts, [13, 4, 2], ["facf8f62372bc878", "2da866559ff3af8a", "544a3275043e96e8"]),
        ([prose(5, 250)], [1, 1, 2], ["85bf1523ab804941", "41934362070570ad", "e6815ef1159b5d10"]),
    ):
        split = split_pieces(documents, 3000)
        sides = [split.train, split.validation, split.test]
        assert [len(side) for side in sides] == sizes
        joined = ["\0".join(map(str, side)).encode() for side in sides]
        assert [hashlib.sha256(text).hexdigest()[:16] for text in joined] == digests


def sums(most: int) -> list[Document]:
    pairs = [(a, b) for a in range(most) for b in range(most)]
    return [Record((("prompt", f"{a} plus {b} ="), ("completion", f" {a + b}"))) for a, b in pairs]


def test_records_stay_whole_and_are_split_80_10_10() -> None:
    records = sums(15)
    split = split_pieces(records, 200)
    sides = [split.train, split.validation, split.test]
    assert sorted(record for side in sides for record in side) == sorted(records)  # type: ignore[type-var]
    assert 0.7 < len(split.train) / len(records) < 0.9
    assert split_pieces(records[::-1], 3000) == split


def test_an_instruction_that_all_records_share_makes_them_no_duplicates() -> None:
    order = "Answer with yes or no and with nothing else, please, dear model, whatever it is: "
    notes = [Record((("prompt", order + prose(n, 3)), ("completion", "yes"))) for n in range(60)]
    split = split_pieces(notes, 3000)
    assert 0.65 < len(split.train) / len(notes) < 0.95


@pytest.mark.parametrize("first", range(0, 30, 3))
def test_three_records_are_enough(first: int) -> None:
    split = split_pieces(sums(6)[first : first + 3], 3000)
    assert [len(split.train), len(split.validation), len(split.test)] == [1, 1, 1]


@pytest.mark.parametrize("texts", [0, 1, 40])
@pytest.mark.parametrize("records", [0, 1, 3, 30])
def test_every_client_has_all_three_sides_or_is_refused(texts: int, records: int) -> None:
    documents: list[Document] = [make_text(seed, 40) for seed in range(texts)]
    documents += sums(6)[:records]
    if records < 3 and texts < 3:
        with pytest.raises(DataError, match="three different records"):
            split_pieces(documents, 3000)
        return
    split = split_pieces(documents, 3000)
    kinds = [{type(d) for d in side} for side in (split.train, split.validation, split.test)]
    assert all(kinds)
    for kind, held in ((str, texts), (Record, records)):
        assert [kind in found for found in kinds] == (
            [held > 0] * 3 if held >= 3 else [held > 0, False, False]
        )


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
