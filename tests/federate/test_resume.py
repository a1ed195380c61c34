"""What a run remembers survives a power cut, and does not depend on who serves the silos.

Everything with a memory at once: the server optimizer's moments, the codec's residuals, control
variates, Ditto's personal models, withheld tensors, what is under way on the virtual clock.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from commonroot.progress import MetricsLog
from federate.bounds import SiloBounds
from federate.compression.codec import CodecConfig
from federate.engines import inprocess
from federate.local import LocalSteps, Workbench
from federate.pacing.devices import DeviceProfile, DevicesConfig
from federate.pacing.modes import PacingConfig
from federate.personalize import PersonalConfig
from federate.plan import FederateConfig, Plan
from federate.population import Population
from federate.rounds import run_rounds
from federate.roundstate import FINAL, newest_round, read_round
from federate.shards.stage import Client
from federate.wire import fingerprint
from flowerapp.frame import pack, unpack

STEPS = {"steps": 2, "batch": 2, "lr": 2e-3}
DITTO = PersonalConfig(**STEPS, method="ditto")
SPREAD = DevicesConfig(
    profiles=(
        DeviceProfile(name="fast", tokens_per_s=1000, dropout=0.2),
        DeviceProfile(name="slow", tokens_per_s=100, dropout=0.2),
    ),
    jitter=0.2,
    adapt=True,
    target_s=1.5,
    seed=1,
)
FEDBUFF = PacingConfig(mode="fedbuff", concurrency=3, buffer=2, timeout_s=6)
LATE = PacingConfig(mode="deadline", deadline_s=2, timeout_s=6, late="use", over_selection=1.5)
COARSE = CodecConfig(bits=16, stochastic=True)

CASES: dict[str, dict[str, Any]] = {
    "moments, residuals, ditto": {
        "strategy": "fedadam",
        "up": CodecConfig(bits=1),
        "personal": DITTO,
    },
    "control variates, residuals": {"strategy": "scaffold", "up": COARSE, "down": COARSE},
    "momentum, withheld tensors": {
        "strategy": "mimelite",
        "silo": SiloBounds(piece_chars=400, share=("model.layers.*",)),
    },
    "asynchronous, all of it": {
        "strategy": "scaffold",
        "up": COARSE,
        "down": COARSE,
        "personal": DITTO,
        "pacing": FEDBUFF,
        "devices": SPREAD,
        "rounds": 5,
    },
    "late replies, moments": {
        "strategy": "fedyogi",
        "pacing": LATE,
        "devices": SPREAD,
        "quorum": 0.3,
        "rounds": 5,
        "test_clients": 3,
    },
}


class PowerCut(BaseException):
    """Not an Exception: nothing in the product may catch it."""


@dataclass
class Power:
    """Goes out after so many answers of silos."""

    left: int = 10**9
    answers: list[str] = field(default_factory=list)

    def spend(self, kind: str) -> None:
        self.answers.append(kind)
        self.left -= 1
        if not self.left:
            raise PowerCut


class Wired(dict):  # type: ignore[type-arg]
    """Silos that answer as long as there is power: their own state is on disk by then."""

    def __init__(self, silos: Population, power: Power) -> None:
        super().__init__({name: _Wired(silos, name, power) for name in silos})


@dataclass
class _Wired:
    silos: Population
    name: str
    power: Power

    def answer(self, header: dict[str, Any], buffers: dict[str, bytes]) -> Any:
        answer = self.silos[self.name].answer(header, buffers)
        self.power.spend(header["kind"])
        return answer


@dataclass
class Runs:
    """Runs of one case over the same five shards, each in a folder of its own."""

    root: Path
    base: Path
    bench: Workbench
    clients: list[Client]

    def go(self, name: str, case: dict[str, Any], power: Power | None = None) -> "Runs":
        """Start, or go on."""
        config = _config(case)
        silos = Population(self.clients, self.root / name / "silos", self.bench, config.silo)
        work = self.root / name / "work"
        work.mkdir(parents=True, exist_ok=True)
        plan = Plan("run1", work, self.base, len(silos), config)
        wired = Wired(silos, power) if power else silos
        inprocess.run(lambda g: run_rounds(g, plan), wired, config.workers, config.compute.threads)
        return self

    def end(self, name: str) -> dict[str, Any]:
        """All that a run leaves: weights, optimizer, records, figures, and every silo's memory."""
        work = self.root / name / "work"
        state = newest_round(work / "rounds")
        assert state is not None
        rounds = MetricsLog(work / "metrics.jsonl").read()
        if "virtual_s" not in rounds[0]:
            del state.figures["pacer"]["now"]  # the real clock
        return {
            "final": fingerprint(read_round(work / "rounds" / FINAL).weights),
            "weights": fingerprint(state.weights),
            "strategy": fingerprint(state.strategy),
            "figures": state.figures,
            "rounds": rounds,
            "clients": json.loads((work / "clients.json").read_text()),
            "silos": {c.name: _kept(self.root / name / "silos" / c.name) for c in self.clients},
        }


def _config(case: dict[str, Any]) -> FederateConfig:
    plain: dict[str, Any] = {
        "rounds": 3,
        "cohort": 3,
        "local": LocalSteps(**STEPS),
        "personal": PersonalConfig(**STEPS),
        "evaluate_every": 2,
        "evaluate_blocks": 1,
        "test_blocks": 1,
        "silo": SiloBounds(piece_chars=400),
        "compute": {"threads": 1},
    }
    return FederateConfig(**(plain | case))


def _kept(home: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(home.glob("*.frame")):
        header, buffers = unpack(path.read_bytes())
        digests[path.name] = hashlib.sha256(pack(header, dict(sorted(buffers.items())))).hexdigest()
    return digests


@pytest.fixture
def runs(tmp_path: Path, tiny_run: Path, bench: Workbench, text: Callable[[int, int], str]) -> Runs:
    clients = []
    for seed, name in enumerate("abcde", start=60):
        folder = tmp_path / "shards" / name
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text(text(seed, 700))
        clients.append(Client(name, folder))
    return Runs(tmp_path, tiny_run / "3-base", bench, clients)


@pytest.mark.parametrize("case", CASES)
def test_a_run_cut_anywhere_ends_as_an_unbroken_one(runs: Runs, case: str) -> None:
    """Cut again and again: each time after some more answers of silos, whatever they were."""
    whole = Power()
    runs.go("whole", CASES[case], whole)
    assert whole.answers.count("train") >= 8
    cuts = 0
    for after in (6, 8, 9, 11, 13, 16, 18):
        try:
            runs.go("cut", CASES[case], Power(after))
        except PowerCut:
            cuts += 1
    runs.go("cut", CASES[case])
    assert cuts >= 4
    end = runs.end("cut")
    assert end == runs.end("whole")
    assert len(end["clients"]) == CASES[case].get("test_clients", 5)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["moments, residuals, ditto", "asynchronous, all of it"])
def test_workers_change_no_bit(runs: Runs, case: str) -> None:
    runs.go("alone", CASES[case])
    runs.go("two", CASES[case] | {"workers": 2})
    assert runs.end("two") == runs.end("alone")
