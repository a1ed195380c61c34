"""Line 9: what a base of some size takes in memory, beside what is said before it starts.

Every case is a whole stage in a process of its own, on a base with random weights; counted is the
process's anonymous memory (and that of its workers) at its peak, above what it had after importing
torch and transformers.
"""

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.record import Result

__all__ = ["line_9"]

ROOT = Path(__file__).resolve().parents[3]
SIZES: dict[str, dict[str, int]] = {
    "21M": {"hidden": 384, "layers": 8, "heads": 6, "kv_heads": 3, "intermediate": 1152,
            "vocab": 16_384},
    "118M": {"hidden": 768, "layers": 12, "heads": 12, "kv_heads": 6, "intermediate": 2304,
             "vocab": 49_152},
    "302M": {"hidden": 1152, "layers": 16, "heads": 18, "kv_heads": 9, "intermediate": 3456,
             "vocab": 49_152},
}  # fmt: skip
QUICK = {"1M": {"hidden": 128, "layers": 4, "heads": 4, "kv_heads": 2, "intermediate": 384,
                "vocab": 2048}}  # fmt: skip
CONTEXT, BATCH, LOCAL_BATCH, RANK = 256, 8, 4, 8
USES = ("as it is", "moments", "training", "rounds", "lora rounds")
LOW, HIGH = 0.95, 1.5
"""An estimate that is too low lets a run start that will be killed; far too high refuses one."""


def line_9(result: Result, work: Path, quick: bool = False) -> None:
    """Peaks and estimates of every size and use."""
    value: dict[str, Any] = {}
    for size in QUICK if quick else SIZES:
        for use in USES:
            argv = [sys.executable, "-m", __spec__.name, size, use, str(work)]
            environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
            said = subprocess.check_output(argv, cwd=ROOT, env=environment)
            value[f"{size}, {use}"] = json.loads(said)
    ok = all(LOW <= case["estimate_of_peak"] <= HIGH for case in value.values())
    goal = f"every estimate between {LOW} and {HIGH} of the peak"
    result.add("9", value, goal, ok, "python -m tests.benchmarks.pretrain --only 9")


def _case(size: str, use: str, work: Path) -> dict[str, Any]:
    for module in ("torch", "transformers.models.qwen3.modeling_qwen3", "pyarrow.parquet"):
        importlib.import_module(module)
    base = _base(size, work)
    run = work / f"{size}-{use}".replace(" ", "-")
    stage, estimate = _rounds(use, base, run) if "rounds" in use else _pretraining(use, base, run)
    peak = _peak_of(stage)
    sizes = {"peak_gb": peak / 1e9, "estimate_gb": estimate / 1e9}
    return {**sizes, "estimate_of_peak": estimate / peak}


def _base(size: str, work: Path) -> Path:
    """A checkpoint of random weights; a process of its own makes it."""
    folder = work / f"base-{size}"
    if not folder.exists():
        code = f"from {__spec__.name} import make_base; make_base({size!r}, {str(folder)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return folder


def make_base(size: str, folder: str) -> None:
    """Write the checkpoint of a size, with a small tokenizer of generated text."""
    from pretrain.model import ModelShape, build_model, save_model
    from pretrain.tokenizer import train_tokenizer
    from tests.conftest import make_text

    tokenizer = train_tokenizer([make_text(seed, 200) for seed in range(5)], 400, CONTEXT)
    model = build_model(ModelShape(**{**SIZES, **QUICK}[size]), CONTEXT, 0, 0)
    save_model(model, tokenizer, Path(folder))


def _pretraining(use: str, base: Path, run: Path) -> tuple[Callable[[], Any], float]:
    from pretrain import capacity, stage
    from pretrain.adopt import settings_of
    from pretrain.evaluate import EvaluateConfig
    from tests.conftest import build_corpus

    build_corpus(run, range(60))
    section = stage.PretrainConfig(
        base=str(base), continue_training=use == "training", tokens=4 * BATCH * CONTEXT,
        context=CONTEXT, batch=BATCH, eval_blocks=16, checkpoint_every=2, prompts=(),
        moment_batches=2 if use == "moments" else 0,
        evaluate=EvaluateConfig(points=0, sources=0, pairs=0),
    )  # fmt: skip
    needs, _ = capacity.here(settings_of(base), section.compute, CONTEXT, BATCH)
    estimate = max(size for _, size in capacity.asked(section, needs))
    return lambda: stage.run(section, run), estimate


def _rounds(use: str, base: Path, run: Path) -> tuple[Callable[[], Any], float]:
    from federate import stage
    from federate.footprint import rounds_need
    from federate.local import LocalSteps
    from federate.lora.adapter import LoraConfig
    from federate.personalize import PersonalConfig
    from federate.plan import FederateConfig
    from federate.shards.stage import ShardsConfig
    from federate.shards.stage import run as shards
    from pretrain.adopt import settings_of
    from tests.conftest import make_text

    _sealed(base, run)
    table = run / "private.jsonl"
    rows = [{"client": f"c{n}", "text": make_text(90 + n, 3000)} for n in range(2)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shards(ShardsConfig(table=str(table)), run)
    section = FederateConfig(
        rounds=2, cohort=2, local=LocalSteps(steps=2, batch=LOCAL_BATCH),
        lora=LoraConfig(rank=RANK if use == "lora rounds" else 0),
        personal=PersonalConfig(steps=1, batch=LOCAL_BATCH), test_blocks=8, evaluate_blocks=2,
    )  # fmt: skip
    estimate, _, _ = rounds_need(section, settings_of(base), CONTEXT)
    return lambda: stage.run(section, run), estimate


def _sealed(base: Path, run: Path) -> None:
    """The base as an artifact of the run, made by a process of its own."""
    code = (
        f"from {__spec__.name} import _pretraining; from pathlib import Path; "
        f"_pretraining('moments', Path({str(base)!r}), Path({str(run)!r}))[0]()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def _peak_of(stage: Callable[[], Any]) -> float:
    """Bytes of anonymous memory at the highest point of `stage` above those before it."""
    done, seen = threading.Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.01):
            seen[0] = max(seen[0], _anonymous())

    before = _anonymous()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    stage()
    done.set()
    thread.join()
    return seen[0] - before


def _anonymous() -> float:
    """Of this process and its children, bytes."""
    import psutil

    me = psutil.Process()
    return sum(map(_anonymous_of, [me.pid, *(child.pid for child in me.children(recursive=True))]))


def _anonymous_of(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0
    sizes = [line.split()[1] for line in lines if line.startswith("RssAnon")]
    return 1024.0 * sum(map(int, sizes))


if __name__ == "__main__":
    print(json.dumps(_case(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
