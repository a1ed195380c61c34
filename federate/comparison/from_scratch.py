"""What is the public root worth? The same rounds from the base and from random weights."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from federate.comparison.reruns import Reruns, short_end
from federate.convergence import StopConfig
from federate.local import Workbench
from federate.lora.adapter import LoraConfig
from federate.plan import FederateConfig

__all__ = ["compare_starts", "curve_config", "scratch_bench"]


def scratch_bench(bench: Workbench, folder: Path, seed: int) -> Workbench:
    """A workbench with a model of the same shape and tokenizer, randomly initialised.

    It is saved in `folder`, with the public text for replay but without second moments: those are
    knowledge of the public text.
    """
    if not (folder / "config.json").exists():
        import torch
        from transformers import AutoModelForCausalLM

        from pretrain.model import save_model
        from pretrain.replay import FILE

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(bench.model.config)
        partial = folder.with_name(folder.name + ".writing")
        shutil.rmtree(partial, ignore_errors=True)
        save_model(model.float(), bench.tokenizer, partial)
        if (bench.base / FILE).is_file():
            shutil.copy(bench.base / FILE, partial / FILE)
        partial.rename(folder)
    return Workbench(folder, bench.compute)


def curve_config(config: FederateConfig, stops: Sequence[int], lr: float) -> FederateConfig:
    """`config` with as many rounds as the last of `stops`, measured at all of them.

    All weights are trained: low-rank factors beside random weights would say nothing. Strategies
    for factors give way to plain averaging.
    """
    plain: dict[str, Any] = {
        "strategy": "fedavg",
        "server_lr": None,
        "strategy_options": {},
        "lora": LoraConfig(),
    }
    common = math.gcd(*stops)
    every = max(n for n in range(1, common + 1) if not common % n and n <= config.evaluate_every)
    return short_end(
        config,
        rounds=max(stops),
        evaluate_every=every,
        local=config.local.model_copy(update={"lr": lr}),
        stop=StopConfig(),
        **(plain if config.lora.rank else {}),
    )


def compare_starts(
    reruns: Reruns,
    config: FederateConfig,
    bench: Workbench,
    scratch: Workbench,
    stops: Sequence[int],
    lrs: tuple[float, float],
) -> dict[str, Any]:
    """Both validation curves, and their difference after each of `stops` rounds.

    `lrs`: of the clients, from the base and from random weights.
    """
    curves = {}
    for name, start, lr in zip(("base", "scratch"), (bench, scratch), lrs, strict=True):
        done = reruns.again(f"from-{name}", curve_config(config, stops, lr), start)
        curves[name] = done.curve
        reruns.forget(f"from-{name}")
    found = {name: dict(curve) for name, curve in curves.items()}
    at = [
        {
            "rounds": stop,
            "base": found["base"][stop],
            "scratch": found["scratch"][stop],
            "difference": found["scratch"][stop] - found["base"][stop],
        }
        for stop in sorted(set(stops))
        if stop in found["base"] and stop in found["scratch"]
    ]
    return {"lr": dict(zip(("base", "scratch"), lrs, strict=True)), "curves": curves, "at": at}
