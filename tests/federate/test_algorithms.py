"""Whole runs, two rounds long, of every strategy that the config can name."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federate.compression.codec import CodecConfig
from federate.local import LocalSteps, Workbench
from federate.lora.adapter import LoraConfig
from federate.pacing.devices import DeviceProfile, DevicesConfig
from federate.strategies.load import GROUP
from tests.federate.algorithm_runs import Ran, federate

ROOT = Path(__file__).parents[2]
OFFERED = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
LORA = {"naive-lora", "fedex-lora", "ffa-lora", "fedsvd", "flexlora"}
WHOLE = set(OFFERED[GROUP]) - LORA | {"flwr:FedMedian"}
FAST = LocalSteps(steps=2, batch=2, lr=1e-2)
MATRICES = 2 * 7
"""Two layers with seven projections each."""


@pytest.mark.parametrize("name", sorted(WHOLE | LORA))
def test_every_strategy_learns_and_repeats_to_the_bit(
    name: str, tmp_path: Path, bench: Workbench
) -> None:
    ends = []
    for attempt in ("first", "second"):
        (tmp_path / attempt).mkdir()
        ran = federate(
            tmp_path / attempt,
            bench,
            strategy=name,
            lora=LoraConfig(rank=2 if name in LORA else 0),
            local=FAST if name in LORA else LocalSteps(steps=2, batch=2, lr=2e-3),
            evaluate_every=1,
        )
        assert not any(record["excluded"] or record["void"] for record in ran.rounds)
        assert all(len(record["clients"]) == 3 for record in ran.rounds)
        assert all(np.isfinite([record["loss"], record["cosine"]]).all() for record in ran.rounds)
        first, second = (record["validation_bpb"] for record in ran.rounds)
        assert second < first < untrained_bpb(bench, ran)
        ends.append((ran.digest, ran.rounds, ran.clients))
    assert ends[0] == ends[1]


def untrained_bpb(bench: Workbench, ran: Ran) -> float:
    """The public base on the same validation text."""
    bench.wear(LoraConfig())
    bench.load(bench.base_weights)
    texts = [spy.silo.split.validation for spy in ran.silos.values()]
    return float(np.mean([bench.bits_per_byte(bench.eval_set(text, 2)) for text in texts]))


def test_strategies_that_differ_give_different_models(tmp_path: Path, bench: Workbench) -> None:
    def digest(name: str, **options: float) -> str:
        folder = tmp_path / name
        folder.mkdir()
        return federate(folder, bench, strategy=name, strategy_options=options).digest

    ends = [digest("fedavg"), digest("fedprox", mu=1.0), digest("fedavgm"), digest("scaffold")]
    assert len({*ends, digest("mimelite"), digest("flwr:FedMedian")}) == 6


def test_ranks_follow_the_devices_and_slow_ones_take_fewer_steps(
    tmp_path: Path, bench: Workbench
) -> None:
    per_rank_kb = 4 * sum(value.size for value in lora_start(bench, 1).values()) / 1000
    # Half of the target time may go into sending and receiving: enough for ranks 4 and 1.
    kinds = (
        DeviceProfile(
            name="quick", up_kb_s=32 * per_rank_kb, down_kb_s=32 * per_rank_kb, tokens_per_s=2000
        ),
        DeviceProfile(
            name="thin", up_kb_s=8 * per_rank_kb, down_kb_s=8 * per_rank_kb, tokens_per_s=400
        ),
    )
    ran = federate(
        tmp_path,
        bench,
        names="abcd",
        cohort=4,
        strategy="flexlora",
        lora=LoraConfig(rank=4),
        local=FAST,
        devices=DevicesConfig(profiles=kinds, adapt=True, target_s=0.5),
    )
    asks = [ask for spy in ran.silos.values() for kind, ask in spy.asked if kind == "train"]
    assert {ask["lora"]["rank"] for ask in asks} == {1, 4}
    assert {ask["local"]["steps"] for ask in asks if ask["lora"]["rank"] == 1} == {1}
    assert {ask["local"].get("steps") for ask in asks if ask["lora"]["rank"] == 4} == {2}
    assert not any(record["excluded"] for record in ran.rounds)
    assert ran.rounds[1]["virtual_s"] > ran.rounds[0]["virtual_s"] > 0
    sizes = {sum(map(len, out.values())) for spy in ran.silos.values() for _, out in spy.left}
    assert len(sizes - {0}) == 2  # thin clients send a quarter of the numbers
    assert sum(len(value) for name, value in ran.weights.items() if name.endswith("_A")) == (
        4 * MATRICES
    )


def lora_start(bench: Workbench, rank: int) -> dict[str, Any]:
    bench.wear(LoraConfig(rank=rank))
    return bench.start()


def test_fewer_bits_are_fewer_bytes_and_the_model_still_learns(
    tmp_path: Path, bench: Workbench
) -> None:
    def play(name: str, **changes: Any) -> Ran:
        (tmp_path / name).mkdir()
        return federate(tmp_path / name, bench, rounds=3, evaluate_every=3, **changes)

    plain = play("plain")
    up = play("up", up=CodecConfig(bits=0.5))
    down = play("down", down=CodecConfig(bits=2))
    values = sum(value.size for value in bench.base_weights.values())
    asked = 3 * 3
    # What comes atop the bits asked for is one header.
    assert up.bytes("up") < asked * (0.5 / 8 * values + 400) < plain.bytes("up") / 40
    assert up.bytes("down") == plain.bytes("down")
    sent = asked + 3  # with the one evaluation
    assert down.bytes("down") < sent * (2 / 8 * values + 400) < plain.bytes("down") / 12
    assert down.bytes("up") == plain.bytes("up")
    base = untrained_bpb(bench, plain)
    gains = [base - ran.rounds[-1]["validation_bpb"] for ran in (plain, up, down)]
    assert min(gains[1:]) > 0.5 * gains[0] > 0


def test_what_a_message_left_out_comes_with_the_next_one(tmp_path: Path, bench: Workbench) -> None:
    ends = []
    for feedback in (0.0, 1.0):
        folder = tmp_path / str(feedback)
        folder.mkdir()
        few = CodecConfig(bits=0.2, feedback=feedback)
        ran = federate(folder, bench, rounds=3, evaluate_every=1, up=few)
        ends.append([record["validation_bpb"] for record in ran.rounds])
    assert ends[0][0] == ends[1][0]  # nothing is left over before the first message
    assert ends[1][-1] < ends[0][-1]


def test_replay_keeps_more_of_the_public_text(tmp_path: Path, bench: Workbench) -> None:
    public = bench.replay
    assert public is not None

    def forgotten(share: float) -> tuple[float, int]:
        folder = tmp_path / str(share)
        folder.mkdir()
        local = LocalSteps(steps=4, batch=2, lr=2e-2, replay=share)
        ran = federate(folder, bench, rounds=3, local=local, keep_best=False)
        bench.wear(LoraConfig())
        bench.load(ran.weights)
        return mean_loss(bench), sum(record["tokens"] for record in ran.rounds)

    (without, private), (with_replay, same) = forgotten(0.0), forgotten(1.0)
    assert with_replay < without
    assert private == same  # public tokens do not count


def mean_loss(bench: Workbench) -> float:
    import torch

    from pretrain.train import token_losses

    assert bench.replay is not None
    x_BT, y_BT = bench.replay.at(list(range(16)))
    with torch.no_grad():
        total = token_losses(bench.model, torch.from_numpy(x_BT), torch.from_numpy(y_BT))
    return float(total) / y_BT.size
