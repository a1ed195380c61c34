"""The training loss of a plain model, and which models are plain."""

from typing import TYPE_CHECKING, Any

import torch

from pretrain.fused.attention import Attention
from pretrain.fused.compiled import kernels
from pretrain.fused.frame import Frame, Tensor
from pretrain.fused.loss import Loss
from pretrain.fused.mlp import Mlp

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["can_fuse", "fused_losses"]

MODELS = ("llama", "qwen3")


def can_fuse(model: "PreTrainedModel") -> bool:
    """Whether `fused_losses` computes what the stock forward of `model` would in training."""
    config = getattr(model, "config", None)
    if config is None or config.model_type not in MODELS or not model.training:
        return False
    plain = (
        config.hidden_act == "silu"
        and not config.attention_bias
        and not getattr(config, "mlp_bias", False)
        and not config.attention_dropout
        and not getattr(config, "use_sliding_window", False)
    )
    weights = list(model.parameters())
    return plain and all(
        type(weight) is torch.nn.Parameter and weight.device.type == "cpu" for weight in weights
    ) and all(
        type(module) is torch.nn.Linear
        for name, module in model.named_modules()
        if name.endswith(("_proj", "lm_head"))
    )


def fused_losses(model: "PreTrainedModel", x_BT: Tensor, y_BT: Tensor, ignore: int) -> Tensor:
    """Summed negative log-likelihood (nats) of the targets that are not `ignore`.

    Under autocast the products are in its type, and the sum is then exact to about 1e-4 a token.
    """
    inner: Any = model.model
    frame = _frame(model, x_BT)
    attend: Any = Attention.apply
    think: Any = Mlp.apply
    loss: Any = Loss.apply
    with torch.autocast("cpu", enabled=False):  # types are chosen here, product by product
        hidden = inner.embed_tokens(x_BT).flatten(0, 1)
        for layer in inner.layers:
            attention, mlp = layer.self_attn, layer.mlp
            hidden = attend(
                hidden,
                layer.input_layernorm.weight,
                attention.q_proj.weight,
                attention.k_proj.weight,
                attention.v_proj.weight,
                attention.o_proj.weight,
                attention.q_norm.weight if hasattr(attention, "q_norm") else None,
                attention.k_norm.weight if hasattr(attention, "k_norm") else None,
                frame,
            )
            hidden = think(
                hidden,
                layer.post_attention_layernorm.weight,
                mlp.gate_proj.weight,
                mlp.up_proj.weight,
                mlp.down_proj.weight,
                frame,
            )
        total: Tensor = loss(
            hidden, inner.norm.weight, model.lm_head.weight, y_BT.flatten(), ignore, frame
        )
    return total


def _frame(model: "PreTrainedModel", x_BT: Tensor) -> Frame:
    config: Any = model.config
    (B, T), H, G = x_BT.shape, config.num_attention_heads, config.num_key_value_heads
    D = getattr(config, "head_dim", None) or config.hidden_size // H
    inner: Any = model.model
    with torch.no_grad():
        cos, sin = inner.rotary_emb(inner.norm.weight, torch.arange(T)[None])
    # Queries come out divided by the root of D, as attention wants them.
    scale_A = torch.cat([torch.full((H * D // 2,), D**-0.5), torch.ones(G * D // 2)])
    halves = [table[0, :, : D // 2].float().repeat(1, H + G) * scale_A for table in (cos, sin)]
    on = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if on else torch.float32
    compiled = kernels() if dtype == torch.bfloat16 else None
    return Frame(B, T, H, G, D, config.rms_norm_eps, dtype, halves[0], halves[1], compiled)
