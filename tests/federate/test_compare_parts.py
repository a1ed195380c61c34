"""What the comparison is made of: shares and intervals, re-dealt text, starts, learning rates."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from commonroot.errors import TrainingError
from federate.comparison import intervals
from federate.comparison.arms import Trial
from federate.comparison.from_scratch import curve_config, scratch_bench
from federate.comparison.plain_words import in_words
from federate.comparison.reruns import Reruns, deal
from federate.comparison.stage import CompareConfig
from federate.comparison.tuning import best_of, tune
from federate.comparison.verdict import private_bytes, summarise
from federate.local import LocalSteps
from federate.private_text import Split
from federate.silo import Silo

from .test_compare import rounds


def arms_of(**unions: float) -> dict[str, Any]:
    """Made-up results of one seed: two clients around each arm's mean."""
    arms = {}
    for arm, union in unions.items():
        clients = {"a": union - 0.1, "b": union + 0.1}
        arms[arm] = {
            "own_bpb": union,
            "union_bpb": union,
            "public_bpb": 2.0,
            "tokens": 100,
            "clients": clients,
            "tests": clients,
            "sample": "text",
        }
    return {"arms": arms, "curves": {}, "unseen": {}}


def seeds_of(*locals_only: float) -> list[dict[str, Any]]:
    return [
        arms_of(base=2.5, local_only=one, centralised=2.0, federated=2.06, personalised=1.9)
        for one in locals_only
    ]


BYTES = dict.fromkeys(("up", "down", "final", "private_raw", "private_zstd"), 10**6)
ROUNDS = {"rounds": 3, "private_tokens": 10}


def test_a_ratio_is_the_mean_over_seeds_with_its_interval() -> None:
    metrics, _ = summarise(seeds_of(2.20, 2.18, 2.22), BYTES)
    shares = [0.14 / 0.20, 0.12 / 0.18, 0.16 / 0.22]
    found = metrics["ratios"]["gap_closed_matched_tokens"]
    assert found["values"] == pytest.approx(shares)
    half = 4.303 * np.std(shares, ddof=1) / np.sqrt(3)
    assert [found["low"], found["high"]] == pytest.approx(
        [np.mean(shares) - half, np.mean(shares) + half]
    )
    assert metrics["gap_closed_matched_tokens"] == pytest.approx(np.mean(shares))
    assert "closes 70% of the gap" in in_words(metrics, ROUNDS)
    assert metrics["personalised_beats_local"] == 2


def test_no_ratio_where_the_gap_is_below_twice_the_seed_spread() -> None:
    metrics, _ = summarise(seeds_of(2.20, 2.02, 2.08), BYTES)  # gap 0.10, spread 0.09
    assert metrics["gap_closed_matched_tokens"] is None
    assert metrics["ratios"]["gap_closed_matched_tokens"] is None
    assert metrics["share_of_central_gain"] == pytest.approx(0.88)
    words = in_words(metrics, ROUNDS)
    assert "too small to say" in words
    assert "of the gap between training alone and pooling" not in words.replace("The gap", "")


def test_no_ratio_without_a_gap_even_for_one_seed() -> None:
    assert summarise(seeds_of(2.005), BYTES)[0]["gap_closed_matched_tokens"] is None
    assert summarise(seeds_of(1.9), BYTES)[0]["gap_closed_matched_tokens"] is None
    assert summarise(seeds_of(2.2), BYTES)[0]["gap_closed_matched_tokens"] == pytest.approx(0.7)


def test_intervals_over_seeds_and_over_clients() -> None:
    found = intervals.interval([1.0, 2.0, 3.0])
    assert (found["mean"], found["std"]) == (2.0, 1.0)
    assert found["high"] - found["mean"] == pytest.approx(4.303 / np.sqrt(3))
    assert intervals.interval([1.0])["low"] is None
    column = list(np.random.default_rng(0).normal(2, 0.5, 40))
    limits = intervals.bootstrap({"x": column}, lambda means: means["x"])
    assert limits is not None
    expected = 1.96 * np.std(column, ddof=1) / np.sqrt(40)
    assert limits[1] - limits[0] == pytest.approx(2 * expected, rel=0.15)
    assert intervals.bootstrap({"x": column}, lambda means: None) is None
    assert intervals.worst_decile([float(n) for n in range(20)]) == 18.5


@pytest.fixture
def clients(make_silo: Callable[..., Silo]) -> dict[str, Silo]:
    silos = {name: make_silo(name, seed) for seed, name in enumerate("abc", start=60)}
    for name, silo in silos.items():
        split = silo.split
        pieces = [piece[at : at + 100] for piece in split.train for at in range(0, 400, 100)]
        marked = [f"{name}-marker {piece}" for piece in pieces]
        silo.split = Split(marked, split.validation, split.test)
    silos["c"].split = Split(silos["c"].split.train * 3, *_sides(silos["c"]))
    return silos


def _sides(silo: Silo) -> tuple[list[Any], list[Any]]:
    return silo.split.validation, silo.split.test


def test_the_iid_control_pools_and_keeps_the_sizes(clients: dict[str, Silo]) -> None:
    dealt = deal(clients, ["a", "b", "c"], seed=0)
    before = Counter(text for silo in clients.values() for text in silo.split.train)
    assert Counter(text for texts in dealt.values() for text in texts) == before
    for name, texts in dealt.items():
        held = "".join(map(str, texts))
        assert all(f"{other}-marker" in held for other in "abc")
        size = sum(map(len, map(str, clients[name].split.train)))
        assert sum(map(len, texts)) == pytest.approx(size, abs=150)
    assert deal(clients, ["a", "b", "c"], seed=0) == dealt
    assert deal(clients, ["a", "b", "c"], seed=1) != dealt
    assert deal(clients, ["a"], 0)["a"] != clients["a"].split.train


def test_everyone_is_dealt_a_record() -> None:
    silos: Any = {
        name: SimpleNamespace(split=Split([f"{name} {n}" * size for n in range(count)], [], []))
        for name, size, count in (("a", 1, 1), ("b", 400, 3), ("c", 1, 1), ("d", 1, 1))
    }
    for seed in range(20):
        assert all(deal(silos, list(silos), seed).values())


def test_silos_of_the_control_train_on_what_they_were_dealt(
    clients: dict[str, Silo], tmp_path: Path
) -> None:
    dealt = deal(clients, ["a", "b"], seed=0)
    again = Reruns(tmp_path / "reruns", tmp_path / "homes", clients)
    doubles = again._doubles("iid-0", clients["a"].bench, dealt)
    tokenizer = clients["a"].bench.tokenizer
    text = tokenizer.decode(doubles["b"].blocks.stream_N)
    assert "a-marker" in text
    assert "a-marker" not in tokenizer.decode(doubles["c"].blocks.stream_N)
    assert doubles["b"].split.validation == clients["b"].split.validation
    assert doubles["b"].home == tmp_path / "homes" / "iid-0" / "b"
    assert not [path for path in tmp_path.joinpath("homes").rglob("*") if path.is_file()]


def test_from_scratch_means_other_weights_and_no_public_moments(bench: Any, tmp_path: Path) -> None:
    scratch = scratch_bench(bench, tmp_path / "base", seed=0)
    shapes = {name: value.shape for name, value in scratch.base_weights.items()}
    assert shapes == {name: value.shape for name, value in bench.base_weights.items()}
    assert scratch.fingerprint != bench.fingerprint
    assert bench.moments is not None
    assert scratch.moments is None
    assert scratch.replay is not None
    again = scratch_bench(bench, tmp_path / "other", seed=0)
    assert again.fingerprint == scratch.fingerprint


def test_the_curve_is_measured_at_every_stop() -> None:
    config = rounds(evaluate_every=4, lora={"rank": 2}, strategy="flexlora")
    curve = curve_config(config, (10, 20, 50), 1e-2)
    assert curve.rounds == 50
    assert all(stop % curve.evaluate_every == 0 for stop in (10, 20, 50))
    assert 1 < curve.evaluate_every <= 4
    assert (curve.local.lr, curve.lora.rank, curve.strategy) == (1e-2, 0, "fedavg")


def test_other_arms_take_the_steps_of_the_rounds_with_the_usual_adamw() -> None:
    local = {"replay": 0.5, "svrg": 2, "beta_1": 0.97, "beta_2": 0.99}
    trial: Any = SimpleNamespace(rounds=rounds(local=local), section=CompareConfig(decay=0.25))
    assert Trial.how(trial, 7, 3, 1e-3) == LocalSteps(
        steps=7, batch=3, lr=1e-3, decay=0.25, replay=0.5, svrg=2
    )


def _no_memory(name: str, make: Callable[[], Any]) -> Any:
    del name
    return make()


def test_tuning_takes_the_lowest_and_passes_over_what_diverged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def score(lr: float) -> float:
        if lr > 1e-2:
            raise TrainingError("loss inf is not finite")
        return abs(lr - 4e-3)

    table = tune({"centralised": score}, (1e-3, 4e-3, 2e-2), _no_memory)
    assert table["centralised"]["best"] == 4e-3
    assert table["centralised"]["tried"][-1] == [2e-2, None]
    assert "left out" in capsys.readouterr().err
    with pytest.raises(TrainingError, match=r"compare\.grid"):
        tune({"centralised": score}, (2e-2,), _no_memory)
    assert best_of([[1e-3, None]]) is None


def test_private_bytes_count_all_sides() -> None:
    split = Split(["ab" * 500], ["ü" * 10], ["x"])
    found = private_bytes([split, split])
    assert found["private_raw"] == 2 * (1000 + 20 + 1 + 2)
    assert found["private_zstd"] < 300
