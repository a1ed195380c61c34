"""What a host prints on every page goes, what one page says stays."""

import json
from pathlib import Path
from typing import Any

import pytest

from ingest import clean, gather
from ingest.boilerplate import BoilerplateConfig, boilerplate_lines, without_lines
from ingest.clean import CleanConfig
from ingest.gather import GatherConfig
from ingest.journal import Journal
from ingest.sources.files import FilesConfig
from ingest.words import Hashes, line_hashes
from tests.ingest.articles import article

NOTICE = "Subscribe to our newsletter and never miss a story from the valley."
CONFIG = BoilerplateConfig(pages=5, share=0.5)


def _page(text: str, host: str = "x.example") -> tuple[str, Hashes]:
    return host, line_hashes(text)[0]


def _text(index: int) -> str:
    return f"{article(index)}\n{NOTICE}"


def test_a_line_on_many_pages_of_a_host_goes() -> None:
    found = boilerplate_lines(map(_page, map(_text, range(8))), CONFIG)
    assert list(found) == ["x.example"]
    assert without_lines(_text(3), found["x.example"], CONFIG) == (article(3), 1)
    assert without_lines(article(3), found["x.example"], CONFIG) == (article(3), 0)


def test_too_few_pages_or_too_small_a_share_keep_it() -> None:
    pages = [_page(_text(i)) for i in range(5)]
    assert boilerplate_lines(pages[:4], CONFIG) == {}
    assert list(boilerplate_lines(pages, CONFIG)) == ["x.example"]
    assert boilerplate_lines([*pages, *(_page(article(i)) for i in range(10, 16))], CONFIG) == {}
    assert boilerplate_lines(pages, BoilerplateConfig(pages=0)) == {}
    elsewhere = [_page(_text(i), f"{i}.example") for i in range(8)]
    assert boilerplate_lines(elsewhere, CONFIG) == {}


def test_copies_of_a_page_make_no_boilerplate() -> None:
    copies = [_page(_text(1))] * 20
    assert boilerplate_lines(copies, CONFIG) == {}


def test_near_copies_keep_their_text() -> None:
    """All their lines are on many pages; taking them out would leave nothing."""
    near = [f"{article(1)}\nSeen {i} times." for i in range(20)]
    lines = boilerplate_lines(map(_page, near), CONFIG)["x.example"]
    assert without_lines(near[4], lines, CONFIG) == (near[4], 0)


def test_the_stage_takes_it_out_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for index in range(8):
        (folder / f"{index}.txt").write_text(_text(index))
    gather.run(GatherConfig(files=FilesConfig(folder=str(folder))), tmp_path / "run")
    corpus = clean.run(CleanConfig(boilerplate=CONFIG), tmp_path / "run")
    import pyarrow.parquet as pq

    rows = pq.read_table(corpus.path / "data", columns=["text", "decisions"]).to_pylist()
    assert sorted(row["text"] for row in rows) == sorted(article(i) for i in range(8))
    taken = {"lines": 1, "characters": len(NOTICE) + 1}
    assert all(json.loads(row["decisions"])["boilerplate"] == taken for row in rows)
    assert corpus.metrics["boilerplate"] == {k: 8 * v for k, v in sorted(taken.items())}
    assert "boilerplate lines" in (corpus.path / "report.html").read_text("utf-8")


@pytest.mark.parametrize("records", [3, 11])
def test_a_run_cut_in_either_pass_ends_as_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    """The second pass begins when the first is over, whatever was judged before the cut."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for index in range(8):
        (folder / f"{index}.txt").write_text(_text(index))
    for name in ("cut", "whole"):
        gather.run(GatherConfig(files=FilesConfig(folder=str(folder))), tmp_path / name)
    config = CleanConfig(boilerplate=CONFIG, workers=1)
    add, left = Journal.add, [records]

    def failing(journal: Journal, record: dict[str, Any]) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return add(journal, record)

    monkeypatch.setattr(Journal, "add", failing)
    with pytest.raises(KeyboardInterrupt):
        clean.run(config, tmp_path / "cut")
    left[0] = 16 - records
    cut = clean.run(config, tmp_path / "cut")
    assert left[0] == 0  # nothing is examined twice
    monkeypatch.undo()
    assert cut.digest == clean.run(config, tmp_path / "whole").digest
    assert cut.metrics["boilerplate"]["lines"] == 8
