"""Texts that hold pieces of public evaluation sets are left out: a model must not know the answers.

Brown et al. 2020, appendix C (https://arxiv.org/abs/2005.14165): shared runs of 13 words. Only
evaluation text that is public belongs here; private text never leaves its silo to be compared.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from commonroot.config import Section
from commonroot.errors import DataError
from ingest.dedup import Hashes, shingle_hashes
from ingest.sources.found import files_under, sha256_of

__all__ = ["DecontaminateConfig", "Evaluations"]

ENDINGS = (".txt", ".md", ".json", ".jsonl", ".parquet")
KEY = "clean.decontaminate.files"


class DecontaminateConfig(Section):
    """Public evaluation sets that the corpus must not hold."""

    files: tuple[str, ...] = ()
    """Files or folders: a text a .txt or .md file; every string in .json, .jsonl and .parquet."""
    words: int = Field(default=13, ge=5, le=100)
    """Length of a run of words that counts; shorter strings are passed over."""
    runs: int = Field(default=1, ge=1)
    """Different shared runs from which on a text is dropped."""

    def fingerprint(self) -> str:
        """Over the files' bytes, "" without any. Raises DataError if one cannot be read."""
        return sha256_of(files_under(self.files, ENDINGS, KEY)) if self.files else ""


@dataclass(frozen=True)
class Evaluations:
    """All runs of words of the evaluation sets."""

    hashes: Hashes
    """Sorted, without doubles."""
    places: dict[int, str]
    """Hash -> file in which it was met first."""
    words: int

    @classmethod
    def read(cls, config: DecontaminateConfig) -> "Evaluations":
        """Read the files. Raises DataError if one is damaged or none holds a run long enough."""
        files = files_under(config.files, ENDINGS, KEY)
        made = cls.of(((path.name, text) for path in files for text in _texts(path)), config.words)
        if config.files and not made.places:
            raise DataError(f"{KEY}: no text of {config.words} words or more: set words lower")
        return made

    @classmethod
    def of(cls, texts: Iterable[tuple[str, str]], words: int) -> "Evaluations":
        """All runs of `words` words of (where it stands, text)."""
        places: dict[int, str] = {}
        for name, text in texts:
            for value in shingle_hashes(text, words, whole=True).tolist():
                places.setdefault(value, name)
        return cls(np.sort(np.fromiter(places, np.uint64, len(places))), places, words)

    def shared(self, text: str) -> tuple[int, str]:
        """How many runs a text shares with them, and the file of one of these ("" if none)."""
        if not len(self.hashes):
            return 0, ""
        own = shingle_hashes(text, self.words, whole=True)
        both = np.intersect1d(own, self.hashes, assume_unique=True)
        return len(both), self.places[int(both[0])] if len(both) else ""


def _texts(path: Path) -> Iterator[str]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            for batch in pq.ParquetFile(path).iter_batches():
                yield from _strings(batch.to_pylist())
        elif path.suffix == ".jsonl":
            for line in path.read_text("utf-8").splitlines():
                yield from _strings(json.loads(line)) if line.strip() else ()
        elif path.suffix == ".json":
            yield from _strings(json.loads(path.read_text("utf-8")))
        else:
            yield path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{KEY}: {path.name} cannot be read: {type(error).__name__}") from None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
