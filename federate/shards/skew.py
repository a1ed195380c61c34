"""How unlike the clients are: in size, in words, in labels. For simulation, which sees all shards.

Divergence is the Jensen-Shannon divergence between a client and the pool of all clients, in bits
(0: the same, 1: nothing shared). A small client differs from the pool by chance alone, so it
stands beside what the same pieces give when they are dealt out at random in the same numbers.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from federate.private_text import cut_text

__all__ = [
    "Divergence",
    "divergence",
    "effective_number",
    "gini",
    "jensen_shannon",
    "measure",
]

BUCKETS = 4096
"""Words are counted by hash: enough that frequent words hardly ever share one."""
PIECE_CHARS = 3000
"""What is dealt out as one when text is dealt out at random; a silo's own pieces are as long."""
DRAWS = 9
"""Random re-draws; one client in ten lies above all of nine by chance."""
DIGITS = 6
"""The last bits of a logarithm differ from processor to processor, and so would the digest."""
CLIENTS_AT_ONCE = 256
# Scripts without spaces are counted by character.
WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u9fff]|[^\W\u0e00-\u0e7f\u3040-\u9fff]+")


@dataclass(frozen=True)
class Divergence:
    """One figure a client, in the clients' order; shapes (clients,)."""

    found_C: np.ndarray
    chance_C: np.ndarray
    """Mean over the random re-draws."""
    beyond_C: np.ndarray
    """Whether it lies above all re-draws."""
    effective_C: np.ndarray
    """2 to the power of the entropy: as many equally frequent words or labels."""

    def summary(self) -> dict[str, Any]:
        """Means, quartiles (least to most) and shares over the clients."""
        return {
            "mean": _round(self.found_C.mean()),
            "quartiles": _quartiles(self.found_C),
            "chance": _round(self.chance_C.mean()),
            "beyond_chance": _round(self.beyond_C.mean()),
            "effective": _round(self.effective_C.mean()),
        }


def measure(
    texts: Mapping[str, Sequence[str]], labels: Mapping[str, Sequence[str]], seed: int = 0
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures over all clients, and one record for each client.

    `texts` holds each client's texts, `labels` the label of each of its rows ({}: not measured).
    """
    names = list(texts)
    size_C = np.array([sum(len(text.encode()) for text in texts[name]) for name in names])
    found = {"words": _word_divergence(texts, seed)}
    if labels:
        found["labels"] = _label_divergence([labels[name] for name in names], seed)
    share_C = size_C / max(size_C.sum(), 1)
    figures: dict[str, Any] = {
        "bytes": {
            "mean": _round(size_C.mean()),
            "quartiles": _quartiles(size_C),
            "gini": _round(gini(size_C)),
            "effective_clients": _round(1 / max(float(np.square(share_C).sum()), 1 / len(names))),
        },
        **{what: figure.summary() for what, figure in found.items()},
    }
    clients = [
        {"client": name, "bytes": int(size_C[place])} | _of_client(found, place)
        for place, name in enumerate(names)
    ]
    return figures, clients


def jensen_shannon(count_CB: np.ndarray, pool_B: np.ndarray) -> np.ndarray:
    """Bits in [0, 1] between each row of a histogram and the pool, over the same buckets (Lin,
    1991); 0 for an empty row. Shape (clients,)."""
    total_C, q_B = count_CB.sum(axis=1), pool_B / max(pool_B.sum(), 1)
    # Where p is 0, m is q/2: those buckets add q in all, and most buckets are of that kind.
    client, bucket = np.nonzero(count_CB)
    p, q = count_CB[client, bucket] / total_C[client], q_B[bucket]
    m = (p + q) / 2
    terms = p * np.log2(p / m) + q * np.log2(np.where(q > 0, q, 1) / m)
    seen_C = np.bincount(client, terms - q, minlength=len(count_CB))
    return np.where(total_C > 0, np.clip((seen_C + 1) / 2, 0, 1), 0.0)


def effective_number(count_CB: np.ndarray) -> np.ndarray:
    """2 to the power of each row's entropy in bits; 0 for an empty row. Shape (clients,)."""
    total_C = count_CB.sum(axis=1)
    client, bucket = np.nonzero(count_CB)
    p = count_CB[client, bucket] / total_C[client]
    entropy_C = -np.bincount(client, p * np.log2(p), minlength=len(count_CB))
    return np.where(total_C > 0, np.exp2(entropy_C), 0.0)


def divergence(units: Sequence[np.ndarray], held: Sequence[int], seed: int) -> Divergence:
    """Of clients that hold the next `held[i]` of `units` each.

    A unit is what is dealt out as one: the buckets (int) of a piece's words, or of a row's label.
    """
    buckets = max((int(unit.max()) + 1 for unit in units if unit.size), default=1)
    pool_B = np.bincount(_joined(units), minlength=buckets)
    found_C, effective_C = _against(pool_B, units, held)
    rng = np.random.default_rng([seed, 5])
    drawn = []
    for _ in range(DRAWS):
        dealt = [units[place] for place in rng.permutation(len(units))]
        drawn.append(_against(pool_B, dealt, held)[0])
    drawn_DC = np.stack(drawn)
    beyond_C = found_C > drawn_DC.max(axis=0) + 10**-DIGITS
    return Divergence(found_C, drawn_DC.mean(axis=0), beyond_C, effective_C)


def gini(size_C: np.ndarray) -> float:
    """0: all clients are as large; towards 1: one client holds everything."""
    ordered = np.sort(np.asarray(size_C, dtype=np.float64))
    ranks, total = np.arange(1, len(ordered) + 1), ordered.sum()
    if not total:
        return 0.0
    return float((2 * (ranks * ordered).sum() / total - (len(ordered) + 1)) / len(ordered))


def _word_divergence(texts: Mapping[str, Sequence[str]], seed: int) -> Divergence:
    known: dict[str, int] = {}
    units: list[np.ndarray] = []
    held = []
    for held_texts in texts.values():
        pieces = [piece for text in held_texts for piece in cut_text(text, PIECE_CHARS)]
        units += [_buckets(piece, known) for piece in pieces]
        held.append(len(pieces))
    return divergence(units, held, seed)


def _label_divergence(labels: Sequence[Sequence[str]], seed: int) -> Divergence:
    number = {label: place for place, label in enumerate(sorted(set().union(*labels)))}
    units = [np.array([number[label]]) for client in labels for label in client]
    return divergence(units, [len(client) for client in labels], seed)


def _buckets(piece: str, known: dict[str, int]) -> np.ndarray:
    words = WORD.findall(piece.lower())
    for word in words:
        if word not in known:
            known[word] = zlib.crc32(word.encode()) % BUCKETS
    return np.array([known[word] for word in words], dtype=np.int64)


def _against(
    pool_B: np.ndarray, units: Sequence[np.ndarray], held: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Divergence from the pool and effective number of buckets, for each client in order."""
    words = _joined(units)
    client_of_unit = np.repeat(np.arange(len(held)), held)
    client_of_word = np.repeat(client_of_unit, np.array([len(u) for u in units], np.int64))
    found, effective = [], []
    for first in range(0, len(held), CLIENTS_AT_ONCE):
        number = min(CLIENTS_AT_ONCE, len(held) - first)
        start, end = np.searchsorted(client_of_word, [first, first + number])
        cell = (client_of_word[start:end] - first) * len(pool_B) + words[start:end]
        count_CB = np.bincount(cell, minlength=number * len(pool_B)).reshape(number, -1)
        found.append(jensen_shannon(count_CB, pool_B))
        effective.append(effective_number(count_CB))
    return np.concatenate(found), np.concatenate(effective)


def _joined(units: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *units])


def _of_client(found: Mapping[str, Divergence], place: int) -> dict[str, float]:
    return {
        key: _round(value_C[place])
        for kind, figure in found.items()
        for key, value_C in (
            (kind, figure.found_C),
            (f"{kind}_chance", figure.chance_C),
            (f"{kind}_effective", figure.effective_C),
        )
    }


def _quartiles(value_C: np.ndarray) -> list[float]:
    return [_round(value) for value in np.quantile(value_C, (0, 0.25, 0.5, 0.75, 1))]


def _round(value: Any) -> float:
    return round(float(value), DIGITS)
