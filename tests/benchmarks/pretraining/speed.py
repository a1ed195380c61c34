"""Line 1: tokens a second beside Hugging Face's Trainer, and beside the machine's own products.

Same model, tokenizer, data, batch, threads and AdamW, in turns in one process; the median of single
steps counts, so neither what comes before nor after the loop.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.pretraining.rivals import Packed, hf_trainer
from tests.benchmarks.pretraining.setting import corpus, made_by
from tests.benchmarks.record import Result

__all__ = ["line_1"]

THREADS, BATCH, CONTEXT = 2, 8, 256
TURNS, STEPS = 5, 14
SKIPPED = 4
"""Steps of every turn that only warm up."""
GROUPS: dict[str, tuple[str, ...]] = {
    "matrix products": ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm"),
    "softmax": (
        "shares", "shares_back", "cross_entropy", "aten::_softmax", "aten::_softmax_backward_data",
    ),
    "norms and residuals": ("normalise", "normalise_back", "fold", "unfold"),
    "heads: norm, rotation, layout": ("turn", "turn_back", "by_token", "by_block"),
    "SwiGLU": ("swiglu", "swiglu_back", "aten::silu", "aten::silu_backward"),
    "type changes and copies": ("aten::copy_", "aten::cat", "aten::stack"),
    "optimizer": ("aten::_fused_adamw_", "aten::linalg_vector_norm"),
}  # fmt: skip
"""Operations of torch, and kernels of pretrain.fused."""


def line_1(result: Result, work: Path, quick: bool = False) -> None:
    """Rates of Trainer in fp32 and bf16 and of this project, and the share of the peak."""
    import torch

    from commonroot.artifact import load_artifact
    from pretrain.corpus import corpus_texts
    from pretrain.model import Compute, ModelShape, build_model
    from pretrain.packing import pack
    from pretrain.speed import flops_per_token, peak_flops
    from pretrain.tokenizer import train_tokenizer

    torch.set_num_threads(THREADS)
    texts = corpus_texts(load_artifact(corpus(work) / "2-corpus", "corpus"), "train")
    tokenizer = train_tokenizer(texts, ModelShape().vocab, CONTEXT)
    data = pack(tokenizer, texts, CONTEXT)
    end = int(tokenizer.eos_token_id)
    def fresh() -> Any:
        return build_model(ModelShape(), CONTEXT, end, 0)

    steps = 6 if quick else STEPS
    runs: dict[str, Callable[[], list[float]]] = {
        "trainer_fp32": lambda: hf_trainer(fresh(), Packed(data), work, BATCH, steps, False),
        "trainer_bf16": lambda: hf_trainer(fresh(), Packed(data), work, BATCH, steps, True),
        "ours": lambda: _ours(fresh(), data, steps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    peak = 0.0
    for _ in range(1 if quick else TURNS):
        peak = max(peak, peak_flops(Compute(threads=THREADS, dtype="bf16")))
        for name, run in runs.items():
            seconds[name] += run()[SKIPPED:]
    rate = {name: BATCH * CONTEXT / statistics.median(took) for name, took in seconds.items()}
    flops = flops_per_token(fresh().config, CONTEXT)
    value = {
        "tokens_per_second": {name: round(one) for name, one in rate.items()},
        "times_trainer_bf16": rate["ours"] / rate["trainer_bf16"],
        "times_trainer_fp32": rate["ours"] / rate["trainer_fp32"],
        "share_of_bf16_peak": {name: one * flops / peak for name, one in rate.items()},
        "peak_gflops": round(peak / 1e9),
        "flop_a_token": flops,
        "where_the_time_goes": _shares(fresh(), data),
        "threads": THREADS,
    }
    ok = (
        value["times_trainer_bf16"] >= 1.35
        and value["times_trainer_fp32"] >= 1.9
        and value["share_of_bf16_peak"]["ours"] >= 0.55
    )
    goal = ">= 1.35 x Trainer in bf16, >= 1.9 x in fp32, >= 55 % of the bf16 peak"
    result.add("1", value, goal, ok, made_by(1))


def _ours(model: Any, data: Any, steps: int) -> list[float]:
    """Seconds of every step."""
    from pretrain.model import Compute
    from pretrain.train import make_optimizer, train

    optimizer = make_optimizer(model, 0.1)
    batches = (data.batch(0, step, BATCH) for step in range(steps))
    took, began = [], time.perf_counter()
    for _ in train(model, optimizer, batches, lambda _: 1e-4, Compute(threads=THREADS)):
        now = time.perf_counter()
        took.append(now - began)
        began = now
    return took


class _Seen:
    """Kernels whose calls a profile shows."""

    def __init__(self, kernels: Any) -> None:
        self.kernels = kernels

    def __getattr__(self, name: str) -> Any:
        from torch.profiler import record_function

        kernel = getattr(self.kernels, name)

        def run(*arguments: Any) -> None:
            with record_function(name):
                kernel(*arguments)

        run.argtypes = kernel.argtypes  # type: ignore[attr-defined]
        return run


def _shares(model: Any, data: Any) -> dict[str, float]:
    """Share of a step's CPU time by kind of work, on one thread: a profile sees no other."""
    from unittest.mock import patch

    import torch
    from torch.profiler import ProfilerActivity, profile

    from pretrain.fused import losses

    torch.set_num_threads(1)
    _ours(model, data, 2)
    compiled = losses.kernels()
    watched = patch.object(losses, "kernels", lambda: compiled and _Seen(compiled))
    with watched, profile(activities=[ProfilerActivity.CPU]) as seen:
        _ours(model, data, 4)
    torch.set_num_threads(THREADS)
    spent = {row.key: float(row.self_cpu_time_total) for row in seen.key_averages()}
    total = sum(spent.values())
    shares = {
        group: sum(spent.get(key, 0.0) for key in keys) / total for group, keys in GROUPS.items()
    }
    rest = 1 - sum(shares.values())
    return {name: round(one, 3) for name, one in {**shares, "everything else": rest}.items()}
