"""Attention for short blocks: the same as torch's, wherever it stands in for it."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from pretrain.attention import NAME, use_short_attention
from pretrain.model import ModelShape, build_model, load_model


@pytest.fixture
def model():  # type: ignore[no-untyped-def]
    shape = ModelShape(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=64, vocab=300)
    return build_model(shape, context=64, end_of_text=0, seed=3)


def gradient(model, attention: str) -> torch.Tensor:  # type: ignore[no-untyped-def]
    model.set_attn_implementation(attention)
    model.zero_grad()
    ids = torch.arange(2 * 40).view(2, 40) * 7 % 300
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids, use_cache=False).logits.float().square().mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_gradients_are_those_of_torchs_kernel(model) -> None:  # type: ignore[no-untyped-def]
    ours, torchs = gradient(model, NAME), gradient(model, "sdpa")
    assert float((ours - torchs).norm() / torchs.norm()) < 0.02
    assert float((ours - torchs).norm()) > 0, "the short way was not taken"


def test_no_token_sees_a_later_one(model) -> None:  # type: ignore[no-untyped-def]
    ids = torch.arange(40)[None] % 300
    changed = ids.clone()
    changed[0, 30:] = 7
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        one, other = (model(input_ids=x, use_cache=False).logits for x in (ids, changed))
    assert torch.equal(one[0, :30], other[0, :30])
    assert not torch.equal(one[0, 30:], other[0, 30:])


def test_padding_and_cached_generation_are_as_without_it(model) -> None:  # type: ignore[no-untyped-def]
    ids = torch.tensor([[0, 0, 5, 9], [4, 8, 2, 1]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    said = []
    for attention in (NAME, "sdpa"):
        model.set_attn_implementation(attention)
        said.append(model.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False))
    assert torch.equal(*said)


def test_a_checkpoint_carries_no_trace_of_it(model, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"
    assert load_model(tmp_path).config._attn_implementation == NAME


def test_attention_of_another_kind_is_left_alone() -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.config.model_type = "gemma2"
    use_short_attention(model)
    assert model.config._attn_implementation != NAME
