"""What several packages' tests share: generated text, and a tiny base model trained on it."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from commonroot.artifact import Artifact, Workspace, build_artifact
from commonroot.config import Section

if TYPE_CHECKING:
    from tests.finished_run import Finished

SYLLABLES = ["ba", "ko", "ri", "ne", "tu", "sal", "mor", "vi", "den", "a", "lo", "pe"]


def make_text(seed: int, words: int) -> str:
    """Prose-like text of a made-up language; other seeds prefer other words."""
    rng = np.random.default_rng(seed)
    lexicon = ["".join(rng.choice(SYLLABLES, rng.integers(1, 4))) for _ in range(300)]
    picks = np.minimum(rng.zipf(1.4, words) - 1, len(lexicon) - 1)
    sentences = [
        " ".join(lexicon[i] for i in picks[start : start + 9]).capitalize() + "."
        for start in range(0, words, 9)
    ]
    return " ".join(sentences)


@pytest.fixture(scope="session")
def text() -> Callable[[int, int], str]:
    return make_text


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a sealed corpus and base model of 0.1M parameters."""
    run_dir = tmp_path_factory.mktemp("tiny")
    build_corpus(run_dir, range(30))
    from pretrain import stage

    stage.run(tiny_pretrain(), run_dir)
    return run_dir


def build_corpus(run_dir: Path, seeds: range) -> Artifact:
    """Seal a corpus of generated documents as `run_dir`/2-corpus."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def make(work: Workspace) -> dict[str, int]:
        (work.path / "data").mkdir(exist_ok=True)
        documents = [make_text(seed, 200) for seed in seeds]
        for split, texts in {"train": documents[3:], "heldout": documents[:3]}.items():
            table = pa.table({"text": texts})
            pq.write_table(table, work.path / "data" / f"{split}-00000.parquet")
        return {"documents": len(documents)}

    return build_artifact(run_dir / "2-corpus", "corpus", [], Section(), make)


def tiny_pretrain(**changes: object):  # type: ignore[no-untyped-def]
    from pretrain.evaluate import EvaluateConfig
    from pretrain.model import Compute, ModelShape
    from pretrain.stage import PretrainConfig

    shape = ModelShape(hidden=32, layers=2, heads=2, kv_heads=1, intermediate=64, vocab=400)
    settings = {
        "tokens": 12 * 4 * 64,
        "context": 64,
        "batch": 4,
        "warmup": 2,
        "eval_blocks": 8,
        "checkpoint_every": 3,
        "prompts": ["Ba"],
        "evaluate": EvaluateConfig(pairs=2),
        "model": shape,
        "compute": Compute(threads=1, dtype="fp32"),
    }
    return PretrainConfig(**(settings | changes))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> "Finished":
    """The one finished run of the session; tests that change something work on a copy."""
    from tests.finished_run import finished_run

    return finished_run(tmp_path_factory.getbasetemp() / "pipeline")


@pytest.fixture
def copied(whole: "Finished", tmp_path: Path) -> "Finished":
    return whole.copy(tmp_path / "copy")
