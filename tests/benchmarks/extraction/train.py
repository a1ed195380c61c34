"""Train the trees of `ingest.maintext`: python -m tests.benchmarks.extraction.train --data DIR

Writes ingest/maintext/alone.json and advised.json. Same pages, same bytes.
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
from ingest.decode import utf8
from ingest.extract import trafilatura_text
from ingest.maintext.choose import doubt
from ingest.maintext.features import FEATURES, features
from ingest.maintext.forest import LEAVES, Forest, Trees
from ingest.maintext.segment import Page, segment
from ingest.maintext.votes import VOTES, votes
from tests.benchmarks.extraction.pages import Sample, read

__all__ = ["Labelled", "folds", "label", "train"]

WORD = re.compile(r"\w+")
TREES, INNER = 150, 3
ASKED = {False: 0.2, True: 0.15}
"""Share of pages left to the other extractor: by trees alone, by trees with its advice."""
SETTINGS = {
    "objective": "cross_entropy", "learning_rate": 0.08, "num_leaves": LEAVES,
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
    advice: Any
    true: Any
    weight: Any


def label(sample: Sample) -> Labelled:
    """Which blocks belong to the truth, by alignment of all words of page and truth."""
    page = segment(utf8(sample.html))
    words = [WORD.findall(text) for text in page.texts]
    owner = [block for block, own in enumerate(words) for _ in own]
    size = np.array([len(own) for own in words], float)
    hits = np.zeros(len(words))
    matcher = difflib.SequenceMatcher(
        None, [word for own in words for word in own], WORD.findall(sample.truth), autojunk=False
    )
    for match in matcher.get_matching_blocks():
        for block in owner[match.a : match.a + match.size]:
            hits[block] += match.size >= min(4, size[block])
    wanted = max(hits.sum(), 30.0)
    return Labelled(
        page, features(page), votes(page.texts, trafilatura_text(sample.source, sample.url)),
        hits / np.maximum(size, 1), (np.minimum(size, wanted / 2) + 1) / wanted,
    )


def folds(count: int, parts: int, seed: int) -> list[list[int]]:
    """Page numbers divided at random."""
    order = np.random.default_rng(seed).permutation(count)
    return [order[part::parts].tolist() for part in range(parts)]


def train(pages: list[Labelled], seed: int = 0) -> Trees:
    """Fit both forests; their limits leave `ASKED` of unseen pages to the other extractor."""
    doubts: dict[bool, list[float]] = {False: [], True: []}
    for part in folds(len(pages), INNER, seed):
        rest = [page for number, page in enumerate(pages) if number not in set(part)]
        for advised, seen in doubts.items():
            trees = _fit(rest, advised)
            seen += [doubt(pages[k].page.texts, trees(_known(pages[k], advised))) for k in part]
    limits = {key: float(np.quantile(seen, 1 - ASKED[key])) for key, seen in doubts.items()}
    return Trees(_fit(pages, False), _fit(pages, True), limits[False], limits[True])


def _fit(pages: list[Labelled], advised: bool) -> Forest:
    import lightgbm

    x = np.concatenate([_known(page, advised).T for page in pages])
    y = np.concatenate([page.true for page in pages])
    weight = np.concatenate([page.weight for page in pages])
    data = lightgbm.Dataset(x, y, weight=weight / weight.mean())
    return _forest(lightgbm.train(SETTINGS, data, TREES).dump_model())


def _known(page: Labelled, advised: bool) -> Any:
    return np.vstack([page.known, page.advice]) if advised else page.known


def _forest(model: dict[str, Any]) -> Forest:
    """LightGBM's trees in the form that is shipped."""
    shape = (LEAVES - 1, len(model["tree_info"]))
    feature, threshold = np.zeros(shape, np.int64), np.full(shape, np.inf, np.float32)
    mask, leaf = np.full(shape, 255, np.uint8), np.zeros((shape[1], LEAVES))
    for number, tree in enumerate(model["tree_info"]):
        nodes: list[tuple[int, float, int]] = []
        leaves: list[float] = []
        _flatten(tree["tree_structure"], nodes, leaves)
        leaf[number, : len(leaves)] = leaves
        for row, (column, limit, left) in enumerate(nodes):
            feature[row, number], threshold[row, number] = column, limit
            mask[row, number] = 255 & ~left
    return Forest.from_json(Forest(feature, threshold, mask, leaf).to_json())


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


def _write(name: str, trees: Forest, limit: float, names: list[str]) -> None:
    plain = {"features": names, "doubt": round(limit, 4), **trees.to_json()}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in plain.items())
    path = Path(maintext.__file__).with_name(f"{name}.json")
    path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def main() -> None:
    """Train on all pages of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    trained = train([label(sample) for sample in read(parser.parse_args().data)])
    _write("alone", trained.alone, trained.alone_limit, FEATURES)
    _write("advised", trained.advised, trained.advised_limit, [*FEATURES, *VOTES])


if __name__ == "__main__":
    main()
