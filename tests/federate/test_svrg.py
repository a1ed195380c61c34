"""Variance-reduced steps: what the correction is, and what a run with it gives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from federate.local import LocalSteps, Workbench
from federate.svrg import Anchored
from pretrain.packing import Int64
from pretrain.train import gradients
from tests.conftest import make_text
from tests.federate.algorithm_runs import federate

Batch = tuple[Int64, Int64]


@pytest.fixture(autouse=True)
def whole(bench: Workbench) -> Iterator[None]:
    """The bench is warm and shared: it starts and ends with the base on it."""
    bench.load(bench.start())
    yield
    bench.load(bench.start())


def batches(bench: Workbench, number: int) -> list[Batch]:
    data = bench.pack([make_text(seed, 300) for seed in range(8)])
    return [data.batch(0, place, 2) for place in range(number)]


def gradient(bench: Workbench) -> torch.Tensor:
    grads = [p.grad.flatten() for p in bench.model.parameters() if p.grad is not None]
    bench.model.zero_grad(set_to_none=True)
    return torch.cat(grads)


def plain(bench: Workbench, batch: Batch) -> torch.Tensor:
    gradients(bench.model, *batch, bench.compute, float("inf"))
    return gradient(bench)


def clipped(value: torch.Tensor) -> torch.Tensor:
    return value / max(1.0, float(value.norm()))


def test_at_the_anchor_every_batch_has_the_windows_mean_gradient(bench: Workbench) -> None:
    window = batches(bench, 4)
    mean = clipped(torch.stack([plain(bench, batch) for batch in window]).mean(0))
    anchored = Anchored(bench.model, 4, bench.compute)
    for batch in anchored.ahead(window):
        step = anchored.gradients(bench.model, *batch, bench.compute)
        torch.testing.assert_close(gradient(bench), mean, rtol=1e-3, atol=1e-6)
        assert step.tokens == int((batch[1] >= 0).sum())


def test_away_from_the_anchor_the_batch_says_what_has_changed(bench: Workbench) -> None:
    window = batches(bench, 3)
    at = [plain(bench, batch) for batch in window]
    anchored = Anchored(bench.model, 3, bench.compute)
    ready = list(anchored.ahead(window))
    with torch.no_grad():
        for parameter in bench.model.parameters():
            parameter.mul_(1.01)
    for batch, anchor in zip(ready, at, strict=True):
        wanted = clipped(plain(bench, batch) - anchor + torch.stack(at).mean(0))
        anchored.gradients(bench.model, *batch, bench.compute)
        torch.testing.assert_close(gradient(bench), wanted, rtol=1e-3, atol=1e-6)


def test_a_window_of_one_batch_is_plain_training(bench: Workbench) -> None:
    data = bench.pack([make_text(seed, 300) for seed in range(8)])
    ends, counted = [], []
    for svrg in (0, 1, 3):
        bench.load(bench.start())
        how = LocalSteps(steps=5, batch=2, lr=2e-3, svrg=svrg)
        counted.append(sum(step.tokens for step in bench.train(data, how, seed=1)))
        ends.append(bench.read())
    assert len(set(counted)) == 1
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, atol=2e-5)
    assert any(np.abs(ends[2][name] - ends[0][name]).max() > 1e-3 for name in ends[0])


@pytest.mark.parametrize("changes", [{}, {"strategy": "local-adam"}, {"strategy": "scaffold"}])
def test_runs_with_it_are_the_same_to_the_bit(
    tmp_path: Path, bench: Workbench, changes: dict[str, Any]
) -> None:
    local = LocalSteps(steps=2, batch=2, lr=2e-3, svrg=2)
    first, second = (
        federate(tmp_path / name, bench, local=local, **changes) for name in ("a", "b")
    )
    assert first.digest == second.digest
    assert first.digest != federate(tmp_path / "c", bench, **changes).digest


def test_adamw_remembers_as_long_as_asked(bench: Workbench) -> None:
    data = bench.pack([make_text(seed, 300) for seed in range(8)])
    how = LocalSteps(steps=4, batch=2, lr=1e-3, beta_1=0.5, beta_2=0.999)
    start = [value.detach().clone() for value in bench.model.parameters()]
    optimizer = torch.optim.AdamW(start, lr=1e-3, betas=(0.5, 0.999), weight_decay=0.0, fused=True)
    for value, named in zip(start, bench.model.named_parameters(), strict=True):
        assert bench.moments is not None
        optimizer.state[value] = {
            "step": torch.tensor(1000.0),
            "exp_avg": torch.zeros_like(value),
            "exp_avg_sq": bench.moments[named[0]].clone(),
        }
    bench.train(data, how, seed=1)
    trained = [value.detach().clone() for value in bench.model.parameters()]
    bench.load(bench.start())
    for number in range(how.steps):
        gradients(bench.model, *data.batch(1, number, 2), bench.compute)
        for value, parameter in zip(start, bench.model.parameters(), strict=True):
            value.grad = parameter.grad
        optimizer.step()
        bench.model.zero_grad(set_to_none=True)
        names = [name for name, _ in bench.model.named_parameters()]
        bench.load({name: value.numpy() for name, value in zip(names, start, strict=True)})
    for value, ours in zip(start, trained, strict=True):
        torch.testing.assert_close(value, ours, rtol=1e-4, atol=1e-6)
