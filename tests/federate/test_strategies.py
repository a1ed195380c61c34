"""Strategies on small arrays: against torch's optimizers, the papers' pseudo-code, hand values."""

import gc
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from commonroot.errors import ConfigError
from federate.replies import Update
from federate.strategies import load
from federate.strategies.fedavg import FedAvg
from federate.strategies.fedopt import DiLoCo, FedAdagrad, FedAdam, FedAvgM, FedYogi
from federate.strategies.fedprox import FedProx
from federate.strategies.load import load_strategy
from federate.strategies.local_adam import LocalAdam
from federate.strategies.mime import MimeLite
from federate.strategies.scaffold import Scaffold
from federate.wire import decode_any, encode, fingerprint

THIRD_PARTY = Path(__file__).parents[1] / "third_party"
OURS: dict[str, Any] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedavgm": FedAvgM,
    "diloco": DiLoCo,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "scaffold": Scaffold,
    "local-adam": LocalAdam,
    "mimelite": MimeLite,
}
FLOWERS = ["Bulyan", "FedAdagrad", "FedAdam", "FedAvg", "FedAvgM", "FedMedian", "FedProx"]
FLOWERS += ["FedTrimmedAvg", "FedYogi", "Krum", "MultiKrum", "QFedAvg"]
OPTIONS: dict[str, dict[str, Any]] = {
    "flwr:QFedAvg": {"client_learning_rate": 0.1},
    "flwr:FedAvgM": {"server_momentum": 0.9},
}
STATELESS = {"fedavg", "fedprox", *(f"flwr:{name}" for name in FLOWERS)} - {
    "flwr:FedAdagrad",
    "flwr:FedAdam",
    "flwr:FedAvgM",
    "flwr:FedYogi",
}


@pytest.fixture(autouse=True)
def quick_collections() -> Iterator[None]:
    """Flower's Bulyan and QFedAvg collect garbage for each reply: not over all of torch, then."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours by name, whatever the installed package's entry points were when it was installed."""
    real = load.load_plugin
    monkeypatch.setattr(
        load, "load_plugin", lambda group, name: OURS.get(name) or real(group, name)
    )


def start() -> dict[str, Any]:
    rng = np.random.default_rng(7)
    shapes = {"w": (3, 4), "b": (5,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def update(number: int, client: int, tokens: int = 100, **tensors: Any) -> Update:
    rng = np.random.default_rng([number, client])
    delta = {n: rng.normal(size=w.shape).astype(np.float32) / 10 for n, w in start().items()}
    extra = {n: rng.normal(size=w.shape).astype(np.float32) for n, w in start().items()}
    return Update(f"c{client}", delta | tensors, extra, tokens, 2.5, 0)


def play(strategy: FedAvg, numbers: range, order: list[int] | None = None, **tensors: Any) -> None:
    for number in numbers:
        strategy.begin()
        for client in order or range(5):
            strategy.add(update(number, client, tokens=100 + client, **tensors))
        assert strategy.finish() > 0


def means(numbers: range) -> list[dict[str, Any]]:
    """What `play` hands to `step`: token-weighted means."""
    tokens = 100.0 + np.arange(5)
    return [
        {n: np.average([update(k, c).delta[n] for c in range(5)], 0, tokens) for n in start()}
        for k in numbers
    ]


@pytest.mark.parametrize(("make", "nesterov", "lr"), [(FedAvgM, False, 0.5), (DiLoCo, True, 0.7)])
def test_momentum_is_torchs_sgd_on_the_negated_mean_delta(make: Any, nesterov: bool, lr: float):
    strategy = make(start(), lr, momentum=0.8)
    play(strategy, range(5))
    params = {
        n: torch.nn.Parameter(torch.tensor(w, dtype=torch.double)) for n, w in start().items()
    }
    optimizer = torch.optim.SGD(params.values(), lr=lr, momentum=0.8, nesterov=nesterov)
    for mean in means(range(5)):
        for name, value in params.items():
            value.grad = -torch.tensor(mean[name])
        optimizer.step()
    for name, value in params.items():
        np.testing.assert_allclose(strategy.weights[name], value.detach(), atol=1e-6)


@pytest.mark.parametrize("make", [FedAvgM, DiLoCo])
def test_cooled_momentum_is_gone_when_the_clients_learning_rate_is(make: Any) -> None:
    cooled, warm = make(start(), 1.0, cool=True), make(start(), 1.0)
    for strategy in (cooled, warm):
        play(strategy, range(2))
        strategy.heat = 0.0
    plain = FedAvg({name: value.copy() for name, value in cooled.weights.items()})
    for strategy in (cooled, warm, plain):
        play(strategy, range(2, 3))
    for name, value in plain.weights.items():
        np.testing.assert_allclose(cooled.weights[name], value, atol=1e-6)
        assert np.abs(warm.weights[name] - value).max() > 0.01


def test_diloco_has_the_papers_constants() -> None:
    assert (DiLoCo(start()).server_lr, DiLoCo(start()).momentum) == (0.7, 0.9)


@pytest.mark.parametrize("make", [FedAdagrad, FedAdam, FedYogi])
def test_adaptive_ones_follow_algorithm_2_of_the_paper(make: Any) -> None:
    eta, b1, b2, tau = 0.03, 0.8, 0.95, 1e-2
    rest = {} if make is FedAdagrad else {"beta_2": b2}
    strategy = make(start(), eta, beta_1=b1, tau=tau, **rest)
    play(strategy, range(6))
    for name, w in start().items():
        x, m, v = w.astype(np.float64), 0.0, tau**2
        for mean in means(range(6)):
            d = mean[name]
            m = b1 * m + (1 - b1) * d
            if make is FedAdagrad:
                v = v + d**2
            elif make is FedYogi:
                v = v - (1 - b2) * d**2 * np.sign(v - d**2)
            else:
                v = b2 * v + (1 - b2) * d**2
            x = x + eta * m / (np.sqrt(v) + tau)
        np.testing.assert_allclose(strategy.weights[name], x, atol=2e-6)


@pytest.mark.parametrize("name", [*OURS, *(f"flwr:{name}" for name in FLOWERS)])
def test_a_resumed_run_ends_with_the_same_bits(name: str) -> None:
    def make() -> FedAvg:
        return load_strategy(name, start(), 0.5, OPTIONS.get(name, {}), clients=8)

    whole, first, second, forgetful = make(), make(), make(), make()
    play(whole, range(5))
    play(first, range(3))
    second.weights = decode_any(encode(first.weights))
    second.restore(decode_any(encode(first.state())))
    assert fingerprint(second.extra()) == fingerprint(first.extra())
    assert second.rule() == first.rule()
    assert all(value.dtype == np.float32 for value in first.state().values())
    forgetful.weights = dict(second.weights)
    play(second, range(3, 5))
    play(forgetful, range(3, 5))
    assert fingerprint(second.weights) == fingerprint(whole.weights)
    assert fingerprint(second.state()) == fingerprint(whole.state())
    # What a checkpoint holds is needed: without it the weights, or what clients are sent, differ.
    sent = [fingerprint(s.weights | s.extra()) for s in (forgetful, whole)]
    assert (sent[0] == sent[1]) == (name in {*STATELESS, "mimelite", "local-adam"})


@pytest.mark.parametrize("name", ["fedadam", "scaffold", "flwr:FedAvg", "flwr:FedAdam"])
def test_the_order_of_arrival_does_not_matter(name: str) -> None:
    ends = []
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        strategy = load_strategy(name, start(), None, {}, clients=8)
        play(strategy, range(4), order)
        ends.append(fingerprint(strategy.weights | strategy.extra()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", ["fedavgm", "fedyogi", "mimelite", "flwr:FedMedian"])
def test_a_tensor_that_all_withhold_stays(name: str) -> None:
    strategy = load_strategy(name, start(), None, {}, clients=8)
    play(strategy, range(1))
    before, sent = strategy.weights["b"].copy(), update(1, 0)
    strategy.begin()
    strategy.add(Update("c0", {"w": sent.delta["w"]}, {}, 100, 1.0, 0))
    strategy.finish()
    assert np.array_equal(strategy.weights["b"], before)
    assert strategy.weights["w"].any()


def test_mimelite_sends_the_last_mean_delta_whatever_the_server_lr() -> None:
    strategy = MimeLite(start(), server_lr=0.5)
    play(strategy, range(3))
    for name, value in means(range(3))[-1].items():
        np.testing.assert_allclose(strategy.extra()[name], value, atol=1e-7)


def test_scaffold_moves_its_control_by_the_share_that_took_part() -> None:
    strategy = Scaffold(start(), clients=20)
    play(strategy, range(1))
    mean = np.mean([update(0, client).extra["w"] for client in range(5)], axis=0)
    np.testing.assert_allclose(strategy.extra()["w"], 5 / 20 * mean, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("fedprox", {"my": 0.1}, "strategy fedprox has no option 'my'; its options: mu"),
        ("fedavg", {"mu": 0.1}, "its options: none"),
        ("fedprox", {"mu": -1.0}, "strategy_options.mu: .*greater than or equal to 0"),
        ("fedprox", {"mu": "0.1"}, "strategy_options.mu: .*valid number"),
        ("fedavgm", {"momentum": 1.0}, "strategy_options.momentum: .*less than 1"),
        ("scaffold", {"clients": 3}, "no option 'clients'; its options: none"),
        ("flwr:FedAdam", {"beta1": 0.1}, "its options: beta_1, beta_2, eta, eta_l, tau"),
        ("flwr:FedAvg", {"fraction_train": 0.5}, "its options: none"),
        ("flwr:Krum", {"num_malicious_nodes": "two"}, "num_malicious_nodes: .*valid integer"),
        ("flwr:FedTrimmedAvg", {"beta": 0.9}, "flwr:FedTrimmedAvg: `beta` must be in the range"),
        ("flwr:QFedAvg", {}, "client_learning_rate: Field required"),
        ("flwr:FedXgbBagging", {}, "no strategy flwr:FedXgbBagging that fits: Bulyan, "),
        ("flwr:__name__", {}, "no strategy"),
        ("nonsense", {}, "no commonroot.strategies named 'nonsense'; installed: .*fedavg"),
    ],
)
def test_a_wrong_name_or_option_says_what_there_is(name: str, options: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_strategy(name, start(), None, options, clients=5)


def test_defaults_whole_numbers_and_the_population_reach_the_class() -> None:
    assert load_strategy("diloco", start(), None, {}, 5).server_lr == 0.7
    assert load_strategy("diloco", start(), 0.5, {}, 5).server_lr == 0.5
    assert load_strategy("fedprox", start(), None, {"mu": 1}, 5).rule()["mu"] == 1.0
    assert load_strategy("scaffold", start(), None, {}, 43).clients == 43  # type: ignore[attr-defined]


USE = """
import json, numpy as np
from federate.replies import Update
from federate.strategies.load import load_strategy
strategy = load_strategy("sign-majority", {"w": np.zeros(3, np.float32)}, None, {"size": 0.5}, 3)
strategy.begin()
for client, delta in enumerate([[1, -1, 9], [2, -9, -1], [-9, -1, -1]]):
    delta = {"w": np.array(delta, np.float32)}
    strategy.add(Update(str(client), delta, {}, 10, 1.0, 0))
strategy.finish()
print(json.dumps(strategy.weights["w"].tolist()))
"""


@pytest.mark.slow
def test_a_strategy_of_another_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(THIRD_PARTY, source)
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, *flags, str(source)], check=True, timeout=120)
    run: Callable[..., Any] = subprocess.run
    done = run(
        [sys.executable, "-c", USE],
        env={"PYTHONPATH": str(site), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0.5, -0.5, -0.5]
