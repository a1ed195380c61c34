"""Any number of simulated clients: a silo exists while it is asked, what it keeps lies on disk."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from commonroot.errors import DataError
from commonroot.progress import bar, say
from federate.local import Workbench
from federate.private_text import SUFFIXES
from federate.shards.stage import Client
from federate.silo import Silo, SiloBounds

__all__ = ["Population"]

WARM = 64
"""Clients whose split and packed text stays in memory."""
PURE = ("split", "blocks", "eval_sets")
"""What a silo derives from its shard alone, and may therefore be handed from one to the next."""
MOST_READ = 2000
"""Clients whose text is read before the first round: some milliseconds each."""
MOST_LINES = 20


class Population(Mapping[str, Silo]):
    """Client name -> silo, made anew for each request.

    Anew, because another process (federate.engines.workers) may have served the client since: its
    ledger and its state are read from its home each time. Pickled, it is a description of the
    clients: whoever unpickles it gets a cold workbench.
    """

    def __init__(
        self,
        clients: Iterable[Client],
        homes: Path,
        bench: Workbench,
        bounds: SiloBounds,
        warm: int = WARM,
    ) -> None:
        """`homes`/<client name> is a silo's own folder, `warm` how many keep their text packed."""
        self._shards = {client.name: str(client.folder) for client in clients}
        self.homes, self.bench, self.bounds, self.warm = homes, bench, bounds, warm
        self._recent: OrderedDict[str, Silo] = OrderedDict()

    def __getitem__(self, name: str) -> Silo:
        shard = Path(self._shards[name])
        silo = Silo(name, shard, self.homes / name, self.bench, self.bounds)
        if before := self._recent.pop(name, None):
            kept = {key: before.__dict__[key] for key in PURE if key in before.__dict__}
            silo.__dict__.update(kept)
        self._recent[name] = silo
        while len(self._recent) > self.warm:
            self._recent.popitem(last=False)
        return silo

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    def __contains__(self, name: object) -> bool:
        return name in self._shards  # Mapping's own would make the silo

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_recent": OrderedDict()}

    def leave_out_unusable(self, most_read: int = MOST_READ) -> dict[str, str]:
        """Drop the clients whose shard holds too little to be split; returns name -> reason.

        Up to `most_read` clients, each shard is read and split, one at a time. Of a larger
        population only folders without any readable kind of file are found here; a client whose
        text turns out to be too little refuses when it is asked. Raises DataError if no client
        is left.
        """
        left_out: dict[str, str] = {}
        lines: list[str] = []
        check = self._read if len(self) <= most_read else self._look
        with bar(len(self), "check shards", "clients") as shown:
            for name in list(self):
                try:
                    lines += check(name)
                except DataError as error:
                    left_out[name] = "no usable text"
                    lines.append(f"client {name} is left out: {error}")
                shown.advance()
        _say_some(lines)
        for name in left_out:
            del self._shards[name]
            self._recent.pop(name, None)
        if not self._shards:
            raise DataError("no client has usable text: see the lines above")
        return left_out

    def _read(self, name: str) -> list[str]:
        skipped = self[name].split.skipped
        counts = ", ".join(f"{count} {why}" for why, count in sorted(skipped.items()))
        return [f"client {name}: skipped {counts}"] if counts else []

    def _look(self, name: str) -> list[str]:
        folder = Path(self._shards[name])
        if not any(path.suffix in SUFFIXES for path in folder.rglob("*")):
            raise DataError(f"{folder} holds no text: add {', '.join(SUFFIXES)} files")
        return []


def _say_some(lines: list[str]) -> None:
    for line in lines[:MOST_LINES]:
        say(line)
    if len(lines) > MOST_LINES:
        say(f"… and {len(lines) - MOST_LINES} more lines of this kind")
