"""Sources that are no crawl: datasets, dumps, folders, other packages."""

import bz2
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commonroot.errors import ConfigError, DataError
from ingest import gather
from ingest.gather import GatherConfig
from ingest.sources.files import FilesConfig
from ingest.sources.hub import HubConfig
from ingest.sources.wikipedia import WikipediaConfig, plain_text
from tests.conftest import make_text
from tests.ingest.found import found_in


def test_a_dataset_in_a_folder_is_read_with_its_columns(tmp_path: Path) -> None:
    rows = [{"body": f"text {n}", "link": f"http://x.example/{n}"} for n in range(5)]
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = HubConfig(dataset=str(folder), text="body", url="link", most=4, licence="l:1")
    found = found_in(source)
    assert [(item.url, item.body, item.licence) for item in found] == [
        (row["link"], row["body"].encode(), "l:1") for row in rows[:4]
    ]
    unnamed = found_in(source.model_copy(update={"url": ""}))
    assert unnamed[0].url == "dataset:letters/default/train/1"
    assert source.without_paths().dataset == "letters"
    before = source.fingerprint()
    (folder / "train.jsonl").write_text(json.dumps(rows[0]))
    assert source.fingerprint() != before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": "words"}, "no column words; it has body"),
        ({"split": "test"}, "cannot load"),
        ({"dataset": "none"}, "cannot load"),
    ],
)
def test_an_unusable_dataset_is_one_line(
    changes: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.jsonl").write_text(json.dumps({"body": "x"}))
    given = {"dataset": str(tmp_path / "d"), "text": "body"} | changes
    with pytest.raises(DataError, match=words) as caught:
        found_in(HubConfig.model_validate(given))
    assert "\n" not in str(caught.value)


def test_parquet_rows_are_documents_and_a_damaged_file_is_counted(tmp_path: Path) -> None:
    table = pa.table({"text": ["one", "two", None], "url": ["http://x.example/1", None, None]})
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(pa.table({"words": ["one"]}), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-30])
    found = found_in(FilesConfig(folder=str(tmp_path)))
    assert [(item.url, item.body, item.decision) for item in found] == [
        ("http://x.example/1", b"one", "kept"),
        ("file:///a.parquet?row=2", b"two", "kept"),
        ("file:///a.parquet?row=3", b"", "kept"),  # counted as unreadable when it is archived
        ("file:///b.parquet", b"", "no-text-column"),
        ("file:///c.parquet?after=0", b"", "damaged-file"),
    ]


def test_a_damaged_group_of_rows_costs_that_group(tmp_path: Path) -> None:
    texts = [make_text(number, 200) for number in range(60)]
    path = tmp_path / "a.parquet"
    table = pa.table({"text": texts})
    pq.write_table(table, path, row_group_size=10, use_dictionary=False, write_page_checksum=True)
    column = pq.read_metadata(path).row_group(2).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(bytes(data))
    found = found_in(FilesConfig(folder=str(tmp_path)))
    assert [item.body.decode() for item in found if item.body] == texts[:20] + texts[30:]
    (lost,) = [item for item in found if item.decision == "damaged-file"]
    assert "10 rows are lost" in lost.detail


def test_rows_that_a_damaged_page_withholds_without_a_word_are_counted(tmp_path: Path) -> None:
    texts = [make_text(number, 20) for number in range(30)]
    path = tmp_path / "a.parquet"
    table = pa.table({"text": texts})
    pq.write_table(table, path, row_group_size=10, use_dictionary=False, write_page_checksum=True)
    whole = path.read_bytes()
    at = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    silent = 0
    for bit in range(8 * 24):  # of the page's head
        data = bytearray(whole)
        data[at + bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(data))
        found = found_in(FilesConfig(folder=str(tmp_path)))
        assert {item.body.decode() for item in found if item.body} <= set(texts)
        told = [item.detail for item in found if item.decision == "damaged-file"]
        assert bool(told) == (sum(bool(item.body) for item in found) < len(texts))
        silent += any("fewer than promised" in one for one in told)
    assert silent


ARTICLE = """{{Infobox|name=x}}
'''Bread''' is a [[staple food|staple]] made of [[flour]].<ref>A book, p. 3</ref>
[[File:Loaf.jpg|thumb|A loaf]]
{| class="wikitable"
| cell
|}
== History ==
It is old &amp; well known. * Not a list.
== References ==
{{reflist}}
[[Category:Food]]"""


def dump(*pages: tuple[str, str, str]) -> bytes:
    parts = [
        f"<page><title>{title}</title><ns>{ns}</ns><id>1</id><revision><id>2</id>"
        f"<text>{markup.replace('&', '&amp;').replace('<', '&lt;')}</text></revision></page>"
        for title, ns, markup in pages
    ]
    head = "<siteinfo><base>https://xx.wiki.example/wiki/Main_Page</base></siteinfo>"
    space = "http://www.mediawiki.org/xml/export-0.11/"
    return f'<mediawiki xmlns="{space}">{head}{"".join(parts)}</mediawiki>'.encode()


def test_markup_is_taken_off() -> None:
    text = plain_text(ARTICLE)
    assert text.startswith("Bread is a staple made of flour.")
    assert "It is old & well known." in text
    for gone in ("Infobox", "book", "Loaf", "cell", "reflist", "Food", "[", "{", "'''", "<"):
        assert gone not in text


def test_articles_of_a_dump(tmp_path: Path) -> None:
    data = dump(("Bread and butter", "0", ARTICLE), ("Talk:Bread", "1", ARTICLE), ("Bit", "0", "x"))
    (tmp_path / "pages.xml.bz2").write_bytes(bz2.compress(data))
    found = found_in(WikipediaConfig(dump=(str(tmp_path),), least_chars=20))
    assert [(item.url, item.decision) for item in found] == [
        ("https://xx.wiki.example/wiki/Bread_and_butter", "kept"),
        ("https://xx.wiki.example/wiki/Bit", "too-short"),
    ]
    assert found[0].body.startswith(b"Bread and butter\n\nBread is")


def test_a_page_without_a_name_space_is_no_article(tmp_path: Path) -> None:
    data = dump(("Bread", "0", ARTICLE), ("Butter", "0", ARTICLE)).replace(b"<ns>0</ns>", b"", 1)
    (tmp_path / "pages.xml").write_bytes(data)
    found = found_in(WikipediaConfig(dump=(str(tmp_path),), least_chars=20))
    assert [item.url.rpartition("/")[2] for item in found] == ["Butter"]


def test_a_cut_dump_keeps_what_came_before(tmp_path: Path) -> None:
    many = [(f"Page {n}", "0", f"{ARTICLE} {make_text(n, 200)}") for n in range(40)]
    whole = dump(*many)
    (tmp_path / "pages.xml").write_bytes(whole[: len(whole) // 2])
    found = found_in(WikipediaConfig(dump=(str(tmp_path / "pages.xml"),), least_chars=20))
    assert found[-1].decision == "damaged-file"
    assert [item.decision for item in found[:-1]] == ["kept"] * (len(found) - 1)
    assert len(found) > 15


MODULE = """
from typing import ClassVar
from ingest.sources.found import Found, Source

class Letters(Source):
    kind: ClassVar[str] = "letter"
    count: int = 0

    @property
    def wanted(self): return self.count > 0
    def fingerprint(self): return str(self.count)
    def documents(self, fetch, scratch):
        for number in range(self.count):
            yield Found(f"letter:{number}", "text/plain", b"Dear reader, this is a letter.")
"""


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with a source of its own."""
    info = tmp_path / "site" / "letters-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: letters\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[commonroot.sources]\nletters = letters_1:Letters\n")
    (info.parent / "letters_1.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(info.parent))


def test_a_source_of_another_package(tmp_path: Path, other_package: None) -> None:
    config = GatherConfig.model_validate({"more": {"letters": {"count": 3}}})
    web = gather.run(config, tmp_path / "run")
    assert web.metrics["decisions"] == {"kept": 3}
    with pytest.raises(ConfigError, match=r"gather\.more\.letters\.size"):
        gather.run(GatherConfig(more={"letters": {"size": 3}}), tmp_path / "run")
    with pytest.raises(ConfigError, match="letters"):
        gather.run(GatherConfig(more={"postcards": {}}), tmp_path / "run")


def test_nothing_is_gathered_from_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gather\.wikipedia\.dump"):
        gather.run(GatherConfig(), tmp_path / "run")
