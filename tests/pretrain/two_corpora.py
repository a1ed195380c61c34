"""Two runs with a corpus each, and mixtures of them."""

from pathlib import Path
from typing import Any

from commonroot.artifact import Artifact, Workspace, build_artifact, load_artifact, text_sha256
from commonroot.config import Section
from pretrain import stage
from pretrain.mixture import Part, open_mixture
from pretrain.portion import Portion
from tests.conftest import make_text, tiny_pretrain


def seal(run_dir: Path, train: list[tuple[str, str]], heldout: list[tuple[str, str]]) -> Artifact:
    """A corpus of (source, text)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def make(work: Workspace) -> dict[str, int]:
        (work.path / "data").mkdir(exist_ok=True)
        for split, rows in {"train": train, "heldout": heldout}.items():
            table = pa.table({
                "text": [text for _, text in rows],
                "source": [source for source, _ in rows],
                "sha256": [text_sha256(text) for _, text in rows],
            })  # fmt: skip
            pq.write_table(table, work.path / "data" / f"{split}-00000.parquet")
        return {}

    return build_artifact(run_dir / "2-corpus", "corpus", [], Section(), make)


def documents(source: str, seeds: range) -> list[tuple[str, str]]:
    return [(source, make_text(seed, 200)) for seed in seeds]


def make_two(folder: Path) -> Path:
    """Runs `own` and `other` in `folder`, a corpus in each."""
    seal(
        folder / "own",
        [*documents("a.example", range(20)), *documents("b.example", range(20, 26))],
        [*documents("a.example", range(26, 29)), *documents("b.example", range(29, 30))],
    )
    apart = documents("c.example", range(100, 106)), documents("c.example", range(106, 108))
    seal(folder / "other", *apart)
    return folder


def parts(two: Path, own: float = 3.0, other: float = 1.0) -> dict[str, Part]:
    return {"own": Part(weight=own), "other": Part(corpus=str(two / "other"), weight=other)}


def opened(two: Path, settings: dict[str, Part]) -> list[Portion]:
    return open_mixture(settings, load_artifact(two / "own" / "2-corpus", "corpus"))


def mixed(two: Path, **changes: Any) -> stage.PretrainConfig:
    return tiny_pretrain(**({"mixture": parts(two)} | changes))
