from collections.abc import Callable
from pathlib import Path

import pytest

from federate.local import Workbench
from federate.silo import Silo, SiloBounds
from federate.wire import encode
from pretrain.model import Compute

MARKER = "zzmarkerzz"


@pytest.fixture(scope="session")
def bench(tiny_run: Path) -> Workbench:
    return Workbench(tiny_run / "3-base", Compute(threads=1))


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
    config = {"run": run, "round": number, "steps": 3, "batch": 2, "lr": 1e-3, "warmup": 0}
    return {"kind": "train", "config": {**config, **changes}}
