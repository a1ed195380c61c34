"""What a silo does for a strategy, alone and together with the server's side, on quadratics."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from federate.replies import Update
from federate.rules import Rule, make_rule
from federate.strategies.fedavg import FedAvg
from federate.strategies.fedprox import FedProx
from federate.strategies.local_adam import LocalAdam
from federate.strategies.mime import MimeLite
from federate.strategies.scaffold import Scaffold

STEPS = 8
# Client i minimises curve_i/2 * |w - goal_i|^2: curves and goals differ, so averages of local
# optima are not the optimum of the average.
CURVE_CD = np.array([[1.0, 4.0, 1.0], [3.0, 1.0, 1.0], [0.5, 2.0, 6.0], [2.0, 0.3, 1.0]])
GOAL_CD = np.array([[0.0, 1.0, 2.0], [4.0, -1.0, 0.0], [-3.0, 2.0, 1.0], [1.0, 5.0, -2.0]])
OPTIMUM_D = (CURVE_CD * GOAL_CD).sum(0) / CURVE_CD.sum(0)
ZERO = {"w": np.zeros(3, np.float32)}

Optimizer = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


def sgd(params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.05)


def primed_adamw(params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW as the silos start it: with second moments, as if it had run for long."""
    params = list(params)
    optimizer = torch.optim.AdamW(params, lr=0.05, betas=(0.9, 0.95), weight_decay=0.0)
    for value in params:
        optimizer.state[value] = {
            "step": torch.tensor(1000.0),
            "exp_avg": torch.zeros_like(value),
            "exp_avg_sq": torch.ones_like(value),
        }
    return optimizer


def parameters(weights: dict[str, Any]) -> dict[str, torch.nn.Parameter]:
    return {n: torch.nn.Parameter(torch.tensor(value)) for n, value in weights.items()}


def work(params: dict[str, Any], rule: Rule, client: int, make: Optimizer, steps: int) -> None:
    optimizer = make(params.values())
    rule.begin(optimizer)
    for _ in range(steps):
        curve, goal = torch.tensor(CURVE_CD[client]), torch.tensor(GOAL_CD[client])
        loss = (curve / 2 * (params["w"] - goal).square()).sum()
        optimizer.zero_grad()
        loss.backward()
        rule.before_step()
        optimizer.step()
        rule.after_step()


def reply(strategy: FedAvg, client: int, kept: dict[int, Any], make: Optimizer) -> Update:
    params = parameters(strategy.send())
    rule = make_rule(strategy.rule(), params, strategy.extra(), kept.get(client, {}), STEPS)
    work(params, rule, client, make, STEPS)
    extra, kept[client] = rule.finish()
    assert {name: value.shape for name, value in extra.items()} == strategy.expected_extra()
    delta = {n: p.detach().numpy() - strategy.weights[n] for n, p in params.items()}
    return Update(str(client), delta, extra, 100, 0.0, 0)


def rounds(strategy: FedAvg, number: int, cohort: int = 4, make: Optimizer = sgd) -> dict[int, Any]:
    """Run rounds; returns what each client keeps."""
    kept: dict[int, Any] = {}
    for index in range(number):
        strategy.begin()
        for client in np.random.default_rng(index).permutation(4)[:cohort]:
            strategy.add(reply(strategy, int(client), kept, make))
        strategy.finish()
    return kept


def distance(strategy: FedAvg) -> float:
    return float(np.abs(strategy.weights["w"] - OPTIMUM_D).max())


@pytest.mark.parametrize("make", [sgd, primed_adamw])
def test_scaffold_finds_the_optimum_that_fedavg_misses(make: Optimizer) -> None:
    plain, scaffold = FedAvg(dict(ZERO)), Scaffold(dict(ZERO), clients=4)
    rounds(plain, 30, make=make)
    rounds(scaffold, 30, make=make)
    assert distance(plain) > 0.05
    assert distance(scaffold) < 1e-3


def test_scaffold_with_two_of_four_clients_a_round() -> None:
    plain, scaffold = FedAvg(dict(ZERO)), Scaffold(dict(ZERO), clients=4)
    rounds(plain, 60, cohort=2)
    kept = rounds(scaffold, 60, cohort=2)
    assert distance(scaffold) < 1e-3 < distance(plain)
    mean = np.mean([state["w"] for state in kept.values()], axis=0)
    np.testing.assert_allclose(scaffold.control["w"], mean, atol=1e-5)


def test_scaffolds_control_follows_the_silos_through_a_void_round() -> None:
    strategy = Scaffold(dict(ZERO), clients=4)
    strategy.begin()
    strategy.add(reply(strategy, 0, {}, sgd))
    saved = copy.deepcopy(strategy).state()
    strategy.begin()
    assert strategy.control["w"].any()
    assert not strategy.weights["w"].any()
    resumed = Scaffold(dict(ZERO), clients=4)
    resumed.restore(saved)
    assert resumed.extra()["w"].tobytes() == strategy.extra()["w"].tobytes()


def test_prox_adds_its_gradient_and_keeps_clients_near() -> None:
    params = parameters({"w": np.array([1.0, 2.0, 3.0], np.float32)})
    rule = make_rule({"name": "prox", "mu": 0.5}, params, {}, {})
    with torch.no_grad():
        params["w"] += torch.tensor([2.0, 0.0, -2.0])
    params["w"].grad = torch.ones(3)
    rule.before_step()
    assert params["w"].grad.tolist() == [2.0, 1.0, 0.0]
    assert rule.finish() == ({}, {})
    norms = [
        float(np.linalg.norm(reply(strategy, 2, {}, sgd).delta["w"]))
        for strategy in (FedAvg(dict(ZERO)), FedProx(dict(ZERO), mu=10.0))
    ]
    assert norms[1] < 0.5 * norms[0]


def test_mime_is_the_papers_recursion_when_the_local_optimizer_is_sgd() -> None:
    """w -= lr * ((1 - beta) * g + beta * m) in each step; m' the mean of these directions."""
    strategy, beta = MimeLite(dict(ZERO), beta=0.7), 0.7
    rounds(strategy, 6)
    w_D, m_D = np.zeros(3), None
    for _ in range(6):
        moved_CD = np.tile(w_D, (4, 1))
        for _ in range(STEPS):
            gradient_CD = CURVE_CD * (moved_CD - GOAL_CD)
            way_CD = gradient_CD if m_D is None else (1 - beta) * gradient_CD + beta * m_D
            moved_CD = moved_CD - 0.05 * way_CD
        m_D, w_D = (w_D - moved_CD.mean(0)) / (0.05 * STEPS), moved_CD.mean(0)
    np.testing.assert_allclose(strategy.weights["w"], w_D, atol=1e-5)


def test_mime_without_momentum_is_fedavg() -> None:
    plain, mime = FedAvg(dict(ZERO)), MimeLite(dict(ZERO), beta=0.0)
    assert mime.rule() == {}
    for strategy in (plain, mime):
        rounds(strategy, 3, make=primed_adamw)
    assert mime.rule() == {"name": "mime", "beta": 0.0}
    np.testing.assert_allclose(mime.weights["w"], plain.weights["w"], atol=1e-6)


def test_a_lone_client_with_kept_moments_does_not_notice_rounds() -> None:
    """Its rounds are one long run of AdamW; with FedAvg each round starts the moments anew."""
    params = parameters(ZERO)
    work(params, Rule(), 2, primed_adamw, 6 * STEPS)
    kept, anew = LocalAdam(dict(ZERO)), FedAvg(dict(ZERO))
    for strategy in (kept, anew):
        for _ in range(6):
            strategy.begin()
            strategy.add(reply(strategy, 2, {}, primed_adamw))
            strategy.finish()
    off = [np.abs(s.weights["w"] - params["w"].detach().numpy()).max() for s in (kept, anew)]
    assert off[0] < 1e-6 < 0.02 < off[1]


def test_moments_are_weighted_means_and_survive_a_restart() -> None:
    strategy = LocalAdam(dict(ZERO), momentum=0.5)
    strategy.begin()
    for tokens, value in ((300, 1.0), (100, 5.0)):
        moments = {name: np.full(3, value, np.float32) for name in MOMENTS}
        strategy.add(Update("a", dict(ZERO), moments, tokens, 0.0, 0))
    strategy.finish()
    assert strategy.extra()["second/w"].tolist() == [2.0, 2.0, 2.0]
    resumed = LocalAdam(dict(ZERO), momentum=0.5)
    resumed.restore(strategy.state())
    assert resumed.state().keys() == strategy.state().keys()
    assert resumed.extra()["first/w"].tolist() == [2.0, 2.0, 2.0]


def test_freeze_trains_one_factor_and_gives_the_other_back() -> None:
    names = ["q.lora_A.weight", "q.lora_B.weight", "v.lora_A", "v.lora_B"]
    params = parameters({name: np.zeros(2, np.float32) for name in names})
    rule = make_rule({"name": "freeze", "suffix": "lora_A"}, params, {}, {})
    assert [params[name].requires_grad for name in names] == [False, True, False, True]
    rule.finish()
    assert all(value.requires_grad for value in params.values())


def test_a_rule_that_took_no_step_leaves_the_silo_as_it_was() -> None:
    kept = {"w": np.ones(3, np.float32)}
    rule = make_rule({"name": "scaffold"}, parameters(ZERO), ZERO, kept)
    assert rule.finish() == ({}, kept)


def test_no_rule_changes_nothing() -> None:
    params = parameters(ZERO)
    rule = make_rule({}, params, {}, {})
    work(params, rule, 0, sgd, 3)
    same = parameters(ZERO)
    work(same, Rule(), 0, sgd, 3)
    assert torch.equal(params["w"], same["w"])
    assert rule.finish() == ({}, {})


BAD = {"w": np.array([0.0, np.nan, 0.0], np.float32)}
MOMENTS = {"first/w": ZERO["w"], "second/w": ZERO["w"]}


@pytest.mark.parametrize(
    ("ask", "down", "kept", "reason"),
    [
        ({"name": "run_my_code"}, {}, {}, "unknown rule 'run_my_code'; known: adam, freeze, mime"),
        ({"name": ["prox"]}, {}, {}, "unknown rule"),
        ({"mu": 0.1}, {}, {}, "unknown rule"),
        ({"name": "prox"}, {}, {}, "mu must be a number"),
        ({"name": "prox", "mu": -1.0}, {}, {}, "at least 0"),
        ({"name": "prox", "mu": float("nan")}, {}, {}, "mu must be a number"),
        ({"name": "prox", "mu": float("inf")}, {}, {}, "mu must be a number"),
        ({"name": "prox", "mu": True}, {}, {}, "mu must be a number"),
        ({"name": "prox", "mu": "0.1"}, {}, {}, "mu must be a number"),
        ({"name": "prox", "mu": 0.1, "then": "x"}, {}, {}, "unknown option 'then'"),
        ({"name": "prox", "mu": 0.1}, ZERO, {}, "takes no tensors, but w came"),
        ({}, ZERO, {}, "takes no tensors, but w came"),
        ({"name": "scaffold"}, {}, {}, "differ in tensor w"),
        ({"name": "scaffold"}, {"w": np.zeros(4, np.float32)}, {}, "another shape"),
        ({"name": "scaffold"}, BAD, {}, "not finite"),
        ({"name": "scaffold"}, ZERO | {"x": ZERO["w"]}, {}, "differ in tensor x"),
        ({"name": "scaffold"}, ZERO, {"v": ZERO["w"]}, "this silo's control variate"),
        ({"name": "mime", "beta": 1.0}, ZERO, {}, "below 1"),
        ({"name": "mime", "beta": 0.5}, {}, {}, "differ in tensor w"),
        ({"name": "adam"}, {"first/w": ZERO["w"]}, {}, "the second moments and the model differ"),
        ({"name": "adam"}, {"first/w": BAD["w"], "second/w": ZERO["w"]}, {}, "not finite"),
        ({"name": "adam"}, {"first/w": ZERO["w"], "second/w": ZERO["w"] - 1}, {}, "below zero"),
        ({"name": "adam"}, MOMENTS | {"third/w": ZERO["w"]}, {}, "moments of other tensors"),
        ({"name": "freeze", "suffix": "lora_A"}, {}, {}, "none or all"),
        ({"name": "freeze", "suffix": "w"}, {}, {}, "none or all"),
        ({"name": "freeze", "suffix": ""}, {}, {}, "suffix must be a name"),
    ],
)
def test_a_silo_refuses_what_it_does_not_know(ask: Any, down: Any, kept: Any, reason: str) -> None:
    params = parameters(ZERO)
    with pytest.raises(ValueError, match=reason) as caught:
        make_rule(ask, params, down, kept, STEPS)
    assert "\n" not in str(caught.value)
    assert params["w"].requires_grad


def test_mime_must_know_the_number_of_steps() -> None:
    with pytest.raises(ValueError, match="number of local steps"):
        make_rule({"name": "mime", "beta": 0.5}, parameters(ZERO), ZERO, {})
