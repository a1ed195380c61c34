"""The same work on a Ray cluster: batches of jobs go out, each to a worker that isolates them.

What comes back does not depend on the number of machines: a job's result is that of `run_isolated`,
and the order is nobody's concern.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from commonroot.errors import EngineError
from ingest.isolate import Limits, Lost, run_isolated

__all__ = ["run_on_ray"]

J = TypeVar("J")
R = TypeVar("R")

AT_ONCE = 2
"""Batches a worker that are under way: one is worked on while the next one travels."""
BATCH = 200
"""Jobs in one; each costs the start of a process, which is worth a second or two."""


def run_on_ray(
    work: Callable[[J], R], jobs: Iterable[J], limits: Limits, workers: int, address: str
) -> Iterator[tuple[J, R | Lost]]:
    """As `run_isolated`, on the cluster at `address`; "": one on this machine's loopback.

    Raises EngineError if the cluster cannot be reached or gives a batch up.
    """
    import ray

    with _connected(address, workers):
        remote = ray.remote(num_cpus=1, max_retries=3)(_batch)
        source = iter(jobs)
        waiting = iter(lambda: tuple(islice(source, BATCH)), ())
        under_way = {
            remote.remote(work, batch, limits): batch
            for batch in islice(waiting, AT_ONCE * workers)
        }
        while under_way:
            (done,), _ = ray.wait(list(under_way), num_returns=1)
            batch = under_way.pop(done)
            try:
                results = ray.get(done)
            except ray.exceptions.RayError as error:
                raise EngineError(f"Ray gave a batch up: {type(error).__name__}") from None
            yield from zip(batch, results, strict=True)
            if following := next(waiting, None):
                under_way[remote.remote(work, following, limits)] = following


@contextlib.contextmanager
def _connected(address: str, workers: int) -> Iterator[None]:
    import ray

    own: dict[str, Any] = {
        "num_cpus": workers,
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
    }
    # The behaviour of later versions; without it Ray warns of them.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        _knock(address)
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(own if not address else {}),
        )
    except Exception as error:  # of many kinds: no such host, another version
        ray.shutdown()
        said = str(error).strip().splitlines()
        raise EngineError(
            f"no Ray cluster at {address or 'this machine'}: "
            f"{said[0][:160] if said else type(error).__name__}"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself tries for minutes. Raises OSError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def _batch(work: Callable[[Any], Any], jobs: tuple[Any, ...], limits: Limits) -> list[Any]:
    """Results in the order of the jobs."""
    places = {id(job): place for place, job in enumerate(jobs)}
    results: list[Any] = [None] * len(jobs)
    for job, result in run_isolated(work, jobs, limits, 1):
        results[places[id(job)]] = result
    return results
