"""Pieces of a comparison made by several processes, each with a model of its own.

A finished piece is a file, so the processes need nothing of each other: they fill the folder, and
the comparison then finds its pieces done. All compute with the rounds' number of threads, so it
changes no bit who made what, or how many did.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from commonroot.progress import bar
from federate.comparison.study import Piece, Study
from federate.engines.workers import Workers
from federate.silo_server import SiloLike
from flowerapp.frame import pack

__all__ = ["make_ahead"]


def make_ahead(open_study: Callable[[], Study], study: Study, number: int) -> None:
    """Have the workers of the rounds make all pieces of seed `number`; with fewer than two, none.

    `open_study` is pickled to them. What a worker fails at is left for this process, which then
    fails in the open.
    """
    count, threads = study.rounds.workers, study.rounds.compute.threads
    pieces = study.pieces(study.trial(number), number)
    missing = {name: piece for name, piece in pieces.items() if not study.has(name)}
    if count < 2 or not missing:
        return
    desks = _Desks(open_study, number)
    total = sum(piece.passes for piece in missing.values())
    with (
        bar(total, f"compare, seed {number}", "passes") as shown,
        # Hanging up on the workers ends what the threads wait for: so they are closed last.
        ThreadPoolExecutor(count) as turns,
        Workers(desks, count, threads) as workers,
    ):
        asked = {turns.submit(workers.ask, name, pack({}, {})): name for name in missing}
        for answer in as_completed(asked):
            with contextlib.suppress(ConnectionError):  # a worker that died
                answer.result()
            shown.advance(missing[asked[answer]].passes)


@dataclass
class _Desks(Mapping[str, SiloLike]):
    """Where a worker finds each piece by its name, as it would find a silo."""

    open_study: Callable[[], Study]
    number: int

    @cached_property
    def study(self) -> Study:
        study = self.open_study()
        if study.section.tune:
            study.tune()  # done before: the rates are read
        return study

    @cached_property
    def pieces(self) -> dict[str, Piece]:
        return self.study.pieces(self.study.trial(self.number), self.number)

    def __getitem__(self, name: str) -> SiloLike:
        return _Desk(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.pieces)

    def __len__(self) -> int:
        return len(self.pieces)


@dataclass(frozen=True)
class _Desk:
    desks: _Desks
    name: str

    def answer(
        self, header: dict[str, Any], buffers: dict[str, bytes]
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        del header, buffers  # the name says all
        with contextlib.redirect_stderr(io.StringIO()):  # its bars would cross the parent's
            self.desks.study.keep(self.name, self.desks.pieces[self.name])
        return {}, {}
