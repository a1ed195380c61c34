"""The training loss of a plain model, and which models are plain."""

from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from pretrain.fused.compiled import kernels
from pretrain.fused.frame import Frame, Tensor
from pretrain.fused.learn import Batch, Pass

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["can_fuse", "fused_losses"]

MODELS = ("llama", "qwen3")
_TURNS: "WeakKeyDictionary[torch.nn.Module, dict[int, tuple[Tensor, Tensor]]]"
_TURNS = WeakKeyDictionary()
"""Of a rotary embedding, by tokens: the same at every step."""


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
    if not plain:
        return False
    modules = list(chain(*_parts(model)))
    return all(
        type(module) is torch.nn.Linear
        for module in modules
        if not isinstance(module, torch.nn.Embedding) and "Norm" not in type(module).__name__
    ) and all(
        type(module.weight) is torch.nn.Parameter
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
        for module in modules
    )


def fused_losses(model: "PreTrainedModel", x_BT: Tensor, y_BT: Tensor, ignore: int) -> Tensor:
    """Summed negative log-likelihood (nats) of the targets that are not `ignore`.

    Under autocast the products are in its type, and the sum is then exact to about 1e-4 a token.
    """
    frame = _frame(model, x_BT)
    learn: Any = Pass.apply
    ends, *branches = ([module.weight for module in part] for part in _parts(model))
    embedding: Any = model.get_input_embeddings()
    batch = Batch(x_BT, y_BT, ignore, embedding.padding_idx)
    layers = list(zip(branches[::2], branches[1::2], strict=True))
    with torch.autocast("cpu", enabled=False):  # types are chosen here, product by product
        total: Tensor = learn(batch, frame, layers, *ends, *chain(*branches))
    return total


def _parts(model: "PreTrainedModel") -> list[list[Any]]:
    """Modules with a weight: embedding, last norm and head; then each layer's attention and MLP."""
    inner: Any = model.model
    parts = [[inner.embed_tokens, inner.norm, model.lm_head]]
    for layer in inner.layers:
        heads, mlp = layer.self_attn, layer.mlp
        norms = [heads.q_norm, heads.k_norm] if hasattr(heads, "q_norm") else []
        rows = [heads.q_proj, heads.k_proj, heads.v_proj, heads.o_proj]
        parts.append([layer.input_layernorm, *rows, *norms])
        parts.append([layer.post_attention_layernorm, mlp.gate_proj, mlp.up_proj, mlp.down_proj])
    return parts


def _frame(model: "PreTrainedModel", x_BT: Tensor) -> Frame:
    config: Any = model.config
    (B, T), H, G = x_BT.shape, config.num_attention_heads, config.num_key_value_heads
    D = getattr(config, "head_dim", None) or config.hidden_size // H
    turns = _TURNS.setdefault(model.model.rotary_emb, {})
    if T not in turns:
        turns[T] = _turns(model, T, H, G, D)
    on = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if on else torch.float32
    compiled = kernels() if dtype == torch.bfloat16 else None
    return Frame(B, T, H, G, D, config.rms_norm_eps, dtype, *turns[T], compiled)


@torch.no_grad()
def _turns(model: "PreTrainedModel", T: int, H: int, G: int, D: int) -> tuple[Tensor, Tensor]:
    """What Frame wants to rotate heads by, of T tokens."""
    inner: Any = model.model
    cos, sin = inner.rotary_emb(inner.norm.weight, torch.arange(T)[None])
    # Queries come out divided by the root of D, as attention wants them.
    scale_A = torch.cat([torch.full((H * D // 2,), D**-0.5), torch.ones(G * D // 2)])
    cos_TA, sin_TA = (
        table[0, :, : D // 2].float().repeat(1, H + G) * scale_A for table in (cos, sin)
    )
    return cos_TA, sin_TA
