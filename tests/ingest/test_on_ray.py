"""Cleaning on a Ray cluster gives the same corpus as on one machine."""

import shutil
from pathlib import Path

import pytest

from commonroot.artifact import Artifact
from commonroot.errors import EngineError
from ingest import clean, on_ray
from ingest.isolate import Limits, Lost
from ingest.on_ray import run_on_ray
from tests.ingest.conftest import demo_cleaning

pytestmark = [
    pytest.mark.slow,
    # Ray drops the processes that it has stopped without waiting for them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def square_or_die(number: int) -> int:
    if number == 7:
        raise ValueError("seven")
    return number * number


def test_results_come_with_their_jobs_over_many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "BATCH", 8)
    done = dict(run_on_ray(square_or_die, range(30), Limits(), 1, ""))
    assert done.pop(7) == Lost("ValueError")
    assert done == {number: number * number for number in range(30) if number != 7}


def test_the_corpus_is_that_of_one_machine(
    demo: tuple[Path, Artifact, Artifact], tmp_path: Path
) -> None:
    run_dir, _, local = demo
    shutil.copytree(run_dir / "1-web", tmp_path / "1-web")
    spread = clean.run(demo_cleaning().model_copy(update={"executor": "ray"}), tmp_path)
    assert spread.digest == local.digest
    assert spread.metrics == local.metrics


def test_a_cluster_out_of_reach_is_one_line() -> None:
    with pytest.raises(EngineError, match=r"no Ray cluster at 127\.0\.0\.1:1") as caught:
        list(run_on_ray(square_or_die, [1], Limits(), 1, "127.0.0.1:1"))
    assert "\n" not in str(caught.value)
