"""What small benchmarks of rounds stand on: a run folder over the demo's text, and its records.

Everything is made by the product's own stages; what a folder holds already is up to date and costs
nothing, so a benchmark that was cut goes on where it was.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "DEMO",
    "SMALL",
    "SMALL_MODEL",
    "TINY",
    "Tables",
    "branch",
    "call",
    "demo_run",
    "federate",
    "folder_of",
    "made_by",
    "make_run",
    "rounds_of",
    "start",
    "write_tables",
]

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "runs" / "demo"
BASE, BASE_CONFIG = ROOT / "runs" / "bench-base", ROOT / "configs" / "gap.toml"
"""The base of the benchmarks at full size stays the same, whatever the demo's becomes."""
PARENTS = ("2-corpus", "3-base", "4-shards")
Tables = Mapping[str, Mapping[str, Any]]
SMALL_MODEL = {
    "hidden": 64,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "intermediate": 128,
    "vocab": 1024,
}
"""That of configs/smoke.toml."""
SMALL: Tables = {
    "pretrain": {
        "optimizer": "adamw",
        "lr": 3e-3,
        "tokens": 400_000,
        "context": 128,
        "batch": 8,
        "eval_blocks": 40,
        "replay_blocks": 0,
        "prompts": ["The country is"],
        "model": SMALL_MODEL,
        "compute": {"threads": 1},
    },
    "shards": {"demo": True},
}
"""A base of 0.1M parameters and the demo's 43 clients."""
TINY: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 3e-3,
    "tokens": 8_192,
    "context": 64,
    "batch": 4,
    "eval_blocks": 4,
    "moment_batches": 2,
    "replay_blocks": 8,
    "prompts": [],
    "model": {
        "hidden": 32,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "intermediate": 64,
        "vocab": 512,
    },
    "compute": {"threads": 1},
}
"""A `pretrain` table of seconds, for what does not depend on what a model has learnt."""


def make_run(work: Path, tables: Tables = SMALL, demo: Path = DEMO) -> Path:
    """`work`, holding 2-corpus (that of `demo`, or crawled anew), 3-base and 4-shards."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "2-corpus").exists():
        _corpus(work, demo)
    from federate.shards import stage as shards
    from pretrain import stage as pretrain

    pretrain.run(pretrain.PretrainConfig.model_validate(tables["pretrain"]), work)
    shards.run(shards.ShardsConfig.model_validate(tables["shards"]), work)
    return work


def demo_run(work: Path, base: Path = BASE, config: Path = BASE_CONFIG) -> Path:
    """`work` over corpus, shards and base model of the run `base`, which `config` makes."""
    work.mkdir(parents=True, exist_ok=True)
    for stage in ("ingest", "pretrain", "shards"):
        call(work / "base.log", stage, "--config", config, "--run", base)
    return branch(base, work)


def branch(run: Path, folder: Path) -> Path:
    """A run folder of its own over the corpus, base and shards of `run`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARENTS:
        if not (folder / name).exists():
            (folder / name).symlink_to((run / name).resolve(), target_is_directory=True)
    return folder


def federate(run: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """The federate stage of `run` in this process; its metrics."""
    from federate.plan import FederateConfig
    from federate.stage import run as stage

    return dict(stage(FederateConfig.model_validate(table), run).metrics)


def rounds_of(run: Path) -> list[dict[str, Any]]:
    """The record of each round of a finished federate stage."""
    from commonroot.progress import MetricsLog

    return MetricsLog(run / "5-federated" / "metrics.jsonl").read()


def write_tables(path: Path, tables: Tables) -> Path:
    """The tables as a TOML file for the command."""
    lines = [f"[{name}]\n" + "".join(_lines(table)) for name, table in tables.items()]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def start(*words: str | Path, **popen: Any) -> "subprocess.Popen[bytes]":
    """A commonroot command as a process of its own, with one thread for arithmetic."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "commonroot", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, **popen)


def call(log: Path, *words: str | Path) -> None:
    """Run a command to its end; raises RuntimeError with the end of its `log` if it fails."""
    with open(log, "ab") as file:
        code = start(*words, stdout=file, stderr=file).wait()
    if code:
        said = log.read_text("utf-8", errors="replace")[-600:]
        raise RuntimeError(f"{' '.join(map(str, words))} ended with {code}: {said}")


def folder_of(name: str) -> str:
    """A case's name as that of a folder."""
    return "-".join(name.replace(",", "").split())


def made_by(line: int) -> str:
    """The command that measures a line."""
    return f"python -m tests.benchmarks.federate --only {line}"


def _corpus(work: Path, demo: Path) -> None:
    if not (demo / "2-corpus" / "manifest.json").exists():
        demo = work / "crawled"
        call(work / "ingest.log", "ingest", "--config", ROOT / "configs/demo.toml", "--run", demo)
    shutil.rmtree(work / "2-corpus.copied", ignore_errors=True)  # of a copy that was cut
    shutil.copytree(demo / "2-corpus", work / "2-corpus.copied")
    (work / "2-corpus.copied").rename(work / "2-corpus")


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}\n" for key, value in table.items()]


def _toml(value: Any) -> str:
    """A value as TOML; tables inline."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
