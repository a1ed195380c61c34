"""kill -9 in the middle of each stage, then the same command: the same artifact in the end."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.finished_run import ENVIRONMENT, STAGES, Finished, finished_run, start_words

pytestmark = pytest.mark.slow

ATTEMPTS = 5
"""A stage that is over before it could be killed has shown nothing: it is started anew."""


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_run(tmp_path_factory.getbasetemp() / "pipeline")


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def in_round(run: Finished, number: int) -> bool:
    """One client has trained in this round and the round is not over."""
    ledgers = run.path.glob("silos/*/ledger.jsonl")
    return any(
        f'"round":{number},' in line and '"kind":"train"' in line
        for ledger in ledgers
        for line in ledger.read_text("utf-8").splitlines()
    )


PARENTS: dict[str, tuple[str, ...]] = {
    "gather": ("shards",),
    "clean": ("gather",),
    "pretrain": ("clean",),
    "federate": ("pretrain", "shards"),
    "compare": ("clean", "pretrain", "shards", "federate"),
    "release": ("gather", "clean", "pretrain", "federate", "compare"),
}
CRAWL = "gather.demo.pages=400"
"""The crawl of the session's run is over before one can look."""
Halfway = Callable[[Finished, Path], bool]
POINTS: dict[str, tuple[str, Halfway]] = {
    "half of the pages": ("gather", lambda _, p: lines_of(p / "access-log.jsonl") > 240),
    "some pages examined": ("clean", lambda _, p: lines_of(p / "examined.jsonl") > 5),
    "some checkpoints": ("pretrain", lambda _, p: (p / "checkpoints/step-00000020").exists()),
    "in a round": ("federate", lambda run, _: in_round(run, 1)),
    "clients personalise": ("federate", lambda _, p: (p / "clients.json").exists()),
    "some arms": ("compare", lambda _, p: (p / "arms/centralised.json").exists()),
    "model copied": ("release", lambda _, p: (p / "model.safetensors").exists()),
}


def killed_halfway(run: Finished, stage: str, halfway: Halfway, *changes: str) -> bool:
    """Start a stage and kill it at a point; False if it was over before."""
    partial = run.path / f"{STAGES[stage]}.partial"
    with subprocess.Popen(
        start_words(stage, *run.arguments(*changes)),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not halfway(run, partial) and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    return process.returncode == -signal.SIGKILL and partial.exists()


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_stage_ends_as_an_unbroken_one(
    unbroken: Finished, tmp_path: Path, point: str
) -> None:
    stage, halfway = POINTS[point]
    changes = [CRAWL] if stage == "gather" else []
    if changes:
        unbroken = unbroken.copy(tmp_path / "unbroken", "shards")
        unbroken.call(stage, *changes)
    for attempt in range(ATTEMPTS):
        run = unbroken.copy(tmp_path / f"cut-{attempt}", *PARENTS[stage])
        if killed_halfway(run, stage, halfway, *changes):
            break
        shutil.rmtree(run.path)
    else:
        pytest.fail(f"{stage} was never found at {point!r}")
    assert not (run.path / STAGES[stage]).exists()
    assert f"{stage}: done" in run.call(stage, *changes).stderr
    assert run.digest(stage) == unbroken.digest(stage)
    ours, theirs = run.path / STAGES[stage], unbroken.path / STAGES[stage]
    for weights in theirs.glob("*.safetensors"):
        assert (ours / weights.name).read_bytes() == weights.read_bytes()
    assert not ours.with_name(ours.name + ".partial").exists()
    if stage == "gather":  # what was fetched before the kill is not fetched again
        fetched = lines_of(ours / "access-log.jsonl")
        assert fetched < 1.25 * lines_of(theirs / "access-log.jsonl")


DIE_SEALING = (
    "import os, commonroot.artifact as artifact\n"
    "artifact._describe = lambda *_: os.kill(os.getpid(), 9)\n"
    "from commonroot.cli import main\n"
    "main()"
)


def test_a_kill_while_sealing_leaves_a_run_that_can_be_compared(
    unbroken: Finished, tmp_path: Path
) -> None:
    """By then the rounds' records are gone: they start over, and the silos must go along."""
    run = unbroken.copy(tmp_path / "cut", "clean", "pretrain", "shards")
    words = [sys.executable, "-c", DIE_SEALING, "federate", *run.arguments()]
    assert subprocess.run(words, env=ENVIRONMENT, capture_output=True).returncode == -9
    for stage in ("federate", "compare"):
        run.call(stage)
        assert run.digest(stage) == unbroken.digest(stage)
