"""Silos for tests of worker processes, which import this file."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine_echo import EchoSilo


class DiskSilo(EchoSilo):
    """Counts its requests in a file, as a silo keeps its state on disk; slower when even."""

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__(number)
        self.path = folder / f"{number}.txt"

    def answer(self, header: dict[str, Any], buffers: dict[str, bytes]) -> Any:
        if header["config"].get("die") == self.number and not self.path.exists():
            self.path.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        seen = self.path.read_text() if self.path.exists() else ""
        time.sleep(0.02 * (self.number % 2 == 0))
        self.path.write_text(seen + header["config"].get("word", "") + " ")
        answer, out = super().answer(header, buffers)
        answer["info"]["seen"], answer["info"]["pid"] = seen, os.getpid()
        return answer, out


class Unopenable(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise OSError("a path that nobody outside may see")

    def __iter__(self) -> Iterator[str]:
        return iter(["silo 0"])

    def __len__(self) -> int:
        return 1


class ThreadSilo:
    def answer(self, header: dict[str, Any], buffers: dict[str, bytes]) -> Any:
        import torch

        return {"variable": os.environ["OMP_NUM_THREADS"], "torch": torch.get_num_threads()}, {}


class Sleeper:
    """Says who it is, and sleeps for a minute."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def answer(self, header: dict[str, Any], buffers: dict[str, bytes]) -> Any:
        self.path.write_text(str(os.getpid()))
        time.sleep(60)
        self.path.write_text("slept well")
