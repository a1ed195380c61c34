"""Line 10: pages that refuse to be trained on, one way after the other; how many leak through."""

import gzip
import shutil
from collections import Counter

import pyarrow.parquet as pq

from commonroot.artifact import json_lines
from ingest import clean, gather
from ingest.archive import Stored, read_archive
from ingest.demo import annex, plan
from ingest.demo.site import DemoConfig
from ingest.sources.web import WebConfig
from tests.benchmarks.crawled.setting import Setting
from tests.benchmarks.record import Result

__all__ = ["line_10"]


def line_10(result: Result, setting: Setting) -> None:
    """Crawl and clean the demo site; look for its refusing pages in archive and corpus."""
    run_dir = setting.folder("line-10")
    shutil.rmtree(run_dir)
    web_config = WebConfig(max_pages=10_000)
    pages = 80 if setting.quick else 2_000
    config = gather.GatherConfig(web=web_config, demo=DemoConfig(pages=pages))
    web = gather.run(config, run_dir)
    corpus = clean.run(clean.CleanConfig(), run_dir)
    truth = json_lines(gzip.decompress((web.path / gather.TRUTH).read_bytes()).decode())
    refusing = {page["url"]: page["signal"] for page in truth if page["kind"] == "opt-out"}
    lines = json_lines((web.path / gather.FETCHES).read_text("utf-8"))
    counted = {line["url"] for line in lines if line["opt_out"]}
    archived = {
        item.url for item in read_archive(web.path / gather.ARCHIVE)
        if isinstance(item, Stored) and item.body
    }
    files = (corpus.path / "data").glob("*.parquet")
    kept = {url for file in files for url in pq.read_table(file)["url"].to_pylist()}
    value = {
        "kinds": len(set(refusing.values())), "pages": len(refusing),
        "counted_with_their_signal": len(refusing.keys() & counted),
        "in_archive": len(refusing.keys() & archived), "in_corpus": len(refusing.keys() & kept),
        "signals": dict(sorted(Counter(refusing.values()).items())),
        "disallowed_fetches": corpus.metrics["truth"]["disallowed_fetches"],
    }
    whole = set(refusing.values()) == {*plan.SIGNALS, *annex.SIGNALS}
    good = whole and refusing.keys() <= counted and not (value["in_archive"] or value["in_corpus"])
    result.add(
        "10", value, "every signal has a page; 0 leak through", good,
        "python -m tests.benchmarks.crawling --json --only 10",
    )
