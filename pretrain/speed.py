"""What a token costs, and how much of it this machine can do in a second."""

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from pretrain.model import Compute, matmul_dtype, pick_device

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from pretrain.stage import PretrainConfig

__all__ = ["flops_per_token", "outline", "peak_flops", "tokens_per_second"]

SIDES = {"cpu": (768, 1536), "mps": (2048, 4096), "cuda": (4096, 8192)}
"""Square matrices to multiply: large enough to be bound by arithmetic, small enough to be quick."""
SECONDS_A_SIZE = 0.2
STEPS = 6
"""Of training that are timed, the first of them for nothing."""


def outline(config: "PreTrainedConfig") -> "PreTrainedModel":
    """The model with the shapes of its weights and nothing in them."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def flops_per_token(config: "PreTrainedConfig", context: int) -> float:
    """Floating-point operations to train on one token in blocks of `context` tokens.

    Two for each weight of a matrix product and 4·L·H·T for attention, three times (forward, and
    both gradients). The whole table of scores counts, as in Chowdhery et al. 2022, PaLM, appendix
    B, https://arxiv.org/abs/2204.02311; looking up an embedding costs nothing, a tied head counts.
    """
    from torch import nn

    weights = sum(
        weight.numel()
        for module in outline(config).modules()
        if not isinstance(module, nn.Embedding)
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2
    )
    heads = int(config.num_attention_heads)
    width = getattr(config, "head_dim", None) or int(config.hidden_size) // heads
    attention = 4 * int(config.num_hidden_layers) * heads * width * context
    return float(3 * (2 * weights + attention))


def peak_flops(compute: Compute) -> float:
    """FLOP a second of a plain matrix product in the type that training multiplies in.

    The best of many products of two sizes, on the threads and device of `compute`: what other
    programs take away for a moment does not count. Takes about half a second.
    """
    device = pick_device(compute)
    dtype = matmul_dtype(compute, device)
    return max(_rate(side, dtype, device) for side in SIDES[device.type])


def tokens_per_second(model: "PreTrainedModel", section: "PretrainConfig") -> float:
    """What training of `section` does with `model`: the median of a few steps on random tokens.

    At a learning rate of zero, so the weights stay.
    """
    import numpy as np

    from pretrain.train import gradients, pick_optimizer, train

    model.to(pick_device(section.compute))  # type: ignore[arg-type]
    tokens = np.random.default_rng(0).integers(0, 256, (section.batch, section.context + 1))
    batch = tokens[:, :-1].copy(), tokens[:, 1:].copy()
    optimizer = pick_optimizer(model, section)
    gradient = partial(gradients, passes=section.passes())
    seconds = []
    began = time.perf_counter()
    steps = [batch] * STEPS
    for _ in train(model, optimizer, steps, lambda _: 0.0, section.compute, gradient=gradient):
        now = time.perf_counter()
        seconds.append(now - began)
        began = now
    return section.batch * section.context / statistics.median(seconds[1:])


def _rate(side: int, dtype: "torch.dtype", device: "torch.device") -> float:
    import torch

    left = torch.ones(side, side, dtype=dtype, device=device)
    right, best = torch.ones_like(left), float("inf")
    began = time.perf_counter()
    with torch.inference_mode():
        left @ right  # the first product of a size prepares what the others use
        while time.perf_counter() - began < SECONDS_A_SIZE or best == float("inf"):
            started = time.perf_counter()
            _wait(left @ right)
            best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def _wait(result: "torch.Tensor") -> None:
    """Return when `result` is there: accelerators compute beside the program."""
    result[0, 0].item()
