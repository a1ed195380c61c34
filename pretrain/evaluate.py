"""Bits per UTF-8 byte, and samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from commonroot.config import Section
from pretrain.model import Compute, autocast
from pretrain.packing import IGNORE, Blocks, encode, end_of_text, lay_out
from pretrain.records import Document
from pretrain.sampling import spread
from pretrain.train import token_losses

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["EvalSet", "EvaluateConfig", "bits_per_byte", "eval_rows", "eval_set", "sample"]

EVAL_BATCH = 8
MOST_LOGITS = 2**26
"""At once, in a batch of several blocks: a quarter of a GB in fp32."""


class EvaluateConfig(Section):
    """What is measured of the base beside bits per byte at its start and end."""

    points: int = Field(8, ge=0)
    """Times that held-out bpb is measured while training, for the scaling line; 0: never."""
    point_blocks: int = Field(24, ge=1)
    """Blocks of held-out text for each of them."""
    sources: int = Field(12, ge=0)
    """Sources (hosts, or what the corpus names) whose bpb is told apart, the largest first."""
    source_blocks: int = Field(24, ge=1)
    """Blocks of held-out text for each source."""
    pairs: int = Field(200, ge=0, le=400)
    """Minimal pairs of each of 15 phenomena of English; 0: none."""


@dataclass(frozen=True)
class EvalSet:
    """Blocks to predict and the UTF-8 bytes that their targets stand for."""

    blocks: Blocks
    bytes: int
    end: int
    """Id of the end-of-text token."""


def eval_set(
    tokenizer: "PreTrainedTokenizerBase",
    documents: Sequence[Document],
    context: int,
    most_blocks: int = 0,
) -> EvalSet:
    """Pack documents for evaluation; `most_blocks` > 0 keeps evenly spread ones up to that size.

    Raises DataError if the chat template refuses every document.
    """
    encoded = encode(tokenizer, documents)
    if most_blocks:
        # What a tokenizer adds by itself counts, so that a choice once made stays the same.
        added = len(tokenizer([""], verbose=False)["input_ids"][0])
        sizes = [len(one.ids) + added for one in encoded]
        encoded = spread(encoded, sizes, most_blocks * context)
    end = end_of_text(tokenizer)
    return EvalSet(lay_out(encoded, end, context), sum(one.bytes for one in encoded), end)


def bits_per_byte(model: "PreTrainedModel", data: EvalSet, compute: Compute) -> float:
    """Bits to code one UTF-8 byte; comparable between tokenizers.

    Every target is predicted once, with what its block holds before it as context; of a record
    only the answers are targets.
    """
    import torch

    device = next(model.parameters()).device
    training, nats = model.training, 0.0
    model.eval()
    with torch.inference_mode(), autocast(compute, device):
        together = eval_rows(data.blocks.context, int(model.config.vocab_size))
        for start in range(0, len(data.blocks), together):
            rows = list(range(start, min(start + together, len(data.blocks))))
            x_BT, y_BT = data.blocks.at(rows)
            y_BT[y_BT == data.end] = IGNORE  # where a text ends is not part of its bytes
            losses = token_losses(
                model, torch.from_numpy(x_BT).to(device), torch.from_numpy(y_BT).to(device)
            )
            nats += float(losses)
    model.train(training)
    return nats / math.log(2) / data.bytes


def eval_rows(context: int, vocab: int) -> int:
    """Blocks that are evaluated together: fewer where a vocabulary is large."""
    return max(1, min(EVAL_BATCH, MOST_LOGITS // (context * vocab)))


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
