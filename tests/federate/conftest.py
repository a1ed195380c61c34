import json
from collections.abc import Callable
from pathlib import Path

import pytest

from federate.local import Workbench
from federate.silo import Silo, SiloBounds
from federate.wire import encode
from pretrain.model import Compute

STEPS = {"steps", "batch", "lr", "warmup", "replay", "read_file"}
MARKER = "zzmarkerzz"


@pytest.fixture(scope="session")
def bench(tiny_run: Path) -> Workbench:
    return Workbench(tiny_run / "3-base", Compute(threads=1, dtype="fp32"))


@pytest.fixture
def make_silo(bench: Workbench, tmp_path: Path, text: Callable[[int, int], str]):  # type: ignore[no-untyped-def]
    """Build a silo with generated text; `bounds` are its owner's."""

    def make(name: str = "site-a", seed: int = 50, **bounds: object) -> Silo:
        shard = tmp_path / f"shard-{name}"
        shard.mkdir(exist_ok=True)
        words = text(seed, 900).split()
        words[100] = MARKER
        (shard / "notes.txt").write_text(" ".join(words))
        owner = SiloBounds(piece_chars=400, **bounds)
        return Silo(name, shard, tmp_path / f"home-{name}", bench, owner)

    return make


@pytest.fixture
def base_buffers(bench: Workbench) -> dict[str, bytes]:
    return encode(bench.base_weights)


def train_request(number: int = 0, run: str = "run1", **changes: object) -> dict[str, object]:
    """A training request; `local` changes go to the steps, others to the request itself."""
    ask = {"run": run, "round": number, "local": {"steps": 3, "batch": 2, "lr": 1e-3}}
    for key, value in changes.items():
        (ask["local"] if key in STEPS else ask)[key] = value  # type: ignore[index]
    return {"kind": "train", "config": {"ask": json.dumps(ask)}}


def evaluate_request(**changes: object) -> dict[str, object]:
    ask = {"run": "run1", "round": 0, **changes}
    return {"kind": "evaluate", "config": {"ask": json.dumps(ask)}}
