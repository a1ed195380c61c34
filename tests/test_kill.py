"""kill -9 in the middle of each stage, then the same command: the same artifact in the end."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_pipeline import ENVIRONMENT, STAGES, Finished, finished_run, start_words

pytestmark = pytest.mark.slow

ATTEMPTS = 5
"""A stage that ends before it could be killed has shown nothing and is started anew."""


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_run(tmp_path_factory.getbasetemp() / "pipeline")


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def in_round(run: Finished, number: int) -> bool:
    """One client has trained in this round and the round is not over."""
    ledgers = run.path.glob("silos/*/ledger.jsonl")
    return any(f'"round":{number},' in line and '"kind":"train"' in line
               for ledger in ledgers for line in ledger.read_text("utf-8").splitlines())


PARENTS = {
    "gather": (),
    "clean": ("gather",),
    "pretrain": ("clean",),
    "federate": ("pretrain", "shards"),
    "compare": ("clean", "pretrain", "shards", "federate"),
    "release": ("gather", "clean", "pretrain", "federate", "compare"),
}
Halfway = Callable[[Finished, Path], bool]
POINTS: list[tuple[str, str, Halfway]] = [
    ("gather", "pages are fetched", lambda _, p: lines_of(p / "access-log.jsonl") > 20),
    ("clean", "pages are examined", lambda _, p: lines_of(p / "examined.jsonl") > 5),
    ("pretrain", "before a checkpoint", lambda _, p: lines_of(p / "metrics.jsonl") > 2),
    ("pretrain", "after checkpoints", lambda _, p: (p / "checkpoints/step-00000020").exists()),
    ("federate", "in the first round", lambda run, _: in_round(run, 0)),
    ("federate", "in a later round", lambda run, _: in_round(run, 1)),
    ("federate", "clients personalise", lambda _, p: (p / "clients.json").exists()),
    ("compare", "the first arm is done", lambda _, p: (p / "arms/base.json").exists()),
    ("compare", "the centralised arm is done", lambda _, p: (p / "arms/centralised.json").exists()),
    ("release", "the model is copied", lambda _, p: (p / "model.safetensors").exists()),
]


def kill_halfway(run: Finished, stage: str, halfway: Halfway) -> str:
    """Start a stage and kill it at a point; "" if it was over before, else what it had said."""
    partial = run.path / f"{STAGES[stage]}.partial"
    log = run.path.with_suffix(".log")
    with open(log, "wb") as said, subprocess.Popen(
        start_words(stage, *run.arguments()), env=ENVIRONMENT, stdout=said, stderr=said
    ) as process:
        while not halfway(run, partial) and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    return "killed" if process.returncode == -9 and partial.exists() else ""


@pytest.mark.parametrize(("stage", "point", "halfway"), POINTS, ids=[f"{s}, {p}" for s, p, _ in POINTS])
def test_a_killed_stage_ends_as_an_unbroken_one(
    unbroken: Finished, tmp_path: Path, stage: str, point: str, halfway: Halfway
) -> None:
    for attempt in range(ATTEMPTS):
        run = unbroken.copy(tmp_path / f"cut-{attempt}", *PARENTS[stage])
        if kill_halfway(run, stage, halfway):
            break
        shutil.rmtree(run.path)
    else:
        pytest.fail(f"{stage} was never found where {point}")
    assert not (run.path / STAGES[stage]).exists()
    said = run.call(stage).stderr
    assert f"{stage}: done" in said
    assert run.digest(stage) == unbroken.digest(stage)
    for weights in (run.path / STAGES[stage]).glob("*.safetensors"):
        assert weights.read_bytes() == (
            unbroken.path / STAGES[stage] / weights.name
        ).read_bytes()
    assert not (run.path / f"{STAGES[stage]}.partial").exists()
