"""`commonroot plan`: time, memory, disk and bytes of a config before anything runs.

Tokens a second are measured here and now on the configured model, for a few seconds; the rest is
arithmetic. Crawling time follows from politeness, not from the machine.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from federate.plan import FederateConfig
from pretrain.stage import PretrainConfig

__all__ = ["estimate"]

FP32 = 4
FORWARD_SHARE = 1 / 3
"""Cost of evaluating a token relative to training on it."""
CLIENTS_OF_A_TABLE = 43
"""Assumed where only reading a table would tell; the demo's number."""


def estimate(sections: Mapping[str, Any], run: Path) -> list[str]:
    """Lines of the estimate for the run that these sections describe."""
    pretrain: PretrainConfig = sections["pretrain"]
    federate: FederateConfig = sections["federate"]
    parameters, rate = _measure(pretrain)
    local = federate.rounds * federate.cohort * _tokens(federate.local, pretrain.context)
    personal = _tokens(federate.personal, pretrain.context)
    moved = federate.rounds * federate.cohort * parameters * FP32
    shards = sections["shards"]
    clients = shards.most_clients or len(shards.folders) or CLIENTS_OF_A_TABLE
    personal_all = personal * clients
    arms = local * (3 if sections["compare"].matched_updates else 2) + personal_all
    tests = clients * federate.test_blocks * pretrain.context * (4 + 12) * FORWARD_SHARE
    return [
        f"model: {parameters:,} parameters, {rate:,.0f} tokens/s measured here; {clients} clients",
        f"crawl: at most {sections['gather'].web.max_pages:,} pages, "
        f"{sections['gather'].web.delay_s:g} s between requests to one host",
        _line("pretrain", pretrain.tokens if not pretrain.base else 0, rate),
        _line("federate", local + personal_all, rate),
        _line("compare (its own training)", arms, rate),
        _line("evaluation", tests, rate),
        f"memory: about {(800e6 + parameters * FP32 * 8) / 1e9:.1f} GB",
        f"disk in {run}: about {parameters * FP32 * (clients * 2 + 8) / 1e6:,.0f} MB beside the "
        "archive",
        f"bytes in rounds: {moved / 1e6:,.1f} MB up and as many down",
    ]


def _line(what: str, tokens: float, rate: float) -> str:
    return f"{what}: {tokens:,.0f} tokens, about {tokens / rate / 60:.1f} min"


def _tokens(steps: Any, context: int) -> int:
    return int(steps.steps * steps.batch * context)


def _measure(section: PretrainConfig) -> tuple[int, float]:
    import numpy as np

    from pretrain.model import build_model, count, load_model, pick_device
    from pretrain.train import make_optimizer, train

    device = pick_device(section.compute)
    if section.base:
        model = load_model(Path(section.base).expanduser(), device)
    else:
        model = build_model(section.model, section.context, 0, section.seed)
        model.to(device)  # type: ignore[arg-type]
    tokens = np.random.default_rng(0).integers(0, 256, (section.batch, section.context + 1))
    batch = tokens[:, :-1].copy(), tokens[:, 1:].copy()
    optimizer = make_optimizer(model, 0.0)
    list(train(model, optimizer, [batch], lambda _: 0.0, section.compute))
    started = time.perf_counter()
    steps = len(list(train(model, optimizer, [batch] * 4, lambda _: 0.0, section.compute)))
    return count(model), steps * section.batch * section.context / (time.perf_counter() - started)
