"""Whole tiny federated runs for the tests of algorithms: real silos, real rounds, one process."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federate.engines import inprocess
from federate.local import LocalSteps, Workbench
from federate.personalize import PersonalConfig
from federate.plan import FederateConfig, Plan
from federate.rounds import run_rounds
from federate.roundstate import FINAL, read_round
from federate.silo import Silo, SiloBounds
from federate.wire import fingerprint
from tests.conftest import make_text

__all__ = ["Ran", "Spy", "federate", "open_silos"]


class Spy:
    """A silo in front of a real one, that writes down what is asked and what leaves."""

    def __init__(self, silo: Silo) -> None:
        self.silo = silo
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.left: list[tuple[str, dict[str, bytes]]] = []

    def answer(self, header: dict[str, Any], buffers: dict[str, bytes]) -> Any:
        kind, text = header["kind"], header["config"].get("ask") or "{}"
        self.asked.append((kind, json.loads(text)))
        reply, out = self.silo.answer(header, buffers)
        self.left.append((kind, out))
        return reply, out


@dataclass
class Ran:
    """What a run left behind."""

    plan: Plan
    silos: Mapping[str, Spy]
    rounds: list[dict[str, Any]] = field(init=False)
    """A record a round."""
    clients: dict[str, Any] = field(init=False)
    """The last evaluation, a row a client."""

    def __post_init__(self) -> None:
        lines = (self.plan.work / "metrics.jsonl").read_text().splitlines()
        self.rounds = [json.loads(line) for line in lines]
        self.clients = json.loads((self.plan.work / "clients.json").read_text())

    @property
    def weights(self) -> dict[str, Any]:
        """The tensors that clients are sent after the last round."""
        return read_round(self.plan.work / "rounds" / FINAL).weights

    @property
    def digest(self) -> str:
        return fingerprint(self.weights)

    def bytes(self, way: str) -> int:
        return sum(int(record[f"bytes_{way}"]) for record in self.rounds)


def open_silos(folder: Path, bench: Workbench, names: str = "abc") -> dict[str, Spy]:
    """Silos over generated text in `folder`; a second call opens the same ones anew."""
    silos = {}
    for name in names:
        shard = folder / "shards" / name
        shard.mkdir(parents=True, exist_ok=True)
        (shard / "notes.txt").write_text(make_text(ord(name), 900))
        bounds = SiloBounds(piece_chars=400)
        silos[name] = Spy(Silo(name, shard, folder / "homes" / name, bench, bounds))
    return silos


def federate(folder: Path, bench: Workbench, names: str = "abc", **changes: Any) -> Ran:
    """A run of two rounds over three clients, unless `changes` say otherwise."""
    silos = open_silos(folder, bench, names)
    work = folder / "work"
    work.mkdir(exist_ok=True)
    plain = {
        "rounds": 2,
        "cohort": 3,
        "local": LocalSteps(steps=2, batch=2, lr=2e-3),
        "personal": PersonalConfig(steps=1, batch=1, lr=1e-3),
        "evaluate_blocks": 2,
        "test_blocks": 2,
    }
    plan = Plan("run1", work, bench.base, len(names), FederateConfig(**(plain | changes)))
    inprocess.run(lambda grid: run_rounds(grid, plan), silos)
    return Ran(plan, silos)
