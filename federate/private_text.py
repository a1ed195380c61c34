"""What a client does with its own folder: read it, cut texts into pieces, split the documents.

Runs inside the client: only counts leave this module's caller, the silo.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from commonroot.errors import DataError
from ingest.dedup import near_duplicate_groups
from pretrain.records import Document, Record, document_of

__all__ = ["SUFFIXES", "Split", "cut_text", "read_folder", "split_pieces"]

SUFFIXES = (".txt", ".md", ".jsonl", ".parquet")
COLUMNS = ("text", "prompt", "completion", "messages")
SHORTEST_PIECE = 200
"""Characters; a client that cannot be cut into three pieces of this size has too little text."""

Kind = TypeVar("Kind", str, Record)
Sides = tuple[list[Kind], list[Kind], list[Kind]]


@dataclass(frozen=True)
class Split:
    """One client's pieces of text and records, and what was left out and why."""

    train: list[Document]
    validation: list[Document]
    test: list[Document]
    skipped: Counter[str] = field(default_factory=Counter)


def read_folder(folder: Path) -> tuple[list[Document], Counter[str]]:
    """Documents of all readable files below `folder`, and a count for each reason to skip one.

    A .txt or .md file is one text. A line of .jsonl or row of .parquet is a text (`text`), a
    prompt and its completion (`prompt`, `completion`) or a chat (`messages`: role and content);
    one folder may hold all kinds. Raises DataError if there is no folder or nothing to train on.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: a client is a folder of {', '.join(SUFFIXES)} files")
    documents: list[Document] = []
    skipped: Counter[str] = Counter()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix not in SUFFIXES:
            skipped["other_file_type"] += 1
            continue
        try:
            found = list(_read(path))
        except (OSError, ValueError, KeyError):  # pyarrow's errors are among these
            skipped["unreadable_file"] += 1
            continue
        documents += [document for document, _ in found if document is not None]
        skipped.update(reason for document, reason in found if document is None)
    if not documents:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "no files"
        raise DataError(f"{folder} holds no text ({reasons}): add {', '.join(SUFFIXES)} files")
    return documents, skipped


def split_pieces(documents: Sequence[Document], piece_chars: int) -> Split:
    """About 80/10/10 % of the pieces and records, by hash; near-duplicates stay on one side.

    Texts are cut into pieces of `piece_chars` characters, shorter where a client has too few for
    three sides; records stay whole. A kind with fewer than three groups of near-duplicates
    beside enough of the other kind goes to training.
    Raises DataError if even short pieces do not make three groups.
    """
    texts = [document for document in documents if isinstance(document, str)]
    records = sorted({document for document in documents if isinstance(document, Record)})
    whole = _assign(records, _without_template(records), always=3)
    size = piece_chars
    while size >= SHORTEST_PIECE:
        pieces = sorted({piece for text in texts for piece in cut_text(text, size)})
        cut = _assign(pieces, pieces, always=2)
        sides: list[list[Document]] = [[*cut[side], *whole[side]] for side in range(3)]
        if all(sides):
            return Split(sides[0], sides[1], sides[2])
        size //= 2
    raise DataError(
        "too little text: a client needs three different pieces of 200 characters, or three "
        "different records"
    )


def _read(path: Path) -> Iterator[tuple[Document | None, str]]:
    if path.suffix == ".jsonl":
        # Only a line feed ends a line: JSON leaves U+2028 and such unescaped.
        for line in path.read_bytes().split(b"\n"):
            if line.strip():
                yield _read_line(line)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path)
    else:
        yield document_of({"text": path.read_text("utf-8")})


def _read_line(line: bytes) -> tuple[Document | None, str]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None, "bad_line"
    return document_of(row) if isinstance(row, dict) else (None, "no_text")


def _read_parquet(path: Path) -> Iterator[tuple[Document | None, str]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = [name for name in COLUMNS if name in file.schema_arrow.names]
        if not columns:
            yield None, "no_text_column"
            return
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist():
                yield document_of(row)


def cut_text(text: str, size: int) -> Iterator[str]:
    """Pieces of at most `size` characters, cut at white space where there is any."""
    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            space = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
            end = space if space > start + size // 2 else end
        piece = text[start:end].strip()
        if piece:
            yield piece
        start = end


def _without_template(records: Sequence[Record]) -> list[str]:
    """Each record's text without the words that more than half of the client's records hold.

    Else an instruction that all records share would make them near-duplicates of each other.
    """
    words = [" ".join(text for _, text in record.turns).split() for record in records]
    held = Counter(word for found in words for word in set(found))
    return [
        " ".join(word for word in found if 2 * held[word] <= len(records)) or " ".join(found)
        for found in words
    ]


def _assign(items: Sequence[Kind], texts: Sequence[str], always: int) -> Sides[Kind]:
    """Train, validation and test; `texts` say which of the sorted `items` are near-duplicates.

    `always` is how many groups are set, so that no side is empty: pieces can be cut finer if
    the draw leaves training empty, records cannot.
    """
    groups: dict[int, list[Kind]] = {}
    for item, group in zip(items, near_duplicate_groups(texts), strict=True):
        groups.setdefault(group, []).append(item)
    train: list[Kind] = []
    validation: list[Kind] = []
    test: list[Kind] = []
    set_first = [test, validation, train][:always] if len(groups) >= 3 else [train] * 2
    for place, members in enumerate(sorted(groups.values(), key=lambda g: _hash(g[0]))):
        # The first groups in hash order are set, so that no side is empty; the rest is drawn.
        drawn = {0: test, 1: validation}.get(_hash(members[0]) % 10, train)
        side = set_first[place] if place < len(set_first) else drawn
        side.extend(members)
    return train, validation, test


def _hash(item: Document) -> int:
    text = item if isinstance(item, str) else json.dumps(item.turns)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
