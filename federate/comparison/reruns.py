"""Federated rounds made again inside the comparison: another seed, other data, another start.

They run in this process over silos with homes of their own, are resumed after a kill, and their
messages go the same way as those of the stage.
"""

import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from commonroot.artifact import write_atomic
from commonroot.errors import RoundError
from commonroot.progress import MetricsLog, say
from federate.comparison.arms import Federated, put
from federate.local import Workbench
from federate.plan import FederateConfig, Plan
from federate.private_text import Split
from federate.shards.tables import document_text
from federate.silo import Silo
from pretrain.packing import Blocks
from pretrain.records import Document

__all__ = ["Reruns", "deal", "short_end", "validation_curve"]


@dataclass
class _Double(Silo):
    """A silo with another home, bench or training text; validation and test text stay."""

    held: Split | None = None
    packed: Blocks | None = None

    @cached_property
    def split(self) -> Split:
        assert self.held
        return self.held

    @cached_property
    def blocks(self) -> Blocks:
        return self.packed or self.bench.pack(self.split.train)


@dataclass
class Reruns:
    """Where they work."""

    folder: Path
    """For checkpoints and records of rounds."""
    homes: Path
    """For the silos' own folders."""
    silos: Mapping[str, Silo]
    """The clients as they are."""

    def again(
        self,
        name: str,
        config: FederateConfig,
        bench: Workbench,
        train: Mapping[str, list[Document]] | None = None,
    ) -> Federated:
        """The rounds of `config` from the model of `bench`; `name` keeps them apart from others.

        `train`: training text that clients get instead of their own.
        """
        work, silos = self.folder / name, self._doubles(name, bench, train)
        done = work / "done"
        if not done.exists():
            say(f"compare: {name}: {config.rounds} rounds")
            _through_rounds(work, config, bench, silos)
            write_atomic(done, "")
        return _read(work, config, bench, silos)

    def forget(self, name: str) -> None:
        """Delete what the silos of these rounds kept."""
        shutil.rmtree(self.homes / name, ignore_errors=True)

    def _doubles(
        self, name: str, bench: Workbench, train: Mapping[str, list[Document]] | None
    ) -> dict[str, Silo]:
        doubles: dict[str, Silo] = {}
        for client, silo in self.silos.items():
            split, packed = silo.split, silo.blocks
            if train and client in train:
                split = Split(train[client], split.validation, split.test)
                packed = bench.pack(split.train)
            home = self.homes / name / client
            doubles[client] = _Double(
                client, silo.shard, home, bench, silo.bounds, held=split, packed=packed
            )
        return doubles


def short_end(config: FederateConfig, **changes: object) -> FederateConfig:
    """`config` with as little as possible of what comes after the last round."""
    little = {"steps": 1, "batch": 1, "method": "finetune"}
    personal = config.personal.model_copy(update=little)
    end = {"personal": personal, "test_blocks": 1, "test_records": 0}
    return config.model_copy(update=end | changes)


def deal(silos: Mapping[str, Silo], names: Sequence[str], seed: int) -> dict[str, list[Document]]:
    """All these clients' training records, shuffled and dealt out in the sizes that they had.

    Everyone gets at least one record.
    """
    pool = [record for name in names for record in silos[name].split.train]
    order = iter(np.random.default_rng([seed, 977]).permutation(len(pool)))
    dealt: dict[str, list[Document]] = {name: [] for name in names}
    owed = 0
    left = len(pool)
    for place, name in enumerate(names):
        owed += sum(map(_size, silos[name].split.train))
        later = len(names) - place - 1
        while left > later and (not dealt[name] or not later or owed > 0):
            record = pool[int(next(order))]
            dealt[name].append(record)
            owed, left = owed - _size(record), left - 1
    return dealt


def validation_curve(work: Path) -> list[tuple[int, float]]:
    """Rounds done and validation bpb, out of a run's records."""
    rows = MetricsLog(work / "metrics.jsonl").read()
    return [
        (row["round"] + 1, row["validation_bpb"])
        for row in rows
        if row.get("validation_bpb") is not None
    ]


def _size(record: Document) -> int:
    return len(document_text(record).encode())


def _through_rounds(
    work: Path, config: FederateConfig, bench: Workbench, silos: Mapping[str, Silo]
) -> None:
    from federate.engines import inprocess
    from federate.rounds import run_rounds

    work.mkdir(parents=True, exist_ok=True)
    name = work / "run-name"
    if not name.exists():
        write_atomic(name, secrets.token_hex(8))
    put(bench, bench.base_weights)
    plan = Plan(name.read_text(), work, bench.base, len(silos), config)
    threads = config.compute.threads
    inprocess.run(lambda grid: run_rounds(grid, plan), silos, config.workers, threads)
    if all(record["void"] for record in MetricsLog(work / "metrics.jsonl").read()):
        raise RoundError("no round had its quorum: see the reasons above")


def _read(
    work: Path, config: FederateConfig, bench: Workbench, silos: Mapping[str, Silo]
) -> Federated:
    from federate.roundstate import FINAL, read_round

    bench.wear(config.lora)
    bench.load(read_round(work / "rounds" / FINAL).weights)
    weights = bench.merged()
    put(bench, weights)
    return Federated(
        run=(work / "run-name").read_text(),
        weights=weights,
        clients=json.loads((work / "clients.json").read_text("utf-8")),
        curve=validation_curve(work),
        tokens=sum(row["tokens"] for row in MetricsLog(work / "metrics.jsonl").read()),
        silos=silos,
    )
