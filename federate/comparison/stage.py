"""Stage 6: federated beside centralised beside local-only (-> 6-comparison). Simulation only.

Definitions (own, union, public, gap closed) stand in docs/pipeline.md, the arms in federate.arms.
Every finished arm is kept, so that a killed comparison does not repeat it.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from commonroot.artifact import Artifact, Workspace, build_artifact, load_artifact, write_atomic
from commonroot.config import Section
from commonroot.errors import UsageError
from federate.comparison.arms import Federated
from federate.comparison.report import write_fragments
from federate.comparison.reruns import Reruns, validation_curve
from federate.comparison.side_by_side import make_ahead
from federate.comparison.study import Study
from federate.comparison.verdict import private_bytes, summarise
from federate.comparison.yardstick import Texts
from federate.local import Workbench
from federate.plan import FederateConfig
from federate.shards.stage import clients_of
from federate.stage import open_silos
from pretrain.mixture import reopen_mixture
from pretrain.portion import heldout_texts

__all__ = ["CompareConfig", "open_study", "run"]


class CompareConfig(Section):
    """[compare]"""

    seeds: int = Field(1, ge=1, le=11)
    """Seeds of every arm; from two on with confidence intervals. The first is that of the
    federated run, for the others its rounds are made again here."""
    local_lr: float = Field(2e-3, gt=0, le=1)
    """Peak learning rate of the local-only arm."""
    central_lr: float = Field(2e-3, gt=0, le=1)
    """Peak learning rate of the centralised arm at matched tokens."""
    central_updates_lr: float = Field(2e-3, gt=0, le=1)
    """Peak learning rate of the centralised arm at matched updates."""
    tune: bool = False
    """Try every arm at every learning rate of `grid` on the clients' validation text, and take the
    best; the federated arm keeps its own, and the report says whether the grid has a better one."""
    grid: tuple[float, ...] = Field((2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2), min_length=1)
    """Peak learning rates that are tried."""
    tune_share: float = Field(1.0, gt=0, le=1)
    """Share of an arm's steps (or rounds) that it is tried with."""
    decay: float = Field(0.5, ge=0, le=1)
    """Share of the steps over which the learning rates of these arms fall to zero."""
    matched_updates: bool = True
    """Also train the centralised arm at matched updates."""
    plain_central: bool = False
    """Where the rounds' steps are variance-reduced: also train the centralised arms with plain
    steps, one gradient pass a batch."""
    full_weights: bool = True
    """Train all weights in the arms that are not federated, also where clients train LoRA factors;
    false: the same factors."""
    iid: bool = False
    """Control: the same rounds over the clients' pooled and re-dealt training text."""
    scratch_rounds: tuple[int, ...] = ()
    """Rounds after which federated training from the base and from random weights are compared;
    empty: not at all. Both are run for the largest of them."""
    scratch_lr: float | None = Field(None, gt=0, le=1)
    """The clients' peak learning rate from random weights; unset: the best of `grid`."""
    public_blocks: int = Field(72, ge=1)
    """Blocks of held-out public text for each model."""
    prompt: str = "My fellow citizens, the government"
    """Continued by every arm in the report."""


def run(section: CompareConfig, run_dir: Path) -> Artifact:
    """Train and measure every arm; seals `run_dir`/6-comparison.

    Raises UsageError for a federated model whose clients are not simulated here.
    """
    parents = _parents(run_dir)

    def make(work: Workspace) -> dict[str, Any]:
        kept = work.scratch("arms")
        kept.mkdir(exist_ok=True)
        opened = partial(open_study, section, run_dir, work.scratch("reruns"), kept)
        return _compare(opened, parents["federated"], work)

    inputs = list(parents.values())
    return build_artifact(run_dir / "6-comparison", "comparison", inputs, section, make)


def open_study(section: CompareConfig, run_dir: Path, reruns: Path, kept: Path) -> Study:
    """The comparison of `run_dir`, nothing of it done yet.

    `reruns`: where rounds that are made again work; `kept`: folder of finished pieces.
    """
    parents = _parents(run_dir)
    base, federated = parents["base"], parents["federated"]
    rounds = FederateConfig.model_validate(federated.config)
    bench = Workbench(base.path, rounds.compute)
    opened, _ = open_silos(rounds, clients_of(parents["shards"]), bench, run_dir)
    assert bench.base_weights
    rows = json.loads((federated.path / "clients.json").read_text("utf-8"))
    silos = {name: opened[name] for name in opened if name in rows}
    done = Federated(
        run=str(federated.notes.get("run")),
        weights=Workbench(federated.path, rounds.compute).base_weights,
        clients=rows,
        curve=validation_curve(federated.path),
        tokens=int(federated.metrics["private_tokens"]),
        silos=silos,
    )
    portions = reopen_mixture(base, parents["corpus"])
    heldout = heldout_texts(portions, section.public_blocks * bench.context)
    texts = Texts(bench, silos, heldout, rounds, section.public_blocks)
    again = Reruns(reruns, run_dir / "silos" / "compare", silos)
    return Study(section, rounds, bench, texts, done, again, kept)


def _parents(run_dir: Path) -> dict[str, Artifact]:
    """By kind. Raises UsageError for a federated model whose clients are not simulated here."""
    corpus = load_artifact(run_dir / "2-corpus", "corpus")
    base = load_artifact(run_dir / "3-base", "base")
    federated = load_artifact(run_dir / "5-federated", "federated")
    if "shards" not in federated.manifest["parents"]:
        raise UsageError("compare reads several shards, so it refuses after a real deployment")
    shards = load_artifact(run_dir / "4-shards", "shards")
    return {"corpus": corpus, "base": base, "shards": shards, "federated": federated}


def _compare(opened: Callable[[], Study], federated: Artifact, work: Workspace) -> dict[str, Any]:
    study, seeds = opened(), []
    if study.section.tune:
        study.tune()
    for number in range(study.section.seeds):
        make_ahead(opened, study, number)
        seeds.append(study.one_seed(number))
    scratch = study.from_scratch() if study.section.scratch_rounds else {}
    first = study.trial(0)
    traffic = {
        **{way: int(federated.metrics[f"bytes_{way}"]) for way in ("up", "down", "final")},
        **private_bytes([study.texts.silos[name].split for name in first.players]),
    }
    metrics, tables = summarise(seeds, traffic)
    metrics["lr"] = {arm: lr for arm, lr in study.lrs().items() if arm in metrics["spread"]}
    metrics |= {"from_scratch": scratch} if scratch else {}
    tables |= {"tuning": study.tuning} if study.tuning else {}
    for name, table in tables.items():
        text = json.dumps(table, indent=1, ensure_ascii=False)
        write_atomic(work.path / f"{name}.json", text)
    write_fragments(work.path, metrics, tables, federated.metrics, study.rounds, study.section)
    return metrics
