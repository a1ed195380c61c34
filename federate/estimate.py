"""`commonroot plan`: time, memory, disk and bytes of a config before anything runs.

Tokens a second are measured here and now on the configured model, for a few seconds; the rest is
arithmetic. Crawling time follows from politeness, not from the machine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonroot.artifact import load_artifact
from commonroot.errors import ConfigError
from federate.lora.adapter import LoraConfig
from federate.plan import FederateConfig
from federate.shards.stage import ShardsConfig
from pretrain.blend import FRESH_EPOCHS
from pretrain.budget import bytes_per_token
from pretrain.mixture import open_mixture
from pretrain.portion import effective_bytes
from pretrain.settle import considered, describe
from pretrain.stage import PretrainConfig

__all__ = ["estimate"]

FP32 = 4
FORWARD_SHARE = 1 / 3
"""Cost of evaluating a token relative to training on it."""
CORPUS = 20_000_000
"""Bytes, where there is no corpus yet."""
CLIENTS_OF_A_TABLE = 43
"""Assumed where only reading a table would tell; the demo's number."""


def estimate(sections: Mapping[str, Any], run: Path) -> list[str]:
    """Lines of the estimate for the run that these sections describe."""
    pretrain: PretrainConfig = sections["pretrain"]
    federate: FederateConfig = sections["federate"]
    memory, refusal = _what_fits(pretrain, federate) if pretrain.base else ("", "")
    if refusal:  # measuring would not fit either
        return [memory, f"too large for this machine: {refusal}"]
    corpora = _corpora(pretrain, run)
    pretrain, dial = _dialled(pretrain, corpora)
    parameters, trained, rate = _measure(pretrain, federate.lora)
    beside = _beside(federate)
    trains = pretrain.continue_training or not pretrain.base
    local = federate.rounds * federate.cohort * _tokens(federate.local, pretrain.context)
    personal = _tokens(federate.personal, pretrain.context)
    messages = federate.rounds * federate.pacing.goal(federate.cohort)
    up, down = (
        messages * trained * (codec.bits / 8 + FP32 * beside) / 1e6
        for codec in (federate.up, federate.down)
    )
    clients = _clients(sections["shards"])
    arms = local * (3 if sections["compare"].matched_updates else 2) + personal * clients
    tests = clients * federate.test_blocks * pretrain.context * (4 + 12) * FORWARD_SHARE
    return [
        *dial,
        *(_mixture_lines(pretrain, corpora) if pretrain.mixture and trains else []),
        f"model: {parameters:,} parameters, {rate:,.0f} tokens/s measured here; {clients} clients",
        f"crawl: at most {sections['gather'].web.max_pages:,} pages, "
        f"{sections['gather'].web.delay_s:g} s between requests to one host",
        _line("pretrain", pretrain.tokens if trains else 0, rate),
        _line(
            "federate",
            local * federate.local.passes + personal * federate.personal.passes * clients,
            rate,
        ),
        _line("compare (its own training)", arms * federate.local.passes, rate),
        _line("evaluation", tests, rate),
        memory or f"memory: about {(800e6 + parameters * FP32 * 8) / 1e9:.1f} GB",
        f"disk in {run}: about {parameters * FP32 * (clients * 2 + 8) / 1e6:,.0f} MB beside the "
        "archive",
        f"bytes in rounds: {up:,.1f} MB up, {down:,.1f} MB down, evaluations apart",
    ]


@dataclass(frozen=True)
class _Corpus:
    name: str
    share: float
    bytes: int
    known: bool
    """False: assumed, for there is none yet."""


def _corpora(section: PretrainConfig, run: Path) -> list[_Corpus]:
    """Parts of the mixture (or the only one), and their training text."""
    folder = run / "2-corpus"
    known = (folder / "manifest.json").exists()
    if known and section.mixture:
        portions = open_mixture(section.mixture, load_artifact(folder, "corpus"))
        return [_Corpus(one.name, one.share, one.bytes, True) for one in portions]
    if known:
        metrics = json.loads((folder / "manifest.json").read_text("utf-8"))["metrics"]
        return [_Corpus("corpus", 1.0, int(metrics.get("train_bytes", CORPUS)), True)]
    total = sum(part.weight for part in section.mixture.values())
    parts = {name: part.weight / total for name, part in section.mixture.items()}
    return [_Corpus(name, share, CORPUS, False) for name, share in (parts or {"corpus": 1}).items()]


def _mixture_lines(section: PretrainConfig, corpora: list[_Corpus]) -> list[str]:
    each, lines = bytes_per_token(section.model.vocab), []
    for one in corpora:
        tokens = one.share * section.tokens
        times = tokens * each / one.bytes
        lines.append(
            f"mixture: {one.name}: {one.share:.1%} of the tokens ({tokens:,.0f}), out of "
            f"{one.bytes / 1e6:.1f} MB{'' if one.known else ' (assumed: none yet)'}: read about "
            f"{times:.1f} times{', more often than pays' if times > FRESH_EPOCHS else ''}"
        )
    return lines


def _dialled(section: PretrainConfig, corpora: list[_Corpus]) -> tuple[PretrainConfig, list[str]]:
    """The section with what its budget buys, and lines that say so beside the next best."""
    if not section.budget or section.base:
        return section, []
    corpus = effective_bytes((one.share, one.bytes) for one in corpora)
    known = all(one.known for one in corpora)
    best, *others = considered(section, corpus)
    settled = section.model_copy(update={"tokens": best.tokens, "model": best.shape})
    lines = [
        f"budget: {section.budget} buys {describe(settled)} of "
        f"{'a mixture worth' if section.mixture else 'a corpus of'} {corpus / 1e6:.1f} MB"
        f"{'' if known else ' (assumed: none yet)'}, {best.epochs:.1f} times over; "
        f"about {best.bpb:.2f} bpb on English prose"
    ]
    for other in others[:2]:
        lines.append(
            f"next best: {other.parameters / 1e6:.1f}M parameters, {other.tokens:,} tokens, "
            f"about {other.bpb:.2f} bpb"
        )
    return settled, lines


def _line(what: str, tokens: float, rate: float) -> str:
    return f"{what}: {tokens:,.0f} tokens, about {tokens / rate / 60:.1f} min"


def _tokens(steps: Any, context: int) -> int:
    return int(steps.steps * steps.batch * context)


def _clients(section: ShardsConfig) -> int:
    if section.parent:
        folders = [path for path in Path(section.parent).expanduser().glob("*") if path.is_dir()]
        return len(folders) or CLIENTS_OF_A_TABLE
    known = section.partition.clients or len(section.folders) or CLIENTS_OF_A_TABLE
    return min(section.most_clients or known, known)


def _beside(section: FederateConfig) -> int:
    """Values that the strategy's client-side rule sends beside each of the delta, as most do both
    ways."""
    import numpy as np

    from federate.strategies.load import load_strategy

    one = {"w": np.zeros(1, np.float32)}
    strategy = load_strategy(section.strategy, one, None, section.strategy_options, section.cohort)
    return len(strategy.expected_extra())


def _what_fits(section: PretrainConfig, rounds: FederateConfig) -> tuple[str, str]:
    """What an adopted base takes here, and why it is too large ("" if it is not)."""
    from federate.footprint import rounds_need
    from pretrain.adopt import adopt, settings_of
    from pretrain.capacity import asked, here, require, say_what_fits

    config, rank = settings_of(adopt(section.base, section.revision).folder), rounds.lora.rank
    found, free = here(config, section.compute, section.context, section.at_once(), rank)
    size, _, rounds_found = rounds_need(rounds, config, section.context)
    try:
        for what, bytes_ in asked(section, found):
            require(what, bytes_, free, found)
        require("rounds", size, free, rounds_found, "a smaller federate.local.batch")
    except ConfigError as error:
        return say_what_fits(found, free), str(error)
    return say_what_fits(found, free), ""


def _measure(section: PretrainConfig, lora: LoraConfig) -> tuple[int, int, float]:
    """Parameters, those that are trained in rounds, and tokens trained a second."""
    from federate.lora.adapter import attach
    from pretrain.adopt import adopt
    from pretrain.model import build_model, count, load_model
    from pretrain.speed import tokens_per_second

    if section.base:
        model = load_model(adopt(section.base, section.revision).folder)
    else:
        model = build_model(section.model, section.context, 0, section.seed)
    parameters = trained = count(model)
    if lora.rank and section.base:  # all weights might not fit
        attach(model, lora)
    rate = tokens_per_second(model, section)
    if lora.rank:
        if not section.base:
            attach(model, lora)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return parameters, trained, rate
