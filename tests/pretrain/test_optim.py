"""Muon: what it does to matrices, and what it leaves to AdamW."""

import copy

import pytest
import torch

from pretrain.model import ModelShape, build_model
from pretrain.optim import Muon, hidden_matrices, orthogonalise


@pytest.fixture
def model():  # type: ignore[no-untyped-def]
    shape = ModelShape(hidden=32, layers=2, heads=2, kv_heads=1, intermediate=64, vocab=300)
    return build_model(shape, context=16, end_of_text=0, seed=1)


def step(model, optimizer) -> None:  # type: ignore[no-untyped-def]
    ids = torch.arange(32).view(2, 16)
    model(input_ids=ids, labels=ids).loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group["lr_ratio"]
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("shape", [(3, 16, 48), (2, 48, 16), (1, 32, 32)])
def test_all_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.tensor([1e-4, 1.0, 1e3])[: shape[0], None, None]
    turned = orthogonalise(matrices).float()
    assert turned.shape == shape
    assert torch.linalg.svdvals(turned).sub(1).abs().max() < 0.35
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    assert float((turned * (left @ right)).sum() / (left @ right).square().sum()) > 0.85


def test_a_gradient_of_zero_moves_nothing() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 8)).float(), torch.zeros(1, 4, 8))


def test_matrices_between_embedding_and_head_are_muons(model) -> None:  # type: ignore[no-untyped-def]
    names = {id(p): name for name, p in model.named_parameters()}
    muons = [names[id(p)] for p in hidden_matrices(model)]
    assert len(muons) == 2 * 7
    assert all("_proj" in name for name in muons)


def test_an_update_has_the_size_of_its_learning_rate(model) -> None:  # type: ignore[no-untyped-def]
    before = copy.deepcopy(model.state_dict())
    step(model, Muon(model, lr_ratio=2.0, weight_decay=0.0))
    moved = {name: value - before[name] for name, value in model.state_dict().items()}
    square = moved["model.layers.0.self_attn.q_proj.weight"]
    assert float(torch.linalg.svdvals(square).median()) == pytest.approx(0.02, rel=0.2)
    seen = moved["model.embed_tokens.weight"][1:16]
    assert float(seen.abs().max()) == pytest.approx(0.01, rel=0.1)


def test_its_state_goes_on_where_it_was(model) -> None:  # type: ignore[no-untyped-def]
    optimizer = Muon(model, 1.0, 0.1)
    step(model, optimizer)
    twin = copy.deepcopy(model)
    other = Muon(twin, 1.0, 0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer)
    step(twin, other)
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, two)
