"""Flower's own strategies, named in the config as flwr:Name."""

from typing import Any

import numpy as np
import pytest

from commonroot.errors import RoundError
from federate.replies import Update
from federate.strategies.fedavg import FedAvg
from federate.strategies.fedprox import FedProx
from federate.strategies.load import load_strategy
from tests.federate.test_strategies import means, play, start


def outlier(strategy: FedAvg) -> Any:
    strategy.begin()
    for client, size in enumerate([0.01, 0.02, 0.03, 0.02, 1e6]):
        delta = {n: np.full(w.shape, size, np.float32) for n, w in start().items()}
        strategy.add(Update(f"c{client}", delta, {}, 100, 1.0, 0))
    strategy.finish()
    return strategy.weights["w"] - start()["w"]


def test_fedmedian_and_krum_ignore_one_huge_outlier_and_fedavg_does_not() -> None:
    def change(name: str, **options: Any) -> Any:
        return outlier(load_strategy(name, start(), None, options, clients=5))

    np.testing.assert_allclose(change("flwr:FedMedian"), 0.02, atol=1e-6)
    assert np.abs(change("flwr:Krum", num_malicious_nodes=1)).max() < 0.04
    assert np.abs(change("flwr:FedTrimmedAvg", beta=0.2)).max() < 0.04
    assert change("flwr:FedAvg").min() > 1e5


def test_flowers_fedavg_is_ours_and_server_lr_scales_it() -> None:
    for lr in (1.0, 0.3):
        ours, theirs = FedAvg(start(), lr), load_strategy("flwr:FedAvg", start(), lr, {}, 5)
        play(ours, range(3))
        play(theirs, range(3))
        np.testing.assert_allclose(theirs.weights["w"], ours.weights["w"], atol=1e-6)


def test_flowers_fedavgm_goes_on_from_weights_that_were_rolled_back() -> None:
    strategy = load_strategy("flwr:FedAvgM", start(), None, {"server_learning_rate": 0.5}, 5)
    play(strategy, range(2))
    strategy.weights = start()
    play(strategy, range(2, 3))
    change = strategy.weights["w"] - start()["w"]
    np.testing.assert_allclose(change, 0.5 * means(range(2, 3))[0]["w"], atol=1e-6)


def test_flowers_fedprox_becomes_our_client_side_rule() -> None:
    strategy = load_strategy("flwr:FedProx", start(), None, {"proximal_mu": 0.25}, 5)
    assert strategy.rule() == {"name": "prox", "mu": 0.25} == FedProx(start(), mu=0.25).rule()


def test_a_flower_strategy_that_cannot_aggregate_says_so() -> None:
    strategy: Any = load_strategy("flwr:FedTrimmedAvg", start(), None, {"beta": 0.4}, 5)
    strategy._flower.beta = 0.9
    with pytest.raises(RoundError, match="flwr:FedTrimmedAvg cannot aggregate: Trimmed mean"):
        play(strategy, range(1))
    strategy = load_strategy("flwr:FedAvgM", start(), None, {"server_momentum": 0.9}, 5)
    with np.errstate(all="ignore"), pytest.raises(RoundError, match="w came out not finite"):
        play(strategy, range(2), w=np.full((3, 4), 3e38, np.float32))
