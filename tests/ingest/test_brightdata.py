"""Bought web data: orders, snapshots, delivered files; nothing is paid twice."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commonroot.errors import CommonrootError, DataError, FetchError
from ingest import clean, gather
from ingest.fetch import FetchConfig
from ingest.gather import GatherConfig
from ingest.sources import brightdata
from ingest.sources.brightdata import BrightDataConfig
from ingest.sources.found import Found
from ingest.sources.web import WebConfig
from tests.ingest.articles import article
from tests.ingest.provider import HOST, KEY, Provider, provide

ROWS = [{"url": f"http://shop.example/{n}", "text": f"text {n}"} for n in range(7)]
PAGES = [{"url": row["url"]} for row in ROWS]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.setenv(brightdata.KEY, KEY)
    with provide() as running:
        running.records = list(ROWS)
        yield running


def config(**changes: Any) -> BrightDataConfig:
    plain = {"api": f"http://{HOST}", "poll_s": 0.01, "part_records": 3}
    return BrightDataConfig.model_validate(plain | changes)


def take(
    provider: Provider, scratch: Path, **changes: Any
) -> list[Found]:
    source = config(**changes)
    source.fingerprint()
    polite = FetchConfig(connect=provider.connect)
    return list(source.documents(polite, scratch))


ORDER = {"dataset": "gd_abc", "inputs": PAGES}


def test_a_collection_is_ordered_waited_for_and_downloaded_part_by_part(
    provider: Provider, tmp_path: Path
) -> None:
    provider.building = 2
    found = take(provider, tmp_path, **ORDER, licence="https://shop.example/terms")
    assert [(item.url, item.body) for item in found] == [
        (row["url"], row["text"].encode()) for row in ROWS
    ]
    assert {item.licence for item in found} == {"https://shop.example/terms"}
    assert provider.orders() == [PAGES]
    paths = [path for _, path, _ in provider.asked]
    assert paths[0].startswith("/datasets/v3/trigger?dataset_id=gd_abc&format=ndjson")
    assert sum("progress" in path for path in paths) == 3
    assert [path.rpartition("part=")[2] for path in paths[4:]] == ["1", "1", "1", "2", "3"]


def test_a_dataset_is_filtered_within_the_spend_cap(provider: Provider, tmp_path: Path) -> None:
    wanted = {"name": "lang", "operator": "=", "value": "en"}
    found = take(provider, tmp_path, dataset="gd_abc", filter=wanted, most_records=6)
    assert len(found) == 6  # two whole parts, and the third is behind the end
    assert provider.orders() == [
        {"dataset_id": "gd_abc", "records_limit": 6, "filter": wanted}
    ]


@pytest.mark.parametrize(
    "changes", [{"most_records": 6}, {"most_usd": 0.01}, {"usd_per_1000": 200.0}]
)
def test_an_order_above_the_cap_is_never_sent(
    changes: dict[str, float], provider: Provider, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="7 records for about"):
        take(provider, tmp_path, **ORDER, **changes)
    assert not provider.asked


def test_a_snapshot_above_the_cap_is_refused(provider: Provider, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"more than most_records \(5\)"):
        take(provider, tmp_path, snapshots=["s_9"], most_records=5)
    assert not provider.orders()


def test_a_kill_never_orders_twice(provider: Provider, tmp_path: Path) -> None:
    provider.troubles = [("/datasets/v3/snapshot", 500, "x")] * 3
    with pytest.raises(FetchError, match="part 1 of snapshot s_1: HTTP 500"):
        take(provider, tmp_path, **ORDER)
    provider.progress = ["ready"]
    assert len(take(provider, tmp_path, **ORDER)) == 7
    assert len(provider.orders()) == 1


def test_an_order_of_which_nobody_knows_is_not_repeated(
    provider: Provider, tmp_path: Path
) -> None:
    provider.troubles = [("/datasets/v3/trigger", 0, "")]
    with pytest.raises(FetchError, match="order was not taken"):
        take(provider, tmp_path, **ORDER)
    with pytest.raises(FetchError, match="may be paid for"):
        take(provider, tmp_path, **ORDER)
    assert len(provider.orders()) == 1
    (tmp_path / "order-sent").unlink()
    assert len(take(provider, tmp_path, **ORDER)) == 7


def test_what_passes_is_tried_again(provider: Provider, tmp_path: Path) -> None:
    provider.troubles = [
        ("/datasets/v3/trigger", 429, "too many running jobs"),
        ("/datasets/v3/progress", 503, ""),
        ("/datasets/v3/snapshot", 0, ""),
    ]
    assert len(take(provider, tmp_path, **ORDER)) == 7


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (("/datasets/v3/trigger", 400, {"validation_errors": ["url is required"]}), "url is req"),
        (("/datasets/v3/trigger", 404, "dataset does not exist"), "HTTP 404, dataset does not"),
        (("/datasets/v3/progress", 404, "Snapshot does not exist"), "does not exist"),
        (("/datasets/v3/snapshot", 400, "Snapshot is expired"), "expired"),
    ],
)
def test_a_refusal_is_one_line_and_leaves_the_order_free(
    trouble: tuple[str, int, Any], words: str, provider: Provider, tmp_path: Path
) -> None:
    provider.troubles = [trouble]
    with pytest.raises(FetchError, match=words) as caught:
        take(provider, tmp_path, **ORDER)
    assert "\n" not in str(caught.value)
    assert len(take(provider, tmp_path, **ORDER)) == 7


def test_a_failed_snapshot_says_why(provider: Provider, tmp_path: Path) -> None:
    provider.progress = ["running", "failed"]
    with pytest.raises(FetchError, match="failed: HTTP 200, no page could be opened"):
        take(provider, tmp_path, **ORDER)


def test_a_slow_snapshot_is_given_up_with_its_name(provider: Provider, tmp_path: Path) -> None:
    provider.progress = ["running"]
    with pytest.raises(FetchError, match="name it in snapshots"):
        take(provider, tmp_path, snapshots=["s_slow"], wait_minutes=0.001)


def test_the_key_is_needed_and_never_shown(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(brightdata.KEY, "wrong-key")
    with pytest.raises(FetchError, match="is refused: HTTP 401, Invalid credentials") as caught:
        take(provider, tmp_path, **ORDER)
    assert "wrong-key" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    monkeypatch.delenv(brightdata.KEY)
    with pytest.raises(DataError, match=f"set {brightdata.KEY}"):
        take(provider, tmp_path, **ORDER)


def test_the_api_is_reached_at_public_addresses_only(
    provider: Provider, tmp_path: Path
) -> None:
    source = config(snapshots=["s_1"], api=f"http://127.0.0.1:{provider.port}")
    with pytest.raises(FetchError, match=r"127\.0\.0\.1"):
        list(source.documents(FetchConfig(retries=0), tmp_path))
    assert not provider.asked


def test_bad_records_are_counted_and_cost_only_themselves(
    provider: Provider, tmp_path: Path
) -> None:
    provider.records = [
        ROWS[0], "{cut", {"url": "http://shop.example/x", "error": "page not found"}, [1],
        {"url": "http://shop.example/y", "body": "other field"}, {"text": "no address"},
    ]
    found = take(provider, tmp_path, snapshots=["s_1"])
    assert [item.decision for item in found] == [
        "kept", "damaged-record", "provider-error", "damaged-record", "kept", "kept",
    ]
    assert (found[4].body, found[4].detail) == (b"", "no field text")  # unreadable when archived
    assert found[5].url == "bought:s_1/6"


def test_delivered_files_go_the_same_way(tmp_path: Path) -> None:
    lines = "\n".join(map(json.dumps, ROWS[:3]))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.json").write_text(json.dumps(ROWS[3:5]))
    (tmp_path / "c.ndjson.gz").write_bytes(gzip.compress(json.dumps(ROWS[5]).encode()))
    whole = gzip.compress("\n".join(map(json.dumps, ROWS * 50)).encode())
    (tmp_path / "d.jsonl.gz").write_bytes(whole[:-20])
    found = list(config(files=[str(tmp_path)]).documents(FetchConfig(), tmp_path))
    assert [item.url for item in found[:6]] == [row["url"] for row in ROWS[:6]]
    assert found[-1].decision == "damaged-record"
    assert len(found) > 100


def test_what_was_bought_becomes_corpus_with_its_terms(
    provider: Provider, tmp_path: Path
) -> None:
    provider.records = [
        {"url": f"http://shop.example/{n}", "page_html": f"<html><body><p>{article(n)}</p>"}
        for n in range(4)
    ]
    provider.records[3]["page_html"] = "<meta name=robots content=noai>" + article(9)
    bought = config(snapshots=["s_1"], text="page_html", licence="https://shop.example/terms")
    web = WebConfig(connect=provider.connect)
    gather.run(GatherConfig(web=web, brightdata=bought), tmp_path / "run")
    corpus = clean.run(clean.CleanConfig(), tmp_path / "run")
    assert corpus.metrics["kept"] == 3
    assert corpus.metrics["dropped"] == {"opt-out": 1}
    assert KEY not in (tmp_path / "run" / "1-web" / "manifest.json").read_text()


@pytest.mark.parametrize(
    "changes",
    [{"dataset": "gd_a"}, {"inputs": PAGES}, {**ORDER, "filter": {"a": 1}}],
)
def test_half_an_order_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CommonrootError):
        config(**changes).fingerprint()
