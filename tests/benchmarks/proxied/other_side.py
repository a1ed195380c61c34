"""The proxy and the web behind it, in a process of their own; its log is the witness.

One session in fifty dies after two answers: from then on the proxy hangs up on that name.
"""

import json
import multiprocessing
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.ingest.proxyserver import Asked, Proxy, certificates, serve_proxy

__all__ = ["hosts", "running"]

DIES_AFTER = 2
ONE_IN = 50


def hosts(count: int) -> list[str]:
    """Addresses of as many hosts, every second one https."""
    scheme = ("http", "https")
    return [f"{scheme[number % 2]}://h{number:05d}.site.example/" for number in range(count)]


class Web:
    """Every host has one page; sessions die as said above."""

    def __init__(self) -> None:
        self._answered: Counter[str] = Counter()
        self._doomed: set[str] = set()

    def dead(self, user: str) -> bool:
        if user not in self._answered:
            self._answered[user] = 0
            if len(self._answered) % ONE_IN == 0:
                self._doomed.add(user)
        return user in self._doomed and self._answered[user] >= DIES_AFTER

    def answer(self, user: str, url: str) -> tuple[int, dict[str, str], bytes]:
        if self.dead(user):
            return 0, {}, b""
        self._answered[user] += 1
        if url.count("/") > 3 and not url.endswith("/"):
            return 404, {}, b""  # robots.txt and its like
        return 200, {}, f"<p>This is the page of {url}".encode()

    def tunnel(self, user: str, host: str) -> int:
        return 0 if self.dead(user) else 200


def _serve(pipe: Any, folder: Path, slow_s: float, gather: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000) if hard > 0 else 20_000, hard))
    tls, authority = certificates(folder, "*.site.example")
    web = Web()
    with serve_proxy(Proxy(web.answer, web.tunnel, tls, slow_s, gather)) as proxy:
        pipe.send((proxy.address, str(authority)))
        pipe.recv()
        with open(folder / "proxy.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(line)) + "\n" for line in proxy.log)


class OtherSide:
    """Handle of that process."""

    def __init__(self, address: str, authority: str, folder: Path) -> None:
        self.address, self.authority, self._folder = address, authority, folder

    def log(self) -> list[Asked]:
        """All that was asked of the proxy; to be read when it has ended."""
        lines = (self._folder / "proxy.jsonl").read_text("utf-8").splitlines()
        return [Asked(**json.loads(line)) for line in lines]


@contextmanager
def running(folder: Path, slow_s: float, gather: int) -> Iterator[OtherSide]:
    """Answers wait until `gather` requests are under way, at most `slow_s` seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    process = context.Process(target=_serve, args=(other, folder, slow_s, gather))
    process.start()
    try:
        yield OtherSide(*mine.recv(), folder)
    finally:
        mine.send("end")
        process.join()
