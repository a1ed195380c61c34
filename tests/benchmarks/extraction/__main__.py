"""F1 and speed of extractors on pages with known truth, one process, in turns of twenty pages.

python -m tests.benchmarks.extraction --data DIR --json [--folds 10] [--passes 3]

Trees are trained on manuals as well, which apt-get fetches once into --work.

Ours is scored out of fold: trees for a page are trained without it and its fold, the limit of
doubt included; so is its speed, since trees ask for advice less often about pages they know.
"""

import argparse
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from ingest.extract import Mode, main_text
from ingest.maintext.forest import Trees
from ingest.maintext.segment import segment
from ingest.tags import parse_page
from tests.benchmarks.extraction import competitors
from tests.benchmarks.extraction.metric import compare, f1, outcome
from tests.benchmarks.extraction.pages import Sample, read
from tests.benchmarks.extraction.train import Family, add_arguments, folds, read_all, train
from tests.benchmarks.record import Result

Extractor = Callable[[int, Sample], str]
TURN = 20
"""Pages that one extractor reads before the next one does: who extracts, extracts many, and after
another extractor's turn the processor's caches are cold for the first of them."""
COMMAND = "python -m tests.benchmarks.extraction --data DIR --json"
GOAL = (
    "fast: >= 200 pages per CPU-second, F1 within .005 of trafilatura fast (lower end of a paired "
    "bootstrap interval); quality: F1 >= .970; both out of fold"
)


def ours(mode: Mode, trees: list[Trees] | None) -> Extractor:
    """Ours in one mode, with a page's own trees or with those shipped."""

    def run(number: int, sample: Sample) -> str:
        own = trees[number] if trees else None
        document = main_text(segment(parse_page(sample.source)), sample.url, mode, own)
        return document.text if document else ""

    return run


def out_of_fold(articles: list[Family], others: list[Family], parts: int, seed: int) -> list[Trees]:
    """For each article trees that were trained without it."""
    trees: dict[int, Trees] = {}
    for part in folds(len(articles), parts, seed):
        rest = [page for number, page in enumerate(articles) if number not in set(part)]
        trees |= dict.fromkeys(part, train(rest, others, seed))
    return [trees[number] for number in range(len(articles))]


def measure(
    extractors: dict[str, Extractor], samples: list[Sample], passes: int
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Texts of all pages and pages per CPU-second; the best pass of each page counts."""
    texts: dict[str, list[str]] = {name: [] for name in extractors}
    seconds = {name: np.full(len(samples), np.inf) for name in extractors}
    for name, extract in extractors.items():
        extract(0, samples[0])  # imports are not extraction
        seconds[name] = np.full(len(samples), np.inf)
    turns = [range(k, min(k + TURN, len(samples))) for k in range(0, len(samples), TURN)]
    for number_of_pass, turn in product(range(passes), turns):
        for name, extract in extractors.items():
            for number in turn:
                began = time.process_time()
                text = extract(number, samples[number])
                spent = time.process_time() - began
                seconds[name][number] = min(seconds[name][number], spent)
                if not number_of_pass:
                    texts[name].append(text)
    return texts, {name: len(samples) / float(spent.sum()) for name, spent in seconds.items()}


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="as in all benchmarks; always done")
    chosen = parser.parse_args()
    samples = read(chosen.data)
    trees = out_of_fold(*read_all(chosen), chosen.folds, chosen.seed)
    extractors: dict[str, Extractor] = {
        "fast": ours("fast", trees), "quality": ours("quality", trees),
        "fast, shipped trees (have seen these pages)": ours("fast", None),
        "quality, shipped trees (have seen these pages)": ours("quality", None),
        **competitors.all_installed(),
    }
    texts, speed = measure(extractors, samples, chosen.passes)
    _keep(samples, texts, speed)


def _keep(samples: list[Sample], texts: dict[str, list[str]], speed: dict[str, float]) -> None:
    outcomes = {
        name: [outcome(sample.truth, text) for sample, text in zip(samples, found, strict=True)]
        for name, found in texts.items()
    }
    baseline = outcomes["trafilatura fast"]
    table: dict[str, Any] = {}
    for name, of_pages in outcomes.items():
        precision, recall, harmonic = (round(value, 4) for value in f1(of_pages))
        against = {key: round(v, 4) for key, v in compare(of_pages, baseline).items()}
        table[name] = {"f1": harmonic, "precision": precision, "recall": recall,
                       "pages_per_cpu_s": round(speed[name], 1),
                       "f1_minus_trafilatura_fast": against}
    fast = table["fast"]
    enough = (
        fast["pages_per_cpu_s"] >= 200 and fast["f1_minus_trafilatura_fast"]["low"] >= -0.005
        and table["quality"]["f1"] >= 0.97
    )
    result = Result("extraction")
    result.add("1", {"pages": len(samples), **table}, GOAL, enough, COMMAND)
    result.keep()


if __name__ == "__main__":
    main()
