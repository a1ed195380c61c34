"""Read the public corpus that `ingest` sealed."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from commonroot.artifact import Artifact
from commonroot.errors import DataError

__all__ = ["corpus_rows", "corpus_texts", "source_of"]

ROWS = 1000
"""Documents in memory at once."""


def corpus_rows(
    corpus: Artifact, split: str, columns: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Documents of split "train" or "heldout" in the corpus' own order; None: all columns.

    Of `columns` those that the corpus has.
    """
    import pyarrow.parquet as pq

    for shard in sorted((corpus.path / "data").glob(f"{split}-*.parquet")):
        with pq.ParquetFile(shard) as file:
            known = set(file.schema_arrow.names)
            wanted = None if columns is None else [name for name in columns if name in known]
            for batch in file.iter_batches(ROWS, columns=wanted):
                yield from batch.to_pylist()


def corpus_texts(corpus: Artifact, split: str) -> list[str]:
    """Their texts. Raises DataError if the split holds none."""
    texts = [row["text"] for row in corpus_rows(corpus, split, ["text"])]
    if not texts:
        raise DataError(f"{corpus.path} has no {split} text: gather more pages or loosen [clean]")
    return texts


def source_of(row: Mapping[str, Any]) -> str:
    """Where a document came from: its row's `source`, else its address' host, else "corpus"."""
    return row.get("source") or urlsplit(row.get("url") or "").hostname or "corpus"
