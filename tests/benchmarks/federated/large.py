"""One round of LoRA on a model of over 100M parameters: memory, bytes and seconds a client.

Its weights are random: what is measured does not depend on what it has learnt. The checkpoint is
written by transformers, adopted by `commonroot pretrain`, and trained by `commonroot federate`.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.federated.setting import call, start, write_tables

__all__ = ["large_model"]

SHAPE = {
    "vocab_size": 16_384,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "intermediate_size": 2688,
}
CONTEXT = 128
CLIENTS = 2
STEPS = 2


def large_model(work: Path, small: Path, quick: bool = False) -> dict[str, Any]:
    """Figures of one round over two clients; `small` lends its corpus and its tokenizer."""
    kept = work / "measured.json"
    if kept.exists():
        return dict(json.loads(kept.read_text("utf-8")))
    run = work / "run"
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "2-corpus").exists():
        (run / "2-corpus").symlink_to((small / "2-corpus").resolve(), target_is_directory=True)
    if not (run / "3-base" / "manifest.json").exists():
        _write_checkpoint(work / "checkpoint", small / "3-base", quick)
        config = write_tables(work / "large.toml", _tables(work / "checkpoint"))
        call(work / "log", "pretrain", "--config", config, "--run", run)
        call(work / "log", "shards", "--config", config, "--run", run)
    for left in ("5-federated", "5-federated.partial", "silos"):
        shutil.rmtree(run / left, ignore_errors=True)
    seen = _federate(run, work / "large.toml", work / "log")
    kept.write_text(json.dumps(seen))
    for left in (work / "checkpoint", run):
        shutil.rmtree(left)  # gigabytes
    return seen


def _tables(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Everything that is not the round is kept as small as it can be."""
    personal = {"method": "dual", "rank": 8, "steps": 1, "batch": 1}
    return {
        "pretrain": {
            "base": str(checkpoint.resolve()),
            "context": CONTEXT,
            "batch": 1,
            "eval_blocks": 1,
            "moment_batches": 1,
            "replay_blocks": 0,
            "prompts": [],
            "compute": {"threads": 1},
        },
        "shards": {"demo": True, "most_clients": CLIENTS},
        "federate": {
            "rounds": 1,
            "cohort": CLIENTS,
            "strategy": "naive-lora",
            "lora": {"rank": 8},
            "local": {"steps": STEPS, "batch": 1},
            "evaluate_every": 1,
            "evaluate_blocks": 1,
            "evaluate_clients": 1,
            "test_blocks": 1,
            "personal": personal,
            "keep_best": False,
            "compute": {"threads": 1},
        },
    }


def _write_checkpoint(folder: Path, small: Path, quick: bool) -> None:
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(small, local_files_only=True)
    torch.manual_seed(0)
    end = int(tokenizer.eos_token_id)
    shape = SHAPE | ({"num_hidden_layers": 1} if quick else {})
    config = Qwen3Config(
        **shape,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _federate(run: Path, config: Path, log: Path) -> dict[str, Any]:
    started = time.time()
    with open(log, "ab") as file:
        process = start("federate", "--config", config, "--run", run, stdout=file, stderr=file)
        in_round = _peak_of_round(process, run)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"federate ended with {status}: see {log}")
    seconds = time.time() - started
    base = json.loads((run / "3-base" / "manifest.json").read_text("utf-8"))["metrics"]
    made = json.loads((run / "5-federated" / "manifest.json").read_text("utf-8"))["metrics"]
    done = sorted((home / "state.frame").stat().st_mtime for home in (run / "silos").iterdir())
    return {
        "parameters": base["parameters"],
        "lora_rank": 8,
        "clients": CLIENTS,
        "local_steps": STEPS,
        "tokens_a_step": CONTEXT,
        "peak_memory_mb": {"rounds": in_round, "with_personal": round(usage.ru_maxrss / 1000)},
        "weights_mb": round(4 * base["parameters"] / 1e6),
        "mb_up_a_client": round(made["bytes_up"] / CLIENTS / 1e6, 2),
        "mb_down_in_all": round(made["bytes_down"] / 1e6, 2),
        # From one client's end of its work to the next one's.
        "seconds_a_client": round((done[-1] - done[0]) / (len(done) - 1), 2),
        "seconds_in_all": round(seconds, 1),
    }


def _peak_of_round(process: "subprocess.Popen[bytes]", run: Path) -> int:
    """Peak resident memory in MB when the round's checkpoint appears; 0 if that is never seen."""
    checkpoint = run / "5-federated.partial" / "rounds" / "round-000001.frame"
    status = Path(f"/proc/{process.pid}/status")
    peak = 0
    while not checkpoint.exists():
        try:
            lines = status.read_text().splitlines()
        except OSError:
            return peak
        seen = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
        if not seen:  # it has ended
            return peak
        peak = round(seen[0] * 1024 / 1e6)
        time.sleep(0.1)
    return peak
