"""Line 8: the same bits with 1 and 2 workers, and after a kill -9 at any point.

Each case is a `commonroot federate` process of a tiny model with everything that has a memory: the
server optimizer's moments, the codec's residuals, control variates, Ditto's personal models, what
is under way on the virtual clock. It runs unbroken, with two workers, and, from the same start,
killed at points drawn with a seed and run again. Compared are the artifact's digest (weights, the
records of all rounds, each client's figures) and what every silo keeps.
"""

import hashlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.federated.setting import (
    TINY,
    branch,
    call,
    folder_of,
    made_by,
    make_run,
    rounds_of,
    start,
    write_tables,
)
from tests.benchmarks.record import Result

__all__ = ["Ended", "compare", "line_8"]

KILLS = 30
WITH_WORKERS = 5
"""Every so many-th kill hits a run with two workers."""
LINE = 8
AFTER_MS = (0, 1, 5, 25, 100)
"""Milliseconds between a ledger line and the kill: while it trains, answers, saves, seals."""
ATTEMPTS = 5

PARENTS = {
    "pretrain": TINY,
    "shards": {"demo": True, "partition": {"how": "iid", "clients": 300}, "most_clients": 6},
}
STEPS = {"steps": 2, "batch": 2, "lr": 4e-3}
COMMON: dict[str, Any] = {
    "rounds": 3,
    "cohort": 3,
    "local": STEPS,
    "personal": STEPS,
    "evaluate_every": 1,
    "evaluate_blocks": 1,
    "test_blocks": 1,
    "compute": {"threads": 1},
    "silo": {"piece_chars": 400},
}
DITTO = {**STEPS, "method": "ditto"}
SPREAD = {
    "seed": 1,
    "adapt": True,
    "target_s": 0.7,
    "jitter": 0.2,
    "profiles": [
        {"name": "fast", "tokens_per_s": 1000.0, "dropout": 0.2},
        {"name": "slow", "tokens_per_s": 100.0, "dropout": 0.2},
    ],
}
PACING = {"timeout_s": 6.0, "deadline_s": 2.0}
FEDBUFF = {**PACING, "mode": "fedbuff", "concurrency": 3, "buffer": 2}
LATE = {**PACING, "mode": "deadline", "late": "use", "over_selection": 1.5}
CASES: dict[str, dict[str, Any]] = {
    "fedadam, residuals, ditto": {
        "strategy": "fedadam",
        "up": {"bits": 1.0},
        "personal": DITTO,
        "hold_out": 1,
    },
    "scaffold, residuals, bf16 down": {
        "strategy": "scaffold",
        "up": {"bits": 4.0, "stochastic": True},
        "down": {"bits": 16.0, "stochastic": True},
    },
    "mimelite, replay, withheld norms": {
        "strategy": "mimelite",
        "local": {**STEPS, "replay": 0.5},
        "silo": {"piece_chars": 400, "share": ["model.layers.*", "model.embed_tokens*"]},
    },
    "fedbuff, fedyogi, residuals, ditto": {
        "strategy": "fedyogi",
        "pacing": FEDBUFF,
        "devices": SPREAD,
        "up": {"bits": 2.0, "stochastic": True},
        "down": {"bits": 16.0, "stochastic": True},
        "personal": DITTO,
        "rounds": 4,
    },
    "deadline with late replies, scaffold": {
        "strategy": "scaffold",
        "pacing": LATE,
        "devices": SPREAD,
        "rounds": 5,
        "quorum": 0.3,
    },
    "lora, fedavgm, dual": {
        "strategy": "fedavgm",
        "server_lr": 0.5,
        "lora": {"rank": 4},
        "up": {"bits": 2.0},
        "personal": {**STEPS, "method": "dual"},
    },
}


@dataclass(frozen=True)
class Ended:
    """What a finished run leaves, without its name, which is drawn."""

    digest: str
    """Of the artifact: config, weights, records, figures."""
    weights: str
    records: Sequence[Any]
    """Of all rounds, and each client's figures."""
    silos: Mapping[str, str]
    """Client -> digest of all that its silo keeps for later."""

    @classmethod
    def of(cls, run: Path) -> "Ended":
        made = run / "5-federated"
        weights = hashlib.sha256((made / "model.safetensors").read_bytes()).hexdigest()
        records = [*rounds_of(run), json.loads((made / "clients.json").read_text("utf-8"))]
        digest = json.loads((made / "manifest.json").read_text("utf-8"))["digest"]
        homes = sorted(path for path in (run / "silos").iterdir() if path.is_dir())
        return cls(digest, weights, records, {home.name: kept(home) for home in homes})


def kept(home: Path) -> str:
    """Digest of a silo's state and personal model, without the run's name."""
    from flowerapp.frame import unpack

    digest = hashlib.sha256()
    for name in ("state.frame", "personal.frame"):
        path = home / name
        if not path.exists():
            continue
        header, buffers = unpack(path.read_bytes())
        header.pop("run")
        digest.update(json.dumps([name, header], sort_keys=True).encode())
        for key in sorted(buffers):
            digest.update(key.encode() + b"\0" + buffers[key])
    return digest.hexdigest()


def compare(one: Ended, other: Ended, digests: bool = True) -> list[str]:
    """What differs: nothing, if all is well."""
    found = [what for what in ("weights", "records") if getattr(one, what) != getattr(other, what)]
    if digests and one.digest != other.digest:
        found.append("artifact")
    names = one.silos.keys() | other.silos.keys()
    return found + [f"silo {n}" for n in sorted(names) if one.silos.get(n) != other.silos.get(n)]


def line_8(result: Result, work: Path, quick: bool = False) -> None:
    """Workers and kills; `quick`: two cases, each killed once."""
    parents = make_run(work / "parents", PARENTS)
    names = list(CASES)[: 2 if quick else None]
    whole = {(n, w): _whole(parents, work, n, w) for n in names for w in (1, 2)}
    apart = {
        name: compare(Ended.of(whole[name, 1]), Ended.of(whole[name, 2]), digests=False)
        for name in names
    }
    killed = []
    for number in range(len(names) if quick else KILLS):
        name = names[number % len(names)]
        workers = 2 if number % WITH_WORKERS == WITH_WORKERS - 1 else 1
        killed.append(_broken(parents, work, name, number, workers, whole[name, workers]))
    differ = [one for one in killed if one["differs"]]
    places = sorted(one["in"] for one in killed)
    value = {
        "cases": names,
        "one_and_two_workers_differ_in": {name: what for name, what in apart.items() if what},
        "kills": len(killed),
        "killed_in": {place: places.count(place) for place in dict.fromkeys(places)},
        "killed_with_two_workers": sum(one["workers"] == 2 for one in killed),
        "resumed_differ": differ,
    }
    goal = "the same weights, records and silo states, to the bit"
    result.add(str(LINE), value, goal, not differ and not any(apart.values()), made_by(LINE))


def _words(run: Path, name: str, workers: int) -> list[str | Path]:
    table = COMMON | CASES[name] | {"workers": workers}
    config = write_tables(run / "config.toml", {"federate": table})
    return ["federate", "--config", config, "--run", run]


def _whole(parents: Path, work: Path, name: str, workers: int) -> Path:
    """The unbroken run of a case."""
    run = branch(parents, work / f"whole-{folder_of(name)}-{workers}")
    call(run / "said.log", *_words(run, name, workers))
    return run


def _broken(
    parents: Path, work: Path, name: str, number: int, workers: int, whole: Path
) -> dict[str, Any]:
    """Start, kill, start again; where it was hit, and what differs in the end."""
    run = work / f"killed-{number:02d}"
    note = run / "killed.json"
    if not note.exists():
        most = _lines(whole)
        for attempt in range(ATTEMPTS):
            shutil.rmtree(run, ignore_errors=True)
            words = _words(branch(parents, run), name, workers)
            rng = np.random.default_rng([LINE, number, attempt])
            after, wait_ms = int(rng.integers(1, most + 1)), float(rng.choice(AFTER_MS))
            where = _kill(run, words, after, wait_ms * float(rng.uniform(0.5, 1.5)))
            if where:
                break
        else:
            raise RuntimeError(f"case {name!r} was never caught before its end")
        seen = {"case": name, "workers": workers, "line": after, "of": most, "in": where}
        note.write_text(json.dumps(seen))
    call(run / "said.log", *_words(run, name, workers))
    differs = compare(Ended.of(whole), Ended.of(run))
    return json.loads(note.read_text()) | {"number": number, "differs": differs}


def _kill(run: Path, words: list[str | Path], lines: int, wait_ms: float) -> str:
    """SIGKILL some ms after so many ledger lines; in what the run was, "" if it was over."""
    with start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while _lines(run) < lines and process.poll() is None:
            time.sleep(0.002)
        time.sleep(wait_ms / 1000)
        process.kill()
    partial = run / "5-federated.partial"
    if process.returncode != -signal.SIGKILL or not partial.exists():
        return ""
    if (partial / "model.safetensors").exists():
        return "sealing"
    if (partial / "rounds" / "final.frame").exists():
        return "the last test"
    return "a round"


def _lines(run: Path) -> int:
    ledgers = (run / "silos").glob("*/ledger.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in ledgers)
