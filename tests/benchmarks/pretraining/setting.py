"""What small benchmarks of pretraining stand on: a corpus of generated text, and real commands."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.federated.setting import TINY, call, write_tables

__all__ = ["SMALLEST", "corpus", "made_by", "pretrain", "run_folder", "same", "weights", "words"]

DOCUMENTS = 400
"""Of 200 made-up words each: 0.4 MB, enough for what does not depend on what a model learns."""

SMALLEST: dict[str, Any] = {**TINY, "evaluate": {"points": 0, "sources": 0, "pairs": 0}}
"""As little beside training as can be."""


def corpus(work: Path) -> Path:
    """A run folder that holds nothing but a corpus of generated text."""
    from tests.conftest import build_corpus

    build_corpus(work, range(DOCUMENTS))
    return work


def run_folder(corpus_run: Path, folder: Path) -> Path:
    """An empty run folder over the same corpus."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "2-corpus").symlink_to((corpus_run / "2-corpus").resolve(), target_is_directory=True)
    return folder


def words(run: Path, table: Mapping[str, Any]) -> list[str | Path]:
    """The `pretrain` command over `run`, its config written beside."""
    config = write_tables(run / "config.toml", {"pretrain": table})
    return ["pretrain", "--config", config, "--run", run]


def pretrain(run: Path, table: Mapping[str, Any]) -> Path:
    """Run the command to its end; the base model's folder."""
    call(run / "said.log", *words(run, table))
    return run / "3-base"


def weights(base: Path) -> str:
    """Digest of a base model's weights."""
    return hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()


def same(base: Path, other: Path) -> bool:
    """Whether two base models have equal weights, and all else that their digests cover."""
    manifests = (json.loads((b / "manifest.json").read_text("utf-8")) for b in (base, other))
    return weights(base) == weights(other) and len({one["digest"] for one in manifests}) == 1


def made_by(line: int) -> str:
    """The command that measures a line."""
    return f"python -m tests.benchmarks.pretrain --only {line}"
