"""A part of the training text: a corpus or some of its sources, read as it is taken."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from commonroot.artifact import Artifact, text_sha256
from commonroot.errors import DataError
from pretrain.corpus import corpus_rows, source_of
from pretrain.sampling import spread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Portion", "effective_bytes", "heldout_texts", "sha256_of", "texts_by_source"]

BYTES = 8
"""Of held-out text for each token that is wanted: more than a token stands for."""


@dataclass(frozen=True)
class Portion:
    """A part whose corpus has been opened."""

    name: str
    corpus: Artifact
    share: float
    """Of the training tokens; all shares together are one."""
    only: frozenset[str] = frozenset()
    """Its sources; empty: all but `others`."""
    others: frozenset[str] = frozenset()
    """Sources that other parts of the same corpus take."""
    withheld: frozenset[str] = field(default=frozenset(), repr=False)
    """sha256 of texts that are held out in any part."""

    def rows(self, split: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """Its documents, as pretrain.corpus.corpus_rows."""
        needed = ["source", "url"] if self.only or self.others else []
        needed += ["sha256"] if self.withheld else []
        wanted = None if columns is None else sorted({*columns, *needed})
        for row in corpus_rows(self.corpus, split, wanted):
            if self._holds(row) and not (split == "train" and self._is_withheld(row)):
                yield row

    def texts(self, split: str) -> Iterator[str]:
        """Their texts, read as they are taken."""
        return (row["text"] for row in self.rows(split, ["text"]))

    @cached_property
    def sizes(self) -> "npt.NDArray[np.int64]":
        """UTF-8 bytes of each training text. Raises DataError if there is none."""
        import numpy as np

        sizes = np.fromiter((len(text.encode()) for text in self.texts("train")), np.int64)
        if not len(sizes):
            raise DataError(self._says_empty())
        return sizes

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of its training text."""
        return int(self.sizes.sum())

    def _holds(self, row: Mapping[str, Any]) -> bool:
        if not (self.only or self.others):
            return True
        source = source_of(row)
        return source in self.only if self.only else source not in self.others

    def _is_withheld(self, row: Mapping[str, Any]) -> bool:
        return bool(self.withheld) and sha256_of(row) in self.withheld

    def _says_empty(self) -> str:
        if not (self.only or self.others):
            where = f"{self.corpus.path} has no train text"
            return f"{where}: gather more pages or loosen [clean]"
        rows = corpus_rows(self.corpus, "train", ["source", "url"])
        known = sorted({source_of(row) for row in rows})
        return (
            f"pretrain.mixture.{self.name} has no train text: {self.corpus.path} holds the sources "
            f"{', '.join(known[:8])}{' …' if len(known) > 8 else ''}"
        )


def effective_bytes(parts: Iterable[tuple[float, int]]) -> int:
    """Bytes of one corpus that would be read again as often as a mixture's text is on average.

    `parts`: share and bytes of each. 1 / Σ share²/bytes: all bytes together if shares follow sizes,
    less if a small part is given a large share.
    """
    return int(1 / sum(share**2 / size for share, size in parts))


def heldout_texts(portions: Sequence[Portion], tokens: int) -> list[str]:
    """Held-out texts for an evaluation of so many tokens, bytes in proportion to the shares.

    A part that has less gives all of it. All texts where there is one part. Raises DataError if
    there is none.
    """
    found: list[str] = []
    for portion in portions:
        texts = list(portion.texts("heldout"))
        most = portion.share * tokens * BYTES if len(portions) > 1 else float("inf")
        found += spread(texts, [len(text.encode()) for text in texts], most)
    if not found:
        raise DataError(
            f"{portions[0].corpus.path} has no heldout text: gather more pages or loosen [clean]"
        )
    return found


def texts_by_source(portions: Sequence[Portion]) -> dict[str, list[str]]:
    """Held-out texts under the names of their sources, with that of their part before it if there
    are several."""
    found: dict[str, list[str]] = {}
    for portion in portions:
        lead = f"{portion.name}: " if len(portions) > 1 else ""
        for row in portion.rows("heldout", ["text", "source", "url"]):
            found.setdefault(lead + source_of(row), []).append(row["text"])
    return found


def sha256_of(row: Mapping[str, Any]) -> str:
    """Of a row's text, also where the corpus does not say it."""
    return row.get("sha256") or text_sha256(row["text"])
