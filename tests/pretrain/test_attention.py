"""Attention for short blocks: the same as torch's, wherever it stands in for it."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from pretrain.attention import NAME, SHORT, use_short_attention
from pretrain.model import ModelShape, build_model, load_model


@pytest.fixture
def model():  # type: ignore[no-untyped-def]
    shape = ModelShape(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=64, vocab=300)
    return build_model(shape, context=64, end_of_text=0, seed=3)


def ids(rows: int = 2, tokens: int = 40) -> torch.Tensor:
    return torch.arange(rows * tokens).view(rows, tokens) * 7 % 300


def gradient(model, attention: str, tokens: torch.Tensor, **options) -> torch.Tensor:  # type: ignore[no-untyped-def]
    model.set_attn_implementation(attention)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=tokens, use_cache=False, **options).logits
    logits.float().square().mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def both(model, tokens: torch.Tensor, **options) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[no-untyped-def]
    ours = gradient(model.train(), NAME, tokens, **options)
    return ours, gradient(model, "sdpa", tokens, **options)


def test_gradients_are_those_of_torchs_kernel(model) -> None:  # type: ignore[no-untyped-def]
    ours, torchs = both(model, ids())
    assert 0 < float((ours - torchs).norm() / torchs.norm()) < 0.02, "0: not the short way"


def test_no_token_sees_a_later_one(model) -> None:  # type: ignore[no-untyped-def]
    one, other = ids(1), ids(1)
    other[0, 30:] = 7
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before, after = (model.train()(input_ids=x, use_cache=False).logits for x in (one, other))
    assert torch.equal(before[0, :30], after[0, :30])
    assert not torch.equal(before[0, 30:], after[0, 30:])


def test_padded_and_long_blocks_go_to_torchs_kernel(model) -> None:  # type: ignore[no-untyped-def]
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[0, :5] = 0
    assert torch.equal(*both(model, ids(), attention_mask=mask))
    assert torch.equal(*both(model, ids(1, SHORT + 8)))


def test_evaluation_and_generation_go_to_torchs_kernel(model) -> None:  # type: ignore[no-untyped-def]
    seen = []
    for attention in (NAME, "sdpa"):
        model.eval().set_attn_implementation(attention)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids(), use_cache=False).logits
            said = model.generate(ids(1, 8), max_new_tokens=8, do_sample=False)
        seen.append(torch.cat([logits.float().flatten(), said.float().flatten()]))
    assert torch.equal(*seen)


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
