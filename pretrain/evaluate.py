"""Bits per UTF-8 byte, and samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pretrain.model import Compute, autocast
from pretrain.packing import IGNORE, Blocks, pack
from pretrain.train import token_losses

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["EvalSet", "bits_per_byte", "eval_set", "sample"]

EVAL_BATCH = 8


@dataclass(frozen=True)
class EvalSet:
    """Blocks to predict and the UTF-8 bytes that they stand for."""

    blocks: Blocks
    bytes: int


def eval_set(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], context: int, most_blocks: int = 0
) -> EvalSet:
    """Pack texts for evaluation; `most_blocks` > 0 keeps evenly spread texts up to that size."""
    if most_blocks:
        texts = _spread(tokenizer, texts, most_blocks * context)
    return EvalSet(pack(tokenizer, texts, context), sum(len(text.encode()) for text in texts))


def bits_per_byte(model: "PreTrainedModel", data: EvalSet, compute: Compute) -> float:
    """Bits to code one UTF-8 byte; comparable between tokenizers.

    Every token of the texts is predicted once, with what its block holds before it as context.
    """
    import torch

    device = next(model.parameters()).device
    end = int(data.blocks.stream_N[0])
    model.eval()
    nats = 0.0
    with torch.inference_mode(), autocast(compute, device):
        for start in range(0, len(data.blocks), EVAL_BATCH):
            rows = list(range(start, min(start + EVAL_BATCH, len(data.blocks))))
            x_BT, y_BT = data.blocks.at(rows)
            y_BT[y_BT == end] = IGNORE  # where a text ends is not part of its bytes
            losses = token_losses(
                model, torch.from_numpy(x_BT).to(device), torch.from_numpy(y_BT).to(device)
            )
            nats += float(losses)
    return nats / math.log(2) / data.bytes


def sample(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str,
    tokens: int = 60,
    seed: int = 0,
    temperature: float = 0.8,
) -> str:
    """Continue `prompt` by at most `tokens` tokens; the same seed gives the same text."""
    import torch

    torch.manual_seed(seed)
    model.eval()
    ids = tokenizer(prompt or str(tokenizer.eos_token), return_tensors="pt")["input_ids"]
    room = int(model.config.max_position_embeddings) - tokens
    generate: Any = model.generate
    out = generate(
        ids[:, -max(room, 1) :].to(model.device),
        attention_mask=torch.ones_like(ids[:, -max(room, 1) :]).to(model.device),
        max_new_tokens=tokens,
        do_sample=temperature > 0,
        **({"temperature": temperature, "top_k": 50} if temperature > 0 else {}),
    )
    return str(tokenizer.decode(out[0], skip_special_tokens=True))


def _spread(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], tokens: int
) -> Sequence[str]:
    """Texts from all over the sequence, about `tokens` tokens together, at least one."""
    sizes = [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]
    total = sum(sizes)
    if total <= tokens:
        return texts
    stride = total / tokens
    kept, seen, taken = [], 0, 0.0
    for text, size in zip(texts, sizes, strict=True):
        if seen >= taken * stride:
            kept.append(text)
            taken += size
        seen += size
    return kept or texts[:1]
