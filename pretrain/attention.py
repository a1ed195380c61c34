"""Causal attention for training on short blocks in bf16 on a CPU: two matrix products are faster.

torch's fused kernel is made for long sequences: at 256 tokens and bf16 it takes 38 % of a training
step, plain products take 20 % (docs/decisions.md). Scores are rounded to bf16 here, as in
transformers' eager attention, but not in the fused kernel. So only training comes this way, while
evaluation and generation go to the kernel that every other user of the checkpoint has.

Shape suffixes: B blocks, H query heads, G key-value heads, T tokens, D width of a head.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["attend", "use_short_attention"]

NAME = "commonroot-short"
MODELS = ("llama", "qwen3")
"""Model types whose attention is plain causal softmax over all earlier tokens."""
SHORT = 512
"""Tokens up to which the whole table of scores is worth computing."""


def use_short_attention(model: "PreTrainedModel") -> None:
    """Let `model` attend with `attend`, if its attention is of the plain kind."""
    if model.config.model_type not in MODELS or getattr(model.config, "use_sliding_window", False):
        return
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attend(
    module: "torch.nn.Module",
    query_BHTD: "torch.Tensor",
    key_BGTD: "torch.Tensor",
    value_BGTD: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Attention's output (B, T, H, D) and no weights, as transformers asks for it."""
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    B, H, T, D = query_BHTD.shape
    plain = module.training and attention_mask is None and not dropout and key_BGTD.shape[2] == T
    # Under autocast only the values are bf16 already: norms and rotations leave fp32.
    cheap = value_BGTD.device.type == "cpu" and value_BGTD.dtype == torch.bfloat16 and T <= SHORT
    if not (plain and cheap):
        return sdpa_attention_forward(
            module,
            query_BHTD,
            key_BGTD,
            value_BGTD,
            attention_mask,
            scaling=scaling,
            dropout=dropout,
            **options,
        )
    G = key_BGTD.shape[1]
    rows = H // G * T  # the query heads of a key-value head, one below the other
    scores = torch.matmul(query_BHTD.reshape(B, G, rows, D), key_BGTD.transpose(-1, -2))
    ahead_TT = torch.full((T, T), float("-inf"), dtype=scores.dtype).triu(1)
    scale = D**-0.5 if scaling is None else scaling
    weights_BHTT = torch.softmax(scores.view(B, H, T, T) * scale + ahead_TT, -1)
    mixed = torch.matmul(weights_BHTT.view(B, G, rows, T), value_BGTD)
    return mixed.view(B, H, T, D).transpose(1, 2), None
