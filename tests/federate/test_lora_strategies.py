from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federate.local import Weights
from federate.lora import adapter as lora
from federate.lora.algebra import factorise, layers_of, product, refactorise
from federate.replies import Update
from federate.strategies.fedavg import FedAvg
from federate.strategies.fedex import FedEx
from federate.strategies.fedsvd import FedSvd
from federate.strategies.ffa import Ffa
from federate.strategies.flexlora import FlexLora
from federate.strategies.naive_lora import NaiveLora
from federate.wire import l2_norm, shapes_of
from pretrain.model import Compute

ONE = Compute(device="cpu", dtype="fp32", threads=1)
ALL = [NaiveLora, FedEx, Ffa, FedSvd, FlexLora]
SCALE = 2.0
SIZES = {"up": (12, 8), "down": (8, 12)}
TOKENS = {"a": 100, "b": 300, "c": 600}


def factors(rank: int = 4, seed: int = 0) -> Weights:
    """As an adapter starts: A random, B zero."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for layer, (outputs, inputs) in SIZES.items():
        weights[f"{layer}.lora_A"] = rng.uniform(-0.3, 0.3, (rank, inputs)).astype(np.float32)
        weights[f"{layer}.lora_B"] = np.zeros((outputs, rank), np.float32)
    return weights


def reply(
    strategy: FedAvg, client: str, number: int = 0, rank: int = 0, size: float = 0.1
) -> Update:
    """What `client` sends in round `number`: a random delta of the wanted shapes."""
    rng = np.random.default_rng([number, ord(client)])
    shapes = strategy.expected(rank)
    delta = {n: rng.normal(0, size, s).astype(np.float32) for n, s in sorted(shapes.items())}
    return Update(client, delta, {}, TOKENS[client], 1.0, 0, rank=rank)


def run_round(strategy: FedAvg, number: int, clients: str = "abc", rank: int = 0) -> list[Update]:
    strategy.begin()
    updates = [reply(strategy, client, number, rank) for client in clients]
    for update in updates:
        strategy.add(update)
    strategy.finish()
    return updates


def change(sent: Weights, layer: str) -> np.ndarray:
    """By how much what is sent changes a layer's weight."""
    return SCALE * product(sent, layer) + sent.get(f"base/{layer}.weight", 0.0)


def mean_change(sent: Weights, updates: list[Update], layer: str) -> np.ndarray:
    """Token-weighted mean of the changes that the clients ended with: what pooling them means."""
    total = sum(update.tokens for update in updates)
    ends = [{**sent, **{n: sent[n] + d for n, d in u.delta.items()}} for u in updates]
    return sum(
        change(end, layer) * update.tokens / total
        for end, update in zip(ends, updates, strict=True)
    )


def same_bits(left: Weights, right: Weights) -> bool:
    return left.keys() == right.keys() and all((left[n] == right[n]).all() for n in left)


@pytest.mark.parametrize("kind", [FedEx, Ffa, FedSvd])
def test_the_mean_of_the_clients_changes_is_met(kind: type[FedAvg]) -> None:
    strategy = kind(factors())
    for number in range(3):
        sent = dict(strategy.send())
        updates = run_round(strategy, number)
        for layer in SIZES:
            np.testing.assert_allclose(
                change(strategy.send(), layer), mean_change(sent, updates, layer), atol=1e-6
            )
        assert strategy.notes()["aggregation_error"] < 1e-6


def test_averaging_the_factors_apart_misses_it_by_the_noted_error() -> None:
    strategy = NaiveLora(factors())
    sent = dict(strategy.send())
    updates = run_round(strategy, 0)
    missed, norm = 0.0, 0.0
    for layer in SIZES:
        exact = mean_change(sent, updates, layer)
        missed += ((change(strategy.send(), layer) - exact) ** 2).sum()
        norm += (exact**2).sum()
    noted = strategy.notes()["aggregation_error"]
    assert noted == pytest.approx(np.sqrt(missed / norm), rel=1e-5)
    assert noted > 0.1
    exact = FedEx(factors())
    run_round(exact, 0)
    assert exact.notes()["naive_error"] == pytest.approx(noted)


def test_naive_is_plain_fedavg() -> None:
    naive, plain = NaiveLora(factors()), FedAvg(factors())
    run_round(naive, 0)
    run_round(plain, 0)
    assert same_bits(naive.weights, plain.weights)


@pytest.mark.parametrize("kind", [FedEx, FlexLora])
def test_half_a_server_step_goes_half_the_way(kind: Callable[..., FedAvg]) -> None:
    strategy = kind(factors(rank=8), server_lr=0.5)
    for number in range(2):
        sent = dict(strategy.send())
        updates = run_round(strategy, number)
        for layer in SIZES:
            half = (change(sent, layer) + mean_change(sent, updates, layer)) / 2
            np.testing.assert_allclose(change(strategy.send(), layer), half, atol=1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_a_restarted_server_goes_on_with_the_same_bits(kind: type[FedAvg]) -> None:
    unbroken, first = kind(factors()), kind(factors())
    for number in range(3):
        run_round(unbroken, number)
    run_round(first, 0)
    kept = {name: value.copy() for name, value in first.weights.items()}
    resumed = kind(factors())
    resumed.weights = kept
    resumed.restore({name: value.copy() for name, value in first.state().items()})
    for number in (1, 2):
        run_round(resumed, number)
    assert same_bits(dict(resumed.send()), dict(unbroken.send()))


@pytest.mark.parametrize("kind", ALL)
def test_the_order_of_arrival_does_not_matter(kind: type[FedAvg]) -> None:
    one, two = kind(factors()), kind(factors())
    for number in range(2):
        run_round(one, number, "abc")
        run_round(two, number, "cab")
    assert same_bits(dict(one.send()), dict(two.send()))


@pytest.mark.parametrize("kind", [Ffa, FedSvd])
def test_a_stays_home(kind: type[FedAvg]) -> None:
    strategy = kind(factors())
    assert strategy.expected().keys() == {"up.lora_B", "down.lora_B"}
    assert strategy.send().keys() == factors().keys()
    assert strategy.rule() == {"name": "freeze", "suffix": ".lora_A"}


def test_ffa_never_moves_a() -> None:
    strategy = Ffa(factors())
    run_round(strategy, 0)
    for name, value in factors().items():
        assert (strategy.weights[name] == value).all() == name.endswith("lora_A")


def test_fedsvd_turns_a_towards_what_was_learnt() -> None:
    strategy = FedSvd(factors())
    for number in range(3):
        for layer in SIZES:
            a_rI = strategy.weights[f"{layer}.lora_A"]
            np.testing.assert_allclose(a_rI @ a_rI.T, np.eye(4), atol=1e-6)
        if number:
            leading = np.linalg.norm(strategy.weights["up.lora_B"], axis=0)
            assert (np.diff(leading) < 0).all()  # singular values, largest first
        before = strategy.weights["up.lora_A"]
        run_round(strategy, number)
        assert (np.abs(strategy.weights["up.lora_A"] - before) > 0.01).any()


def test_fedsvd_starts_in_the_span_of_the_random_a() -> None:
    start = factors()["up.lora_A"]
    a_rI = FedSvd(factors()).weights["up.lora_A"]
    np.testing.assert_allclose(start @ a_rI.T @ a_rI, start, atol=1e-6)


def test_flexlora_sends_each_rank_the_best_of_its_size() -> None:
    strategy = FlexLora(factors(rank=6))
    run_round(strategy, 0)
    assert shapes_of(strategy.send(2)) == strategy.expected(2) == shapes_of(factors(rank=2))
    for layer in SIZES:
        whole = product(strategy.weights, layer)
        u, s, v = np.linalg.svd(whole)
        best = u[:, :2] * s[:2] @ v[:2]
        np.testing.assert_allclose(product(strategy.send(2), layer), best, atol=1e-6)


def test_flexlora_averages_products_of_different_ranks() -> None:
    strategy = FlexLora(factors(rank=8))
    for number in range(2):
        ranks = {"a": 2, "b": 4, "c": 8}
        strategy.begin()
        sent = {client: dict(strategy.send(rank)) for client, rank in ranks.items()}
        updates = [reply(strategy, client, number, rank) for client, rank in ranks.items()]
        for update in updates:
            strategy.add(update)
        strategy.finish()
        for layer in SIZES:
            ends = [mean_change(sent[u.client], [u], layer) * u.tokens / 1000 for u in updates]
            np.testing.assert_allclose(change(strategy.send(), layer), sum(ends), atol=1e-6)


def test_flexlora_notes_what_the_highest_rank_cannot_hold() -> None:
    strategy = FlexLora(factors(rank=2))
    sent = dict(strategy.send())
    updates = run_round(strategy, 0)
    missed = norm = 0.0
    for layer in SIZES:
        s = np.linalg.svd(mean_change(sent, updates, layer), compute_uv=False)
        missed, norm = missed + (s[2:] ** 2).sum(), norm + (s**2).sum()
    expected = np.sqrt(missed / norm)
    assert strategy.notes()["aggregation_error"] == pytest.approx(expected, rel=1e-4)


def test_small_clients_forget_nothing_when_changes_are_averaged() -> None:
    kept, pulled = (FlexLora(factors(rank=8), by_change=flag) for flag in (True, False))
    for strategy in (kept, pulled):
        run_round(strategy, 0)
        before = np.linalg.svd(product(strategy.weights, "up"), compute_uv=False)
        for _ in range(3):  # clients of rank 2 that learn nothing
            strategy.begin()
            strategy.add(reply(strategy, "a", 1, rank=2, size=0.0))
            strategy.finish()
        after = np.linalg.svd(product(strategy.weights, "up"), compute_uv=False)
        assert (after[2:] < 1e-6).all() == (strategy is pulled)
        np.testing.assert_allclose(after[:2], before[:2], rtol=1e-5)


@pytest.mark.parametrize("kind", [FedEx, FlexLora])
def test_a_layer_with_one_factor_withheld_is_left_alone(kind: type[FedAvg]) -> None:
    strategy = kind(factors())
    strategy.begin()
    update = reply(strategy, "a")
    del update.delta["up.lora_A"]
    strategy.add(update)
    strategy.finish()
    np.testing.assert_array_equal(change(strategy.send(), "up"), 0)
    assert np.abs(change(strategy.send(), "down")).max() > 0


def test_a_flexlora_step_is_the_norm_of_what_the_products_moved() -> None:
    strategy = FlexLora(factors(rank=8))
    strategy.begin()
    for client in "abc":
        strategy.add(reply(strategy, client))
    norm = strategy.finish()
    moved = {layer: product(strategy.weights, layer) for layer in SIZES}
    assert norm == pytest.approx(l2_norm(moved), rel=1e-5)


def test_factors_of_a_deficient_matrix_go_on_with_the_spare_directions() -> None:
    rng = np.random.default_rng(0)
    w_OI = np.outer(rng.normal(size=9), rng.normal(size=7))
    spare_rI = rng.normal(size=(4, 7))
    a_rI, b_Or = factorise(w_OI, 4, spare_rI)
    noisy_a_rI, _ = factorise(w_OI + rng.normal(0, 1e-15, w_OI.shape), 4, spare_rI)
    np.testing.assert_allclose(b_Or @ a_rI, w_OI, atol=1e-6)
    np.testing.assert_allclose(a_rI @ a_rI.T, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(noisy_a_rI, a_rI, atol=1e-6)
    np.testing.assert_array_equal(b_Or[:, 1:], 0)


def test_signs_are_fixed_where_lapack_leaves_them_open() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        a_rI, b_Or = rng.normal(size=(4, 7)), rng.normal(size=(9, 4))
        for new_a_rI, new_b_Or in (refactorise(a_rI, b_Or), factorise(b_Or @ a_rI, 4, a_rI)):
            largest_r1 = np.abs(new_a_rI).argmax(axis=1, keepdims=True)
            assert (np.take_along_axis(new_a_rI, largest_r1, axis=1) > 0).all()
            np.testing.assert_allclose(new_b_Or @ new_a_rI, b_Or @ a_rI, atol=1e-5)


def test_layers_are_those_with_both_factors() -> None:
    assert layers_of({"x.lora_A": 1, "y.lora_B": 1, "z.lora_B": 1, "z.lora_A": 1}) == ["z"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_clients_learn_together(
    kind: type[FedAvg], tiny_run: Path, text: Callable[[int, int], str]
) -> None:
    """Each client has one of four sentences; the global model comes to know them all."""
    sentences = [text(seed, 27) for seed in range(70, 74)]
    learner = Learner(tiny_run / "3-base", [" ".join([one] * 20) for one in sentences])
    unseen = " ".join(sentences)
    strategy = kind(lora.initial(learner.model, learner.config))
    first = learner.bits_per_byte(strategy, unseen)
    for _ in range(3):
        learner.round(strategy)
    assert learner.bits_per_byte(strategy, unseen) < first - 0.05


class Learner:
    """Clients in this process, without silos."""

    def __init__(self, base: Path, texts: list[str]) -> None:
        import torch

        from pretrain.model import load_model, load_tokenizer, pick_device
        from pretrain.packing import pack

        self.model, self.tokenizer = load_model(base, pick_device(ONE)), load_tokenizer(base)
        with torch.no_grad():  # hardly trained, its frozen output layer is too flat to learn by
            self.model.get_input_embeddings().weight.mul_(8)
        self.base = {n: v.detach().numpy().copy() for n, v in self.model.named_parameters()}
        self.config = lora.LoraConfig(rank=4)
        lora.attach(self.model, self.config)
        self.blocks = [pack(self.tokenizer, [text], 64) for text in texts]

    def round(self, strategy: FedAvg) -> None:
        from pretrain.train import make_optimizer, schedule, train

        strategy.begin()
        for client, blocks in enumerate(self.blocks):
            sent = strategy.send()
            lora.load(self.model, dict(sent), self.base)
            for name, value in lora.parameters(self.model).items():
                value.requires_grad_(name in strategy.expected())
            batches = [blocks.batch(client, step, 4) for step in range(6)]
            optimizer = make_optimizer(self.model, 0.0)
            lr = schedule(0.05, len(batches), 1, 0.0)
            steps = list(train(self.model, optimizer, batches, lr, ONE))
            trained: dict[str, Any] = lora.read(self.model)
            delta = {name: trained[name] - sent[name] for name in strategy.expected()}
            tokens = sum(step.tokens for step in steps)
            strategy.add(Update(str(client), delta, {}, tokens, steps[-1].loss, 0))
        strategy.finish()

    def bits_per_byte(self, strategy: FedAvg, text: str) -> float:
        from pretrain.evaluate import bits_per_byte, eval_set

        lora.load(self.model, dict(strategy.send()), self.base)
        return bits_per_byte(self.model, eval_set(self.tokenizer, [text], 64), ONE)
