"""What a client does with its own folder: read it, cut it into pieces, split the pieces.

Runs inside the client: only counts leave this module's caller, the silo.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from commonroot.artifact import json_lines
from commonroot.errors import DataError
from ingest.dedup import near_duplicate_groups

__all__ = ["SUFFIXES", "Split", "read_folder", "split_pieces"]

SUFFIXES = (".txt", ".md", ".jsonl", ".parquet")
SHORTEST_PIECE = 200
"""Characters; a client that cannot be cut into three pieces of this size has too little text."""


@dataclass(frozen=True)
class Split:
    """One client's pieces of text, and what was left out and why."""

    train: list[str]
    validation: list[str]
    test: list[str]
    skipped: Counter[str] = field(default_factory=Counter)


def read_folder(folder: Path) -> tuple[list[str], Counter[str]]:
    """Texts of all readable files below `folder`, and a count for each reason to skip something.

    Raises DataError if the folder does not exist or holds no text.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: a client is a folder of {', '.join(SUFFIXES)} files")
    texts: list[str] = []
    skipped: Counter[str] = Counter()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix not in SUFFIXES:
            skipped["other_file_type"] += 1
            continue
        try:
            found = list(_texts(path))
        except (OSError, ValueError, KeyError):  # pyarrow's errors are among these
            skipped["unreadable_file"] += 1
            continue
        for text in found:
            if isinstance(text, str) and text.strip():
                texts.append(text.strip())
            else:
                skipped["no_text"] += 1
    if not texts:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "no files"
        raise DataError(f"{folder} holds no text ({reasons}): add {', '.join(SUFFIXES)} files")
    return texts, skipped


def split_pieces(texts: list[str], piece_chars: int) -> Split:
    """About 80/10/10 % of the pieces, by hash; near-duplicates stay on one side.

    Pieces are `piece_chars` characters, shorter where a client has too few for three sides.
    Raises DataError if even short pieces do not make three groups.
    """
    size = piece_chars
    while size >= SHORTEST_PIECE:
        pieces = sorted({piece for text in texts for piece in _cut(text, size)})
        sides = _assign(pieces)
        if all(sides):
            return Split(*sides)
        size //= 2
    raise DataError("too little text: a client needs three different pieces of 200 characters")


def _texts(path: Path) -> Iterator[object]:
    if path.suffix == ".jsonl":
        for record in json_lines(path.read_text("utf-8")):
            yield record.get("text") if isinstance(record, dict) else None
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield from pq.read_table(path, columns=["text"])["text"].to_pylist()
    else:
        yield path.read_text("utf-8")


def _cut(text: str, size: int) -> Iterator[str]:
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


def _assign(pieces: list[str]) -> tuple[list[str], list[str], list[str]]:
    groups: dict[int, list[str]] = {}
    for piece, group in zip(pieces, near_duplicate_groups(pieces), strict=True):
        groups.setdefault(group, []).append(piece)
    train: list[str] = []
    validation: list[str] = []
    test: list[str] = []
    for place, group_pieces in enumerate(sorted(groups.values(), key=lambda g: _hash(g[0]))):
        # The first two groups in hash order are set, so that no side is empty; the rest is drawn.
        draw = _hash(group_pieces[0]) % 10
        side = (test, validation)[place] if place < 2 else {0: test, 1: validation}.get(draw, train)
        side.extend(group_pieces)
    return train, validation, test


def _hash(piece: str) -> int:
    return int.from_bytes(hashlib.sha256(piece.encode()).digest()[:8], "big")
