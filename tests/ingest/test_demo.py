"""The whole ingest on the demo site, against its truth, and after kill -9 at bad moments."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commonroot.artifact import Artifact, load_artifact
from commonroot.errors import DataError
from ingest import clean, gather
from ingest.archive import Stored, read_archive
from ingest.demo import annex
from ingest.demo.plan import SIGNALS, plan
from ingest.demo.score import main_text_f1

OPT_OUTS = ("opt-out", "opt-out-robots", "opt-out-site")
Demo = tuple[Path, Artifact, Artifact]


def _truth(web: Artifact) -> dict[str, dict[str, Any]]:
    lines = gzip.decompress((web.path / gather.TRUTH).read_bytes()).decode().splitlines()
    return {page["url"]: page for page in map(json.loads, lines)}


def _texts(corpus: Artifact) -> dict[str, str]:
    import pyarrow.parquet as pq

    files = sorted((corpus.path / "data").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return {row["url"]: row["text"] for row in rows}


def test_no_disallowed_page_is_fetched(demo: Demo) -> None:
    _, web, corpus = demo
    log = [json.loads(line) for line in (web.path / gather.ACCESS_LOG).read_text().splitlines()]
    disallowed = [page["url"] for page in _truth(web).values() if page["kind"] == "disallowed"]
    asked = {f"http://{line['host']}{line['path']}" for line in log}
    assert disallowed
    assert not asked.intersection(disallowed)
    assert not any("/private/" in url and "open.html" not in url for url in asked)
    assert any("/private/open.html" in url for url in asked)
    assert corpus.metrics["truth"]["disallowed_fetches"] == 0
    refused = web.metrics["decisions"]["robots"]
    assert refused >= len(disallowed)  # they were linked to, and passed over


def test_no_refusing_page_is_in_archive_or_corpus(demo: Demo) -> None:
    _, web, corpus = demo
    refusing = {url: page for url, page in _truth(web).items() if page["kind"] == "opt-out"}
    assert {page["signal"] for page in refusing.values()} == {*SIGNALS, *annex.SIGNALS}
    assert not set(_texts(corpus)).intersection(refusing)
    for item in read_archive(web.path / gather.ARCHIVE):
        assert isinstance(item, Stored)
        assert item.url not in refusing or item.body == b""
    decided = sum(web.metrics["decisions"].get(name, 0) for name in OPT_OUTS)
    assert decided == len(refusing)


def test_what_troubles_a_crawler_is_passed_over_with_a_reason(demo: Demo) -> None:
    lines = (demo[1].path / gather.FETCHES).read_text("utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if f"//{annex.ANNEX}/" in record["url"]]
    said = {record["url"].removeprefix(f"http://{annex.ANNEX}"): record for record in records}
    assert said["/viewer/"]["decision"] == "needs-javascript"
    assert said["/copy/of-an-article.html"]["decision"] == "canonical-elsewhere"
    for number in range(4):  # of a packed sitemap, two feeds, links with a session and a campaign
        assert said[f"/post/{number}.html"]["decision"] == "kept"
    assert not any("PHPSESSID" in url or "utm_" in url for url in said)
    for what, pages in (("/calendar/", 12 * len(annex.YEARS)), ("/shop?", 150)):
        mine = [r["decision"] for url, r in said.items() if url.startswith(what) and url[-1] != "/"]
        assert len(mine) == pages
        assert mine.count("kept") == 100
        assert mine.count("trap") == pages - 100


def test_scores_against_the_truth(demo: Demo) -> None:
    truth = demo[2].metrics["truth"]
    assert truth["main_text"]["f1"] > 0.97
    assert truth["duplicates"]["precision"] > 0.95
    assert truth["duplicates"]["recall"] > 0.9
    assert truth["pii"]["planted"] >= 5
    assert truth["pii"]["found"] == truth["pii"]["planted"]
    assert truth["wanted_texts_found"] >= 0.9 * truth["wanted_texts"]
    assert truth["worthless_in_corpus"] == 0


def test_wrong_charsets_are_read_right(demo: Demo) -> None:
    _, web, corpus = demo
    texts = _texts(corpus)
    pages = [url for url, page in _truth(web).items() if page["kind"] == "wrong-charset"]
    assert any(url in texts for url in pages)
    for url in pages:
        if url in texts:
            assert "Café Zoë, Señor Nuñez & Übermut — déjà vu." in texts[url]


def test_the_scorer_can_say_bad_things(tmp_path: Path) -> None:
    from ingest.demo.score import score

    pages = [
        {
            "url": "http://atlas.example/a",
            "kind": "article",
            "group": "g",
            "pii": [["EMAIL", "x@y.example"]],
            "text": "one two three four five six",
            "language": "en",
            "signal": "",
        },
        {
            "url": "http://atlas.example/b",
            "kind": "exact-duplicate",
            "group": "g",
            "pii": [],
            "text": "one two three four five six",
            "language": "en",
            "signal": "",
        },
        {
            "url": "http://atlas.example/c",
            "kind": "opt-out",
            "group": "",
            "pii": [],
            "text": "seven",
            "language": "en",
            "signal": "noai",
        },
    ]
    (tmp_path / "truth").write_bytes(gzip.compress("\n".join(map(json.dumps, pages)).encode()))
    line = {"host": "atlas.example", "path": "/private/x", "agent": "commonroot/1"}
    (tmp_path / "log").write_text(json.dumps(line) + "\n")
    kept = {page["url"]: "menu one two three four x@y.example" for page in pages}
    result = score(
        tmp_path / "truth",
        tmp_path / "log",
        kept,
        {"http://atlas.example/z": "http://atlas.example/a"},
    )
    assert result["disallowed_fetches"] == 1
    assert result["opted_out_in_corpus"] == 1
    assert result["main_text"]["f1"] < 0.5
    assert result["duplicates"] == {"dropped": 1, "missed": 1, "precision": 0.0, "recall": 0.0}
    assert result["pii"]["found"] == 0


def test_f1_of_equal_and_of_empty_texts() -> None:
    assert main_text_f1({"a": ("a b c d e", "a b c d e")})["f1"] == 1.0
    assert main_text_f1({"a": ("a b c d e", "")})["f1"] == 0.0
    assert main_text_f1({})["f1"] == 0.0


def test_the_site_is_a_function_of_pages_and_seed(demo: Demo) -> None:
    known = _truth(demo[1])
    assert {page.url: page.truth()["text"] for page in plan(80, 0)} == {
        url: page["text"] for url, page in known.items()
    }
    assert {page.url for page in plan(80, 1)} != set(known)


def test_without_the_data_packages_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError, match="make setup"):
        plan(60, 0)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from ingest import clean, gather
from ingest.demo.site import DemoConfig
from ingest.sources import frontier
from ingest.sources.web import WebConfig

what, run_dir, moment = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
calls = 0

def dying(inner):
    def call(*arguments):
        global calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments)
    return call

if __name__ == "__main__":
    if what == "gather":
        # The archive is on disk already, the frontier does not know of it: the worst moment.
        frontier.Frontier.commit = dying(frontier.Frontier.commit)
        gather.run(
            gather.GatherConfig(web=WebConfig(max_pages=1000), demo=DemoConfig(pages=80)), run_dir)
    else:
        from ingest.journal import Journal
        from tests.ingest.conftest import demo_cleaning
        Journal.add = dying(Journal.add)
        clean.run(demo_cleaning(), run_dir)
"""


def _run(tmp_path: Path, what: str, run_dir: Path, moment: int) -> int:
    script = tmp_path / "killed.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), what, str(run_dir), str(moment)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.slow
def test_a_gather_that_was_killed_ends_as_if_it_was_not(demo: Demo, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    for moment in (1, 3, 2):
        assert _run(tmp_path, "gather", run_dir, moment) == -signal.SIGKILL
    assert _run(tmp_path, "gather", run_dir, 10_000) == 0
    web = load_artifact(run_dir / gather.FOLDER, gather.KIND)
    assert web.digest == demo[1].digest
    urls = [
        item.url for item in read_archive(web.path / gather.ARCHIVE) if isinstance(item, Stored)
    ]
    assert len(urls) == len(set(urls))
    whole = read_archive(demo[1].path / gather.ARCHIVE)
    assert sorted(urls) == sorted(item.url for item in whole if isinstance(item, Stored))


@pytest.mark.slow
def test_a_clean_that_was_killed_ends_as_if_it_was_not(demo: Demo, tmp_path: Path) -> None:
    import shutil

    run_dir = tmp_path / "run"
    shutil.copytree(demo[1].path, run_dir / gather.FOLDER)
    for _ in range(2):
        assert _run(tmp_path, "clean", run_dir, 20) == -signal.SIGKILL
    journal = run_dir / f"{clean.FOLDER}.partial" / "examined.jsonl"
    assert len(journal.read_text().splitlines()) >= 30  # the second run went on, not from scratch
    with open(journal, "a") as file:
        file.write('{"url": "http://cut')
    assert _run(tmp_path, "clean", run_dir, 10_000) == 0
    assert load_artifact(run_dir / clean.FOLDER, clean.KIND).digest == demo[2].digest
