"""Train the trees of `ingest.maintext`: python -m tests.benchmarks.extraction.train --data DIR

Writes ingest/maintext/trees.json. Same pages, same bytes.
"""

import argparse
import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ingest import maintext
from ingest.maintext.choose import disagreement
from ingest.maintext.features import FEATURES, features
from ingest.maintext.forest import LEAVES, Forest, Trees
from ingest.maintext.segment import Page, segment
from ingest.tags import parse_page
from tests.benchmarks.extraction.manuals import manuals
from tests.benchmarks.extraction.pages import Sample, read
from tests.benchmarks.extraction.thinned import thinned

__all__ = ["Family", "add_arguments", "families", "folds", "read_all", "train"]

WORD = re.compile(r"\w+")
FORESTS, TREES, INNER = 6, 60, 3
SEEN = 0.6
"""Share of pages that each forest is trained on."""
COPIES, COPY, MANUAL = 6, 0.3, 0.15
"""Thinned copies of an article (a manual's page has one), the weight of a copy beside its page, and
of a manual's page beside an article."""
ASKED = {"fast": 0.025, "quality": 0.2}
"""Share of articles that each mode leaves to the other extractor."""
SETTINGS = {
    "objective": "cross_entropy", "learning_rate": 0.13, "num_leaves": LEAVES,
    "min_data_in_leaf": 20, "min_sum_hessian_in_leaf": 1e-3, "lambda_l2": 5.0,
    "feature_fraction": 0.3, "bagging_fraction": 0.7, "bagging_freq": 1, "max_bin": 63,
    "use_missing": False, "boost_from_average": False, "deterministic": True,
    "force_col_wise": True, "num_threads": 1, "seed": 1, "verbose": -1,
}


@dataclass
class Labelled:
    """A page's blocks: features [F, B], share of true words and weight [B]."""

    page: Page
    known: Any
    true: Any
    weight: Any


Family = list[Labelled]
"""A page and its thinned copies."""


def families(samples: list[Sample], copies: int, weight: float, seed: int) -> list[Family]:
    """Pages with labels and copies, each page of the same `weight`; [] for one without text."""
    found = []
    for number, sample in enumerate(samples):
        page, family = segment(parse_page(sample.source)), []
        if page.texts:
            true = _shares(page.texts, sample.truth)
            family = [_labelled(page, true, weight)]
            for copy, kept in thinned(page, true, copies, (seed, number)):
                family.append(_labelled(copy, true[kept], weight * COPY))
        found.append(family)
    return found


def _shares(texts: list[str], truth: str) -> Any:
    """How much of each block belongs to the truth, by alignment of all words of page and truth."""
    words = [WORD.findall(text) for text in texts]
    owner = [block for block, own in enumerate(words) for _ in own]
    size = np.array([len(own) for own in words], float)
    hits = np.zeros(len(words))
    matcher = difflib.SequenceMatcher(
        None, [word for own in words for word in own], WORD.findall(truth), autojunk=False
    )
    for match in matcher.get_matching_blocks():
        for block in owner[match.a : match.a + match.size]:
            hits[block] += match.size >= min(4, size[block])
    return hits / np.maximum(size, 1)


def _labelled(page: Page, true: Any, weight: float) -> Labelled:
    size = np.array([len(WORD.findall(text)) for text in page.texts], float)
    wanted = max((size * true).sum(), 30.0)
    return Labelled(
        page, features(page), true, weight * (np.minimum(size, wanted / 2) + 1) / wanted
    )


def folds(count: int, parts: int, seed: int) -> list[list[int]]:
    """Page numbers divided at random."""
    order = np.random.default_rng(seed).permutation(count)
    return [order[part::parts].tolist() for part in range(parts)]


def train(articles: list[Family], others: list[Family], seed: int = 0) -> Trees:
    """Fit the forests; the limits leave `ASKED` of unseen articles to the other extractor."""
    seen: list[float] = []
    for part in folds(len(articles), INNER, seed):
        rest = [page for number, page in enumerate(articles) if number not in set(part)]
        forests = _fit(rest + others, seed)
        for family in filter(None, (articles[number] for number in part)):
            seen.append(disagreement(family[0].page.texts, forests(family[0].known)))
    limits = {mode: float(np.quantile(seen, 1 - share)) for mode, share in ASKED.items()}
    return Trees(_fit(articles + others, seed), limits)


def _fit(pages: list[Family], seed: int) -> Forest:
    """Forests that have each seen other pages: where they disagree, none of them knows."""
    import lightgbm

    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(FORESTS):
        chosen = [one for family in pages if rng.random() < SEEN for one in family]
        weight = np.concatenate([one.weight for one in chosen])
        data = lightgbm.Dataset(
            np.concatenate([one.known.T for one in chosen]),
            np.concatenate([one.true for one in chosen]), weight=weight / weight.mean(),
        )
        parts += lightgbm.train(SETTINGS, data, TREES).dump_model()["tree_info"]
    return _forest(parts)


def _forest(trees: list[dict[str, Any]]) -> Forest:
    """LightGBM's trees in the form that is shipped."""
    shape = (LEAVES - 1, len(trees))
    feature, threshold = np.zeros(shape, np.int64), np.full(shape, np.inf, np.float32)
    mask, leaf = np.full(shape, 255, np.uint8), np.zeros((shape[1], LEAVES))
    for number, tree in enumerate(trees):
        nodes: list[tuple[int, float, int]] = []
        leaves: list[float] = []
        _flatten(tree["tree_structure"], nodes, leaves)
        leaf[number, : len(leaves)] = leaves
        for row, (column, limit, left) in enumerate(nodes):
            feature[row, number], threshold[row, number] = column, limit
            mask[row, number] = 255 & ~left
    return Forest.from_json(Forest(feature, threshold, mask, leaf, FORESTS).to_json())


def _flatten(
    node: dict[str, Any], nodes: list[tuple[int, float, int]], leaves: list[float]
) -> int:
    """Collect inner nodes (feature, threshold, bits of the leaves to the left) and leaves."""
    if "leaf_value" in node:
        leaves.append(node["leaf_value"])
        return 1 << (len(leaves) - 1)
    left = _flatten(node["left_child"], nodes, leaves)
    nodes.append((node["split_feature"], node["threshold"], left))
    return left | _flatten(node["right_child"], nodes, leaves)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the pages are."""
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled articles")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/bench-extraction"),
        help="folder for packages of manuals, which apt-get fetches (default: %(default)s)",
    )


def read_all(chosen: argparse.Namespace, seed: int = 0) -> tuple[list[Family], list[Family]]:
    """Articles and pages of manuals."""
    others = families(manuals(chosen.work / "packages"), 1, MANUAL, seed)
    return families(read(chosen.data), COPIES, 1.0, seed), others


def main() -> None:
    """Train on all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    trees = train(*read_all(parser.parse_args()))
    plain = {"features": FEATURES, "limits": trees.limits, **trees.forest.to_json()}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in plain.items())
    path = Path(maintext.__file__).with_name("trees.json")
    path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
