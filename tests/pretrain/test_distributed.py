"""Two processes that torchrun starts: what one learns, by DDP and by FSDP2, with one voice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commonroot.artifact import load_artifact
from commonroot.progress import MetricsLog
from tests.benchmarks.federated.setting import write_tables
from tests.conftest import build_corpus

ROOT = Path(__file__).resolve().parents[2]
TABLE = {
    "tokens": 12 * 4 * 64,
    "context": 64,
    "batch": 4,
    "optimizer": "adamw",
    "eval_blocks": 4,
    "checkpoint_every": 5,
    "moment_batches": 0,
    "replay_blocks": 0,
    "prompts": [],
    "evaluate": {"points": 2, "point_blocks": 2, "sources": 0, "pairs": 0},
    "model": {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate": 64,
              "vocab": 400},
}  # fmt: skip


def command(
    run: Path, several: bool, how: str, micro_batch: int
) -> "subprocess.CompletedProcess[str]":
    table = {
        **TABLE,
        "micro_batch": micro_batch,
        "mixture": {"own": {"weight": 3}, "other": {"corpus": str(run.parent / "other")}},
        "compute": {"threads": 1, "dtype": "fp32", "fused": how == "ddp"},
        "distributed": {"how": how},
    }
    config = write_tables(run / "config.toml", {"pretrain": table})
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "--"]
    words = ["commonroot", "pretrain", "--config", str(config), "--run", str(run), "--json"]
    argv = [sys.executable, "-m", *(launcher if several else []), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "micro_batch"), [("ddp", 2), ("ddp", 1), ("fsdp", 2), ("fsdp", 1)]
)
def test_two_processes_learn_what_one_learns(how: str, micro_batch: int, tmp_path: Path) -> None:
    logs: list[list[dict[str, float]]] = []
    weights: list[bytes] = []
    build_corpus(tmp_path / "other", range(100, 130))
    for several in (False, True):
        run = tmp_path / str(several)
        build_corpus(run, range(30))
        done = command(run, several, how, micro_batch)
        assert json.loads(done.stdout)["artifacts"]["base"]["fresh"]
        base = load_artifact(run / "3-base", "base")
        assert base.metrics["processes"] == 1 + several
        logs.append(MetricsLog(base.path / "metrics.jsonl").read())
        weights.append((base.path / "model.safetensors").read_bytes())
    shared = micro_batch == 2  # one process adds up the two passes that two share
    for one, two in zip(*logs, strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() & {"loss", "heldout_bpb"}:
            assert two[key] == pytest.approx(one[key], abs=0 if shared else 1e-4, rel=1e-12)
    assert (weights[0] == weights[1]) or not shared
