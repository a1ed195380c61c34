"""Read the public corpus that `ingest` sealed."""

from collections.abc import Iterator
from typing import Any

from commonroot.artifact import Artifact
from commonroot.errors import DataError

__all__ = ["corpus_rows", "corpus_texts"]


def corpus_rows(
    corpus: Artifact, split: str, columns: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Documents of split "train" or "heldout" in the corpus' own order; None: all columns."""
    import pyarrow.parquet as pq

    for shard in sorted((corpus.path / "data").glob(f"{split}-*.parquet")):
        yield from pq.read_table(shard, columns=columns).to_pylist()


def corpus_texts(corpus: Artifact, split: str) -> list[str]:
    """Their texts. Raises DataError if the split holds none."""
    texts = [row["text"] for row in corpus_rows(corpus, split, ["text"])]
    if not texts:
        raise DataError(f"{corpus.path} has no {split} text: gather more pages or loosen [clean]")
    return texts
