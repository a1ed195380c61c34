"""Evaluation text is found in the corpus, whatever its case, punctuation and file."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commonroot.errors import DataError
from ingest import clean, gather
from ingest.clean import CleanConfig
from ingest.decontaminate import DecontaminateConfig, Evaluations
from ingest.gather import GatherConfig
from ingest.sources.files import FilesConfig
from tests.ingest.articles import article

QUESTION = (
    "A train leaves the old station at seven and reaches the sea after three hours and a half; "
    "how far is it from the station to the sea?"
)
ASKED = QUESTION.upper().replace(";", " -").replace("?", "!")


def written(folder: Path, name: str) -> Path:
    path = folder / name
    nested = {"id": 1, "turns": [{"question": QUESTION}], "answer": "short"}
    if name.endswith("txt"):
        path.write_text(QUESTION)
    elif name.endswith("jsonl"):
        path.write_text(json.dumps({"q": "too short"}) + "\n\n" + json.dumps(nested))
    elif name.endswith("json"):
        path.write_text(json.dumps([nested]))
    else:
        pq.write_table(pa.table({"q": [QUESTION], "n": [1]}), path)
    return path


@pytest.mark.parametrize("name", ["q.txt", "q.jsonl", "q.json", "q.parquet"])
def test_a_shared_run_of_words_is_seen(name: str, tmp_path: Path) -> None:
    config = DecontaminateConfig(files=(str(written(tmp_path, name)),))
    known = Evaluations.read(config)
    words = ASKED.split()
    assert known.shared(f"It was said: {ASKED} And more.") == (16, name)
    assert known.shared(" ".join(words[:14]))[0] == 2
    assert known.shared(" ".join(words[:12])) == (0, "")
    assert known.shared(article(0)) == (0, "")


def test_what_is_contaminated_is_dropped_with_its_evaluation(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(4):
        (docs / f"{number}.txt").write_text(article(number))
    (docs / "known.txt").write_text(f"{article(5)} {ASKED}")
    gather.run(GatherConfig(files=FilesConfig(folder=str(docs))), tmp_path / "run")
    written(tmp_path, "exam.jsonl")
    config = CleanConfig(decontaminate=DecontaminateConfig(files=(str(tmp_path / "exam.jsonl"),)))
    corpus = clean.run(config, tmp_path / "run")
    assert corpus.metrics["dropped"] == {"contaminated": 1}
    (reject,) = map(json.loads, (corpus.path / "rejects.jsonl").read_text().splitlines())
    assert (reject["reason"], reject["evaluation"]) == ("contaminated", "exam.jsonl")
    assert str(tmp_path) not in (corpus.path / "manifest.json").read_text()
    assert not clean.run(config, tmp_path / "run").fresh
    (tmp_path / "exam.jsonl").write_text(json.dumps({"q": "Other words. " * 20}))
    assert clean.run(config, tmp_path / "run").metrics["dropped"] == {}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{cut", "a.json cannot be read"),
        ("a.txt", "short", "set words lower"),
        ("a.parquet", "none", "cannot be read"),
    ],
)
def test_unusable_evaluations_are_one_line(
    name: str, content: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        Evaluations.read(DecontaminateConfig(files=(str(tmp_path),)))
    missing: Any = DecontaminateConfig(files=(str(tmp_path / "none"),))
    with pytest.raises(DataError, match="no file"):
        missing.fingerprint()
