"""Stage 6: federated beside centralised beside local-only (-> 6-comparison). Simulation only.

Definitions (own, union, public, gap closed) stand in docs/pipeline.md. Every arm sees the same
private tokens: federated those of its rounds; local-only, client by client, the steps that the
client spent in rounds plus personalisation; centralised as many as federated, once with the same
batch (matched tokens) and once with the batch of a whole cohort (matched updates).
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from commonroot.artifact import Artifact, Workspace, build_artifact, load_artifact, write_atomic
from commonroot.config import Section
from commonroot.errors import UsageError
from commonroot.progress import bar
from federate.comparison_report import write_fragments
from federate.local import LocalSteps, Weights, Workbench
from federate.plan import FederateConfig
from federate.shards import clients_of
from federate.silo import Silo, seed_of
from federate.stage import open_silos
from pretrain.corpus import corpus_texts
from pretrain.evaluate import EvalSet, sample

__all__ = ["CompareConfig", "run"]


class CompareConfig(Section):
    """[compare]"""

    local_lr: float = Field(2e-3, gt=0)
    """Peak learning rate of the local-only arm."""
    central_lr: float = Field(2e-3, gt=0)
    """Peak learning rate of the centralised arm at matched tokens."""
    central_updates_lr: float = Field(2e-3, gt=0)
    """Peak learning rate of the centralised arm at matched updates."""
    decay: float = Field(0.5, ge=0, le=1)
    """Share of the steps over which these learning rates fall to zero."""
    matched_updates: bool = True
    """Also train the centralised arm at matched updates."""
    public_blocks: int = Field(24, ge=1)
    """Blocks of held-out public text for a model of one client (one model for all: 6x)."""
    prompt: str = "My fellow citizens, the government"
    """Continued by every arm in the report."""


@dataclass
class _Bench:
    """What every arm is measured with."""

    section: CompareConfig
    rounds: FederateConfig
    silos: dict[str, Silo]
    bench: Workbench
    heldout: list[str]
    federated: Weights
    run: str
    history: dict[str, dict[str, Any]]
    """Client -> what the federated run recorded of it."""

    @cached_property
    def own(self) -> dict[str, EvalSet]:
        return {
            name: self.bench.eval_set(silo.split.test, self.rounds.test_blocks)
            for name, silo in self.silos.items()
        }

    @cached_property
    def cross(self) -> dict[str, EvalSet]:
        return {name: self.bench.eval_set(s.split.test, 1) for name, s in self.silos.items()}

    @cached_property
    def public(self) -> EvalSet:
        return self.bench.eval_set(self.heldout, self.section.public_blocks)

    @cached_property
    def public_wide(self) -> EvalSet:
        return self.bench.eval_set(self.heldout, 6 * self.section.public_blocks)

    def say_something(self) -> str:
        return sample(self.bench.model, self.bench.tokenizer, self.section.prompt)


def run(section: CompareConfig, run_dir: Path) -> Artifact:
    """Train and measure every arm; seals `run_dir`/6-comparison.

    Raises UsageError for a federated model whose clients are not simulated here.
    """
    corpus = load_artifact(run_dir / "2-corpus", "corpus")
    base = load_artifact(run_dir / "3-base", "base")
    federated = load_artifact(run_dir / "5-federated", "federated")
    if "shards" not in federated.manifest["parents"]:
        raise UsageError("compare reads several shards, so it refuses after a real deployment")
    shards = load_artifact(run_dir / "4-shards", "shards")

    def make(work: Workspace) -> dict[str, Any]:
        rounds = FederateConfig.model_validate(federated.config)
        bench = Workbench(base.path, rounds.compute)
        silos, _ = open_silos(rounds, clients_of(shards), bench, run_dir)
        assert bench.base_weights
        trained = Workbench(federated.path, rounds.compute).base_weights
        history = json.loads((federated.path / "clients.json").read_text("utf-8"))
        silos = {name: silo for name, silo in silos.items() if name in history}
        heldout = corpus_texts(corpus, "heldout")
        run = str(federated.notes.get("run"))
        tools = _Bench(section, rounds, silos, bench, heldout, trained, run, history)
        return _compare(tools, federated, work)

    parents = [corpus, base, shards, federated]
    return build_artifact(run_dir / "6-comparison", "comparison", parents, section, make)


def _compare(tools: _Bench, federated: Artifact, work: Workspace) -> dict[str, Any]:
    """Measure arm by arm; a finished arm is kept, so that a killed run does not repeat it."""
    tokens = int(federated.metrics["private_tokens"])
    arms: dict[str, Callable[[], dict[str, Any]]] = {
        "base": lambda: _one_model(tools, tools.bench.base_weights, 0),
        "local_only": lambda: _each_client(tools, "local-only", _train_alone),
        "centralised": lambda: _one_model(tools, *_pool(tools, tokens, 1)),
        "federated": lambda: _one_model(tools, tools.federated, tokens),
        "personalised": lambda: _each_client(tools, "personalised", _take_personal),
    }
    if tools.section.matched_updates:
        cohort = min(tools.rounds.cohort, len(tools.silos))
        arms["centralised_matched_updates"] = lambda: _one_model(
            tools, *_pool(tools, tokens, cohort)
        )
    kept = work.scratch("arms")
    kept.mkdir(exist_ok=True)
    results = {}
    for name, measure in arms.items():
        path = kept / f"{name}.json"
        if not path.exists():
            write_atomic(path, json.dumps(measure()))
        results[name] = json.loads(path.read_text("utf-8"))
    results["personalised"]["tokens"] += tokens  # its clients were in the rounds as well
    per_client = {arm: result.pop("clients") for arm, result in results.items()}
    samples = {arm: result.pop("sample") for arm, result in results.items()}
    write_atomic(work.path / "per_client.json", json.dumps(per_client, indent=1))
    write_atomic(work.path / "samples.json", json.dumps(samples, indent=1, ensure_ascii=False))
    metrics = {**results, **_verdict(results, per_client)}
    write_fragments(
        work.path, metrics, per_client, samples, federated.metrics, tools.section.prompt
    )
    return metrics


def _verdict(
    arms: dict[str, dict[str, Any]], per_client: dict[str, dict[str, float]]
) -> dict[str, Any]:
    base, local = arms["base"]["union_bpb"], arms["local_only"]["union_bpb"]
    federated, central = arms["federated"]["union_bpb"], arms["centralised"]["union_bpb"]
    wins = sum(
        per_client["personalised"][c] < per_client["local_only"][c] for c in per_client["base"]
    )
    verdict = {
        "share_of_central_gain": _ratio(base - federated, base - central),
        "gap_closed_matched_tokens": _ratio(local - federated, local - central),
        "personalised_beats_local": wins,
        "clients": len(per_client["base"]),
    }
    if "centralised_matched_updates" in arms:
        updates = arms["centralised_matched_updates"]["union_bpb"]
        verdict["gap_closed_matched_updates"] = _ratio(local - federated, local - updates)
    return verdict


def _ratio(part: float, whole: float) -> float | None:
    """None where there is no gap to speak of."""
    return round(part / whole, 4) if whole > 0.01 else None


def _one_model(tools: _Bench, weights: Weights, tokens: int) -> dict[str, Any]:
    """A model that all clients share: on every client's test text, own and union are one."""
    tools.bench.load(weights)
    clients = {name: tools.bench.bits_per_byte(data) for name, data in tools.own.items()}
    mean = float(np.mean(list(clients.values())))
    return {
        "own_bpb": mean,
        "union_bpb": mean,
        "public_bpb": tools.bench.bits_per_byte(tools.public_wide),
        "tokens": tokens,
        "clients": clients,
        "sample": tools.say_something(),
    }


def _each_client(tools: _Bench, what: str, make: Callable[[_Bench, str], int]) -> dict[str, Any]:
    """A model for each client, left on the bench by `make`; measured before the next is made."""
    own: dict[str, float] = {}
    cells, public, tokens, said = [], [], 0, ""
    with bar(len(tools.silos), what, "clients") as shown:
        for name in tools.silos:
            tokens += make(tools, name)
            own[name] = tools.bench.bits_per_byte(tools.own[name])
            others = [data for other, data in tools.cross.items() if other != name]
            cells += [own[name], *map(tools.bench.bits_per_byte, others)]
            public.append(tools.bench.bits_per_byte(tools.public))
            said = said or tools.say_something()
            shown.advance()
    return {
        "own_bpb": float(np.mean(list(own.values()))),
        "union_bpb": float(np.mean(cells)),
        "public_bpb": float(np.mean(public)),
        "tokens": tokens,
        "clients": own,
        "sample": said,
    }


def _train_alone(tools: _Bench, name: str) -> int:
    steps = int(tools.history[name]["trained_batches"]) + tools.rounds.personal.steps
    how = _steps(tools, steps, tools.rounds.local.batch, tools.section.local_lr)
    tools.bench.load(tools.bench.base_weights)
    done = tools.bench.train(tools.silos[name].blocks, how, seed_of(tools.rounds.seed, name))
    return sum(step.tokens for step in done)


def _take_personal(tools: _Bench, name: str) -> int:
    tools.bench.load(tools.silos[name].personal_weights(tools.run))
    return int(tools.history[name]["personal_tokens"])


def _pool(tools: _Bench, tokens: int, batches: int) -> tuple[Weights, int]:
    """Train one model on everybody's text, with `batches` client batches in one."""
    size = tools.rounds.local.batch * batches
    lr = tools.section.central_lr if batches == 1 else tools.section.central_updates_lr
    how = _steps(tools, max(1, tokens // (size * tools.bench.context)), size, lr)
    tools.bench.load(tools.bench.base_weights)
    data = tools.bench.pack(list(_all_training_text(tools.silos.values())))
    with bar(how.steps, f"centralised, batch x {batches}", "steps") as shown:
        seen = 0
        for step in tools.bench.steps(data, how, tools.rounds.seed):
            seen += step.tokens
            shown.show(loss=step.loss)
            shown.advance()
    return tools.bench.read(), seen


def _all_training_text(silos: Iterable[Silo]) -> Iterable[str]:
    for silo in silos:
        yield from silo.split.train


def _steps(tools: _Bench, steps: int, batch: int, lr: float) -> LocalSteps:
    return LocalSteps(
        steps=steps,
        batch=batch,
        lr=lr,
        decay=tools.section.decay,
        warmup=tools.rounds.local.warmup,
        weight_decay=tools.rounds.local.weight_decay,
    )
