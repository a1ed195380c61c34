"""A job that hangs, eats memory or dies costs itself and nothing else."""

import os
import signal

import pytest

from ingest.examine import ExamineConfig, Finding, Job, examine
from ingest.isolate import Limits, Lost, run_isolated


def _work(job: str) -> str:
    if job == "spin":
        while True:
            pass
    if job == "eat":
        return str(len(bytearray(8 * 2**30)))
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "raise":
        raise ValueError("no")
    return job.upper()


@pytest.mark.slow
def test_every_job_gets_an_answer() -> None:
    jobs = ["a", "die", "b", "raise", "c", "spin", "d", "eat", "e"]
    results = dict(run_isolated(_work, jobs, Limits(cpu_s=1, memory=2 * 2**30), 2))
    assert {job: result for job, result in results.items() if isinstance(result, str)} == {
        name: name.upper() for name in "abcde"
    }
    lost = {job: result.reason for job, result in results.items() if isinstance(result, Lost)}
    assert lost == {
        "die": "crash",
        "raise": "ValueError",
        "spin": "cpu-limit",
        "eat": "memory-limit",
    }


def test_no_jobs() -> None:
    assert list(run_isolated(_work, [], Limits(), 1)) == []


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 20_000 + "deep" + "</div>" * 20_000,
        "<!--" * 30_000,
        "<table><tr><td>" * 3_000 + "<p>x",
        "<a href='" * 20_000,
        "&#x0;<p>\x00\x01" * 1000,
        "<svg><script>" * 3_000,
    ],
)
def test_hostile_pages_are_survived(page: str) -> None:
    job = Job(
        "http://x.example/", 0, "", (("Content-Type", "text/html"),), page.encode(), ExamineConfig()
    )
    good = Job(
        "http://x.example/good",
        1,
        "",
        (("Content-Type", "text/plain"),),
        b"fine words",
        ExamineConfig(),
    )
    results = {
        j.url: result for j, result in run_isolated(examine, [job, good], Limits(cpu_s=3), 1)
    }
    assert len(results) == 2
    survivor = results["http://x.example/good"]
    assert isinstance(survivor, Finding)
    assert survivor.reason is not None


def test_what_shared_a_batch_with_a_killer_is_done_all_the_same() -> None:
    """Jobs travel together; one that dies takes no other with it."""
    jobs = [*map(str, range(60)), "die", *map(str, range(60, 90))]
    results = list(run_isolated(_work, jobs, Limits(cpu_s=5), 1))
    assert sorted(job for job, _ in results) == sorted(jobs)
    assert [(job, result) for job, result in results if isinstance(result, Lost)] == [
        ("die", Lost("crash"))
    ]
