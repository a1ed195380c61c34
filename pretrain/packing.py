"""Documents -> one token stream -> fixed blocks, whose order is a pure function of (seed, step).

Plain texts run on over the borders of blocks. A record stands whole within one block, so that its
targets see its prompt; what it leaves free is padding.

Shape suffixes: N tokens of the stream, B blocks a batch, T tokens a block.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from commonroot.errors import DataError
from pretrain.records import Document, Part, parts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IGNORE", "Blocks", "Encoded", "encode", "end_of_text", "lay_out", "pack"]

IGNORE = -100
CHUNK = 1000
"""Documents that are tokenized at once."""
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Encoded:
    """One document as tokens."""

    ids: list[int]
    targets: list[bool] | None
    """For each token whether it is a target; None: plain text, all of them are."""
    bytes: int
    """UTF-8 bytes of the targets' text."""


@dataclass(frozen=True)
class Blocks:
    """A token stream cut into blocks; each target is a target exactly once."""

    stream_N: Int64
    context: int
    target_N: Bool | None = None
    """Which tokens are targets; None: all but the first."""
    counts: Counter[str] = field(default_factory=Counter)
    """Records that did not simply fit: `longer_than_context` (spread over several blocks, each
    target with half a block before it), `prompt_fills_context` (of these, records whose first
    answer does not see its whole prompt), `template_refused` (left out)."""

    def __len__(self) -> int:
        return max(1, -(-(len(self.stream_N) - 1) // self.context))

    @property
    def targets(self) -> int:
        """Target tokens in one epoch."""
        if self.target_N is None:
            return max(0, len(self.stream_N) - 1)
        return int(self.target_N[1:].sum())

    def batch(self, seed: int, step: int, size: int) -> tuple[Int64, Int64]:
        """Inputs and targets (B, T) of `step`: epochs are shuffled without replacement.

        The last block of the stream is padded; what is no target is IGNORE.
        """
        picks = range(step * size, (step + 1) * size)
        return self.at([self.drawn((seed,), pick) for pick in picks])

    def drawn(self, seed: tuple[int, ...], pick: int) -> int:
        """Number of the block that is drawn at this place of an endless order of epochs."""
        epoch, place = divmod(pick, len(self))
        return int(_shuffled((seed[0], epoch, *seed[1:]), len(self))[place])

    def at(self, blocks: list[int]) -> tuple[Int64, Int64]:
        """Inputs and targets (B, T) of the blocks with these numbers."""
        x_BT = np.zeros((len(blocks), self.context), dtype=np.int64)
        y_BT = np.full((len(blocks), self.context), IGNORE, dtype=np.int64)
        for row, block in enumerate(blocks):
            here = slice(block * self.context, (block + 1) * self.context + 1)
            window = self.stream_N[here]
            x_BT[row, : len(window) - 1] = window[:-1]
            y_BT[row, : len(window) - 1] = window[1:]
            if self.target_N is not None:
                y_BT[row, : len(window) - 1][~self.target_N[here][1:]] = IGNORE
        return x_BT, y_BT


def pack(
    tokenizer: "PreTrainedTokenizerBase", documents: Iterable[Document], context: int
) -> Blocks:
    """Join documents, each led by the end-of-text token, into blocks of `context` tokens.

    Raises DataError if the chat template refuses every document.
    """
    encoded = (one for chunk in _chunks(documents) for one in encode(tokenizer, chunk))
    return lay_out(encoded, end_of_text(tokenizer), context)


def end_of_text(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Id of the token that leads every document and ends every answer."""
    return int(tokenizer.eos_token_id)


def encode(tokenizer: "PreTrainedTokenizerBase", documents: Iterable[Document]) -> list[Encoded]:
    """Tokens of each document; none for a chat that the chat template refuses.

    Parts of a record are tokenized one by one: generation starts from the prompt's own tokens.
    """
    kept = list(documents)
    rendered = [
        [(document, True)] if isinstance(document, str) else parts(tokenizer, document)
        for document in kept
    ]
    texts = [text for document in rendered for text, _ in document]
    ids: Any = (
        tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)[
            "input_ids"
        ]
        if texts
        else []
    )
    pieces = iter(ids)
    return [
        Encoded(next(pieces), None, len(document.encode()))
        if isinstance(document, str)
        else _join(tokenizer, cut, [next(pieces) for _ in cut])
        for document, cut in zip(kept, rendered, strict=True)
    ]


def lay_out(encoded: Iterable[Encoded], end: int, context: int) -> Blocks:
    """Encoded documents as blocks; `end` is the end-of-text token.

    Raises DataError if there are documents, but none with tokens.
    """
    stream, targets = array("q"), bytearray()
    counts: Counter[str] = Counter()
    after_text, any_record = False, False
    for one in encoded:
        if one.targets is None:
            stream.extend([end, *one.ids])
            targets.extend([after_text, *[True] * len(one.ids)])
            after_text = True
        elif not one.ids:
            counts["template_refused"] += 1
        else:
            if after_text:  # where the text before ends is to be learnt, as between texts
                stream.append(end)
                targets.append(True)
            for window, marks in _windows(one, end, context, counts):
                _place(stream, targets, window, marks, context)
            after_text, any_record = False, True
    if counts and not stream:
        raise DataError(
            "the base model's chat template refuses every chat: check the roles and their order, "
            "or take another base"
        )
    mask = np.frombuffer(targets, dtype=np.bool_) if any_record else None
    return Blocks(np.asarray(stream, dtype=np.int64), context, mask, counts)


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    rest = iter(documents)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


@lru_cache(maxsize=64)
def _shuffled(seed: tuple[int, ...], count: int) -> Int64:
    return np.random.default_rng(seed).permutation(count)


def _join(
    tokenizer: "PreTrainedTokenizerBase", rendered: list[Part], ids: list[list[int]]
) -> Encoded:
    """Tokens of a record without the end-of-text tokens at its ends: `lay_out` adds them."""
    end = end_of_text(tokenizer)
    tokens = [token for part in ids for token in part]
    marks = [
        wanted for (_, wanted), part in zip(rendered, ids, strict=True) for _ in range(len(part))
    ]
    first = 1 if tokens[:1] == [end] else 0
    last = len(tokens) - (1 if tokens[-1:] == [end] else 0)
    answers = "".join(text for text, wanted in rendered if wanted)
    written = answers.replace(str(tokenizer.eos_token), "")  # ends are not part of the bytes
    return Encoded(tokens[first:last], marks[first:last], len(written.encode()))


def _windows(
    record: Encoded, end: int, context: int, counts: Counter[str]
) -> Iterator[tuple[list[int], list[bool]]]:
    """The record as runs of at most `context` tokens that hold each of its targets once.

    A record that does not fit gives several. Each begins as early as it can, at most half a block
    before its first target unless the rest of the record then fits.
    """
    assert record.targets is not None
    ids, marks = [end, *record.ids, end], [False, *record.targets, True]
    if len(ids) <= context:
        yield ids, marks
        return
    counts["longer_than_context"] += 1
    if marks.index(True) >= context:
        counts["prompt_fills_context"] += 1
    at: int | None = marks.index(True)
    while at is not None:
        start = max(0, min(len(ids) - context, at - context // 2))
        stop = start + context
        new = [mark and place >= at for place, mark in enumerate(marks[start:stop], start)]
        yield [end, *ids[start + 1 : stop]], new
        at = next((place for place in range(stop, len(ids)) if marks[place]), None)


def _place(
    stream: "array[int]", targets: bytearray, ids: list[int], marks: list[bool], context: int
) -> None:
    """Append a run of tokens so that it crosses no border of blocks; ids[0] is end-of-text."""
    used = len(stream) % context
    shared = 1 if used and stream[-1] == ids[0] else 0  # the end of one document leads the next
    if used + len(ids) - shared > context:
        stream.extend([ids[0]] * (context - used))
        targets.extend([False] * (context - used))
        shared = 0
    stream.extend(ids[shared:])
    targets.extend(marks[shared:])
