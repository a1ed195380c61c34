"""The fused training pass: the stock model's loss and gradients, faster."""

import pytest
import torch

from pretrain.fused import loss
from pretrain.fused.heads import QUERIES
from pretrain.fused.losses import can_fuse, fused_losses
from pretrain.model import ModelShape, build_model
from pretrain.packing import IGNORE
from pretrain.train import stock_losses, token_losses

TOKENS = 2 * QUERIES


def make(family: str):  # type: ignore[no-untyped-def]
    shape = ModelShape(
        family=family, hidden=48, layers=2, heads=6, kv_heads=2, intermediate=80, vocab=300
    )
    model = build_model(shape, context=TOKENS, end_of_text=0, seed=3).train()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms start at one, where a forgotten weight would not show
                parameter.mul_(torch.rand_like(parameter) + 0.5)
    return model


def batch(rows: int = 3, tokens: int = TOKENS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    x_BT, y_BT = torch.randint(0, 300, (2, rows, tokens), generator=generator)
    y_BT[0, 5:9], y_BT[-1, -3:] = IGNORE, IGNORE
    return x_BT, y_BT


def learnt(model, losses, x_BT, y_BT, bf16: bool = False):  # type: ignore[no-untyped-def]
    """Loss and all gradients in one row."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        total = losses(model, x_BT, y_BT)
    (total / 100).backward()
    return total.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


def fused(model, x_BT, y_BT):  # type: ignore[no-untyped-def]
    return fused_losses(model, x_BT, y_BT, IGNORE)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("tokens", [TOKENS, QUERIES + 9])
def test_loss_and_gradients_are_those_of_the_stock_forward(family: str, tokens: int) -> None:
    model, (x_BT, y_BT) = make(family), batch(tokens=tokens)
    loss, gradient = learnt(model, fused, x_BT, y_BT)
    stock_loss, stock_gradient = learnt(model, stock_losses, x_BT, y_BT)
    torch.testing.assert_close(loss, stock_loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, stock_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_in_bf16_it_is_as_near_to_exact_as_the_stock_forward(family: str) -> None:
    model, (x_BT, y_BT) = make(family), batch()
    exact = learnt(model, stock_losses, x_BT, y_BT)
    ours = learnt(model, fused, x_BT, y_BT, bf16=True)
    stock = learnt(model, stock_losses, x_BT, y_BT, bf16=True)
    assert float(ours[0] - exact[0]) / 370 == pytest.approx(0, abs=1e-3)
    errors = [float((row[1] - exact[1]).norm() / exact[1].norm()) for row in (ours, stock)]
    assert errors[0] < 1.2 * errors[1]


def test_one_way_for_all_that_can_take_it() -> None:
    model, (x_BT, y_BT) = make("qwen3"), batch()
    assert can_fuse(model)
    assert torch.equal(token_losses(model, x_BT, y_BT), fused(model, x_BT, y_BT))


def test_evaluation_and_models_with_parts_of_others_go_the_stock_way() -> None:
    model = make("qwen3")
    assert not can_fuse(model.eval())
    model.train()
    model.config.attention_dropout = 0.1
    assert not can_fuse(model)
    model.config.attention_dropout = 0.0
    mlp = model.model.layers[0].mlp
    mlp.up_proj = torch.nn.Sequential(mlp.up_proj)  # as peft wraps it
    assert not can_fuse(model)


def test_weights_in_other_types_go_the_stock_way() -> None:
    assert not can_fuse(make("qwen3").bfloat16())


@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_of_the_head_that_are_added_up_early_are_the_same(
    bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (x_BT, y_BT) = make("qwen3"), batch()
    usual, gradient = learnt(model, fused, x_BT, y_BT, bf16=bf16)
    monkeypatch.setattr(loss, "ROWS", TOKENS // loss.FEW)  # too many for two blocks, not for one
    early, other = learnt(model, fused, x_BT, y_BT, bf16=bf16)
    torch.testing.assert_close(early, usual, rtol=1e-5, atol=0)
    assert (other - gradient).norm() < (1e-2 if bf16 else 1e-5) * gradient.norm()


def test_a_target_without_any_chance_is_no_infinite_loss() -> None:
    model, (x_BT, y_BT) = make("llama"), batch(rows=1)
    with torch.no_grad():
        model.model.norm.weight.mul_(1e4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(fused(model, x_BT, y_BT))
