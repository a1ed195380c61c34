"""What a finished base is asked: pairs that are pairs, a score that knows which is likelier."""

import json
from pathlib import Path

import pytest
import torch

from commonroot.artifact import load_artifact
from pretrain.corpus import source_of
from pretrain.evaluate import EvaluateConfig
from pretrain.exam import OTHERS, accuracy, by_source, log_likelihoods, wilson
from pretrain.model import Compute, load_model, load_tokenizer
from pretrain.pairs import PHENOMENA, Pair, minimal_pairs
from tests.conftest import make_text

FP32 = Compute(threads=1, dtype="fp32")


def test_pairs_differ_repeat_nothing_and_follow_from_the_seed() -> None:
    pairs = minimal_pairs(200)
    assert len(pairs) == len(set(pairs)) == 200 * len(PHENOMENA) >= 3000
    assert all(pair.good != pair.bad for pair in pairs)
    assert all(pair.good[0].isupper() and pair.bad.endswith(".") for pair in pairs)
    assert not {pair.good for pair in pairs} & {pair.bad for pair in pairs}
    assert minimal_pairs(3) == minimal_pairs(3) != minimal_pairs(3, seed=1)
    assert minimal_pairs(3)[:3] == pairs[:3]


@pytest.mark.parametrize("name", ["subject and verb over a phrase", "comparison", "word order"])
def test_a_pair_holds_the_same_words_but_for_the_one_place(name: str) -> None:
    for pair in minimal_pairs(100):
        good, bad = pair.good.lower().split(), pair.bad.lower().split()
        if pair.phenomenon == name:
            assert len(good) == len(bad)
            changed = [one for one, other in zip(good, bad, strict=True) if one != other]
            assert len(changed) == (2 if name == "word order" else 1)


def test_counting_words_gains_nothing_where_pairs_are_balanced() -> None:
    """A model that likes one word form better is right in about half of the pairs."""
    balanced = ("subject and verb", "determiner and noun", "existential there", "filler and gap")
    for name in balanced:
        chosen = [pair for pair in minimal_pairs(300) if pair.phenomenon == name]
        words = {word for pair in chosen for word in pair.good.lower().split()}
        for word in words:
            kept = [p for p in chosen if (word in p.good.lower()) != (word in p.bad.lower())]
            if len(kept) > 60:
                share = sum(f" {word} " in f" {p.good.lower()} " for p in kept) / len(kept)
                assert 0.3 < share < 0.7, (name, word)


def test_log_likelihoods_are_those_of_each_sentence_alone(tiny_run: Path) -> None:
    base = tiny_run / "3-base"
    model, tokenizer = load_model(base), load_tokenizer(base)
    sentences = [make_text(3, 9), "Ba.", make_text(4, 25)]
    together = log_likelihoods(model, tokenizer, sentences, FP32)
    for sentence, seen in zip(sentences, together, strict=True):
        ids = [tokenizer.eos_token_id, *tokenizer(sentence)["input_ids"]]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        expected = float(logits[range(len(ids) - 1), ids[1:]].sum())
        assert seen == pytest.approx(expected, rel=1e-4)


def test_accuracy_counts_ties_half_and_has_an_interval() -> None:
    pairs = [Pair("a", "x", "y")] * 3 + [Pair("b", "x", "y")]
    good, bad = [-1.0, -2.0, -3.0, -1.0], [-2.0, -2.0, -1.0, -9.0]
    found = accuracy(list(zip(pairs, good, bad, strict=True)))
    assert found["a"]["accuracy"] == 0.5
    assert (found["b"]["accuracy"], found["overall"]["accuracy"]) == (1.0, 0.625)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(100, 100)[1] == pytest.approx(1.0)


def test_each_source_has_its_bits_and_the_small_ones_stand_together(tiny_run: Path) -> None:
    base = tiny_run / "3-base"
    texts = {f"host{n}": [make_text(n, 200)] * (4 - n) for n in range(4)}
    found = by_source(
        load_model(base), load_tokenizer(base), texts, 64, EvaluateConfig(sources=2), FP32
    )
    assert list(found) == ["host0", "host1", OTHERS]
    assert [row["documents"] for row in found.values()] == [4, 3, 3]
    assert all(1 < row["bpb"] < 8 and row["bytes_per_token"] > 1 for row in found.values())


def test_a_document_s_source_is_its_host_unless_the_corpus_names_one() -> None:
    assert source_of({"source": "", "url": "https://a.example:80/x"}) == "a.example"
    assert source_of({"source": "dumps", "url": "https://a.example/x"}) == "dumps"
    assert source_of({"url": None}) == source_of({}) == "corpus"


def test_the_base_s_metrics_and_report_tell_it(tiny_run: Path) -> None:
    base = load_artifact(tiny_run / "3-base", "base")
    assert set(base.metrics["sources"]) == {"corpus"}
    asked = [json.loads(line) for line in (base.path / "pairs.jsonl").read_text().splitlines()]
    overall = base.metrics["pairs"]["overall"]
    assert len(asked) == overall["pairs"] == 2 * len(PHENOMENA)
    right = sum(one["good_nats"] > one["bad_nats"] for one in asked)
    assert overall["accuracy"] == pytest.approx(right / len(asked), abs=0.05)
    told = (base.path / "report.html").read_text("utf-8")
    assert "guessing gives 50 %" in told
    assert "held-out text of" in told
