"""How well did the crawler and the cleaner do, measured against what the demo site knows?"""

import gzip
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commonroot.artifact import json_lines
from ingest.demo.pages import ROBOTS
from ingest.demo.plan import ATLAS, WIKI
from ingest.robots import allowed

__all__ = ["main_text_f1", "score"]

GOOD = ("article", "wrong-charset", "exact-duplicate", "near-duplicate")
TOKENS = {"EMAIL": "[EMAIL]", "PHONE": "[PHONE]", "IP": "[IP]", "IBAN": "[IBAN]", "CARD": "[CARD]"}

Pages = dict[str, dict[str, Any]]


def score(
    truth: Path, access_log: Path, kept: Mapping[str, str], twins: Mapping[str, str]
) -> dict[str, Any]:
    """Scores of a finished corpus.

    `kept` maps URL -> text of the corpus, `twins` a dropped duplicate's URL -> the one kept.
    """
    lines = gzip.decompress(truth.read_bytes()).decode()
    pages = {page["url"]: page for page in json_lines(lines)}
    wanted = _wanted(pages)
    return {
        "disallowed_fetches": _disallowed(access_log),
        "opted_out_in_corpus": sum(pages[u]["kind"] == "opt-out" for u in kept if u in pages),
        "worthless_in_corpus": sum(pages.get(u, {"kind": ""})["kind"] not in GOOD for u in kept),
        "wanted_texts": len(wanted),
        "wanted_texts_found": len({pages[u]["group"] for u in kept if u in pages} & wanted),
        "main_text": main_text_f1({u: (pages[u]["text"], kept[u]) for u in kept if u in pages}),
        "duplicates": _duplicates(pages, kept, twins),
        "pii": _pii(pages, kept),
    }


def _disallowed(access_log: Path) -> int:
    """Requests that the server saw and its robots.txt forbids."""
    seen = json_lines(access_log.read_text("utf-8"))
    return sum(
        not allowed(
            ROBOTS.format(host=line["host"]).encode(), line["agent"],
            f"http://{line['host']}{line['path']}",
        )
        for line in seen if line["host"] in (ATLAS, WIKI)
    )


def _wanted(pages: Pages) -> set[str]:
    """Groups of English articles: of each exactly one text belongs into the corpus."""
    return {page["group"] for page in pages.values() if page["kind"] in GOOD}


def main_text_f1(pairs: Mapping[str, tuple[str, str]]) -> dict[str, float]:
    """Mean precision and recall of 4-gram shingles over (true, extracted) texts; F1 of the means.

    Per page the true, false and missed shingles are normalised to 1, so long pages do not rule.
    """
    precisions, recalls = [], []
    for true, found in pairs.values():
        true_shingles, found_shingles = _shingles(true), _shingles(found)
        hit = sum((true_shingles & found_shingles).values())
        precisions.append(hit / max(found_shingles.total(), 1))
        recalls.append(hit / max(true_shingles.total(), 1))
    precision = sum(precisions) / max(len(precisions), 1)
    recall = sum(recalls) / max(len(recalls), 1)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def _shingles(text: str) -> Counter[tuple[str, ...]]:
    words = text.split()
    size = min(4, len(words))
    return Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))


def _duplicates(
    pages: Pages, kept: Mapping[str, str], twins: Mapping[str, str]
) -> dict[str, float | int]:
    """Precision: of what was dropped, how much was a copy. Recall: of the copies, how many went."""
    def group(url: str) -> str:
        return str(pages.get(url, {}).get("group", ""))

    right = sum(bool(group(url)) and group(url) == group(twin) for url, twin in twins.items())
    copies: dict[str, int] = defaultdict(int)
    for url in kept:
        if group(url):
            copies[group(url)] += 1
    missed = sum(count - 1 for count in copies.values())
    return {
        "dropped": len(twins), "missed": missed,
        "precision": round(right / max(len(twins), 1), 4),
        "recall": round(right / max(right + missed, 1), 4),
    }


def _pii(pages: Pages, kept: Mapping[str, str]) -> dict[str, Any]:
    """Planted personal data in the pages that were kept, and how much of it was replaced."""
    planted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for url, text in kept.items():
        for kind, value in pages.get(url, {}).get("pii", ()):
            planted[kind] += 1
            found[kind] += value not in text and TOKENS[kind] in text
    return {
        "planted": planted.total(), "found": found.total(),
        "by_kind": {kind: f"{found[kind]}/{planted[kind]}" for kind in sorted(planted)},
    }
