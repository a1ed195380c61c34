"""What a token costs, and the machine's peak."""

import pytest
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig

from pretrain.model import Compute
from pretrain.speed import flops_per_token, peak_flops

LLAMA = LlamaConfig(
    vocab_size=500,
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=96,
    tie_word_embeddings=True,
)
GPT2 = GPT2Config(vocab_size=500, n_embd=64, n_layer=3, n_head=4, n_positions=128)


@pytest.mark.parametrize(
    ("config", "weights_of_a_layer"),
    [(LLAMA, 64 * (64 + 32 + 32 + 64) + 3 * 64 * 96), (GPT2, 64 * 64 * 12)],
)
def test_a_token_costs_its_matrix_products(
    config: PreTrainedConfig, weights_of_a_layer: int
) -> None:
    weights = 3 * weights_of_a_layer + 500 * 64  # the tied embedding multiplies once, as the head
    scores = 3 * 12 * 64 * 128
    assert flops_per_token(config, 128) == 6 * weights + scores


def test_the_peak_is_that_of_the_dtype_in_use() -> None:
    fp32 = peak_flops(Compute(threads=1, dtype="fp32"))
    assert 1e9 < fp32 < 1e13
