"""What a finished base is asked: bits per byte by source, minimal pairs, samples.

Shape suffixes: B sentences, T tokens, V vocabulary.
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonroot.artifact import write_atomic
from pretrain.blend import Blend, epochs_of
from pretrain.evaluate import EvaluateConfig, bits_per_byte, eval_set, sample
from pretrain.model import Compute, autocast
from pretrain.packing import IGNORE
from pretrain.pairs import Pair, minimal_pairs
from pretrain.portion import Portion, texts_by_source

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pretrain.stage import PretrainConfig

__all__ = ["accuracy", "by_corpus", "by_source", "examine", "log_likelihoods", "samples", "wilson"]

OTHERS = "(others)"
SENTENCES = 32


def examine(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    portions: Sequence[Portion],
    section: "PretrainConfig",
    folder: Path,
) -> dict[str, Any]:
    """`sources` and `pairs` for a base's metrics; pairs.jsonl with every verdict into `folder`."""
    texts, asked, compute = texts_by_source(portions), section.evaluate, section.compute
    found: dict[str, Any] = {
        "sources": by_source(model, tokenizer, texts, section.context, asked, compute)
    }
    if asked.pairs:
        pairs = minimal_pairs(asked.pairs)
        sentences = [text for pair in pairs for text in (pair.good, pair.bad)]
        scores = log_likelihoods(model, tokenizer, sentences, compute)
        verdicts = [*zip(pairs, scores[::2], scores[1::2], strict=True)]
        write_atomic(folder / "pairs.jsonl", "".join(_line(*one) for one in verdicts))
        found["pairs"] = accuracy(verdicts)
    return found


def by_source(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: dict[str, list[str]],
    context: int,
    section: EvaluateConfig,
    compute: Compute,
) -> dict[str, dict[str, Any]]:
    """`bpb`, `bytes_per_token` and `documents` of each source, the largest first.

    Beyond `section.sources` of them the rest stands together.
    """
    named = sorted(texts, key=lambda source: (-_bytes(texts[source]), source))
    rest = [text for source in named[section.sources :] for text in texts[source]]
    parts = {source: texts[source] for source in named[: section.sources]}
    parts |= {OTHERS: rest} if rest and section.sources else {}
    found = {}
    for source, documents in parts.items():
        data = eval_set(tokenizer, documents, context, section.source_blocks)
        found[source] = {
            "bpb": bits_per_byte(model, data, compute),
            "bytes_per_token": round(data.bytes / max(1, len(data.blocks.stream_N)), 3),
            "documents": len(documents),
        }
    return found


def by_corpus(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    portions: Sequence[Portion],
    data: Blend,
    picks: int,
    section: "PretrainConfig",
) -> dict[str, dict[str, Any]]:
    """Each part of the mixture: what it holds, what was trained on it in `picks` blocks, and its
    held-out bpb (none if it holds nothing out)."""
    epochs, found = epochs_of(data, picks), {}
    for portion, blocks, times in zip(portions, data.parts, epochs, strict=True):
        size, texts = portion.bytes, list(portion.texts("heldout"))
        examined = eval_set(tokenizer, texts, data.context, section.evaluate.source_blocks)
        found[portion.name] = {
            "digest": portion.corpus.digest,
            "share": portion.share,
            "documents": len(portion.sizes),
            "bytes": size,
            "tokens": len(blocks.stream_N),
            "bytes_per_token": round(size / len(blocks.stream_N), 3),
            "tokens_trained": round(times * len(blocks)) * data.context,
            "epochs": round(times, 3),
            "heldout_documents": len(texts),
            "bpb": bits_per_byte(model, examined, section.compute) if texts else None,
        }
    return found


def samples(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Iterable[str],
    folder: Path,
) -> dict[str, str]:
    """A continuation of each prompt, also as samples.json in `folder`."""
    said = {prompt: sample(model, tokenizer, prompt) for prompt in prompts}
    write_atomic(folder / "samples.json", json.dumps(said, indent=1, ensure_ascii=False))
    return said


def log_likelihoods(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    sentences: Sequence[str],
    compute: Compute,
) -> list[float]:
    """Summed log-probability (nats) of each sentence's tokens, as the start of a text."""
    import torch

    lead = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    encoded: Any = tokenizer(list(sentences), add_special_tokens=False)["input_ids"]
    by_length = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
    found = [0.0] * len(encoded)
    training = model.training
    model.eval()
    with torch.inference_mode(), autocast(compute, model.device):
        for start in range(0, len(by_length), SENTENCES):
            numbers = by_length[start : start + SENTENCES]
            scores = _scores(model, [[int(lead), *encoded[number]] for number in numbers])
            for number, score in zip(numbers, scores, strict=True):
                found[number] = score
    model.train(training)
    return found


def _scores(model: "PreTrainedModel", rows: list[list[int]]) -> list[float]:
    """Padding stands behind what is scored, where a causal model does not see it."""
    import torch
    import torch.nn.functional as functional

    width = max(len(row) for row in rows)
    x_BT = torch.tensor([row + [row[0]] * (width - len(row)) for row in rows])
    y_BT = torch.tensor([row + [IGNORE] * (width - len(row)) for row in rows])
    logits_BTV = model(input_ids=x_BT.to(model.device), use_cache=False).logits.float()
    losses_BT = functional.cross_entropy(
        logits_BTV[:, :-1].transpose(1, 2),
        y_BT[:, 1:].to(model.device),
        ignore_index=IGNORE,
        reduction="none",
    )
    return [float(-one) for one in losses_BT.double().sum(1)]


def accuracy(verdicts: Sequence[tuple[Pair, float, float]]) -> dict[str, dict[str, Any]]:
    """Share of pairs whose good sentence is the likelier, by phenomenon and `overall`.

    `low` and `high`: a 95 % interval over pairs of these templates. A tie counts half.
    """
    wins: dict[str, list[float]] = {"overall": []}
    for pair, good, bad in verdicts:
        won = 0.5 if good == bad else float(good > bad)
        wins.setdefault(pair.phenomenon, []).append(won)
        wins["overall"].append(won)
    found = {}
    for name, each in wins.items():
        share, (low, high) = sum(each) / len(each), wilson(sum(each), len(each))
        found[name] = {"accuracy": share, "low": low, "high": high, "pairs": len(each)}
    return found


def wilson(wins: float, of: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (1927, https://doi.org/10.2307/2276774)."""
    share = wins / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)


def _line(pair: Pair, good: float, bad: float) -> str:
    """One record of pairs.jsonl; log-likelihoods in nats."""
    record = {**vars(pair), "good_nats": round(good, 4), "bad_nats": round(bad, 4)}
    return json.dumps(record) + "\n"


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode()) for text in texts)
