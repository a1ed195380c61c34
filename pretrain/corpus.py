"""Read the public corpus that `ingest` sealed."""

from commonroot.artifact import Artifact
from commonroot.errors import DataError

__all__ = ["corpus_texts"]


def corpus_texts(corpus: Artifact, split: str) -> list[str]:
    """Texts of split "train" or "heldout", in the corpus' own order.

    Raises DataError if the split holds no text.
    """
    import pyarrow.parquet as pq

    shards = sorted((corpus.path / "data").glob(f"{split}-*.parquet"))
    texts = [
        text for shard in shards for text in pq.read_table(shard, columns=["text"])[0].to_pylist()
    ]
    if not texts:
        raise DataError(f"{corpus.path} has no {split} text: gather more pages or loosen [clean]")
    return texts
