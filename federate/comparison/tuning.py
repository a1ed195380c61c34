"""Learning rates of the arms, all from one grid and judged on the clients' validation text."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from commonroot.errors import RoundError, TrainingError
from commonroot.progress import say
from federate.comparison.arms import Pool, Trial, own_steps, put, train_alone, train_pooled
from federate.comparison.reruns import Reruns, short_end
from federate.local import Workbench
from federate.personalize import choose
from federate.plan import FederateConfig
from federate.silo import seed_of
from pretrain.records import Document

__all__ = ["Once", "Score", "best_of", "scores", "tune"]

Score = Callable[[float], float]
"""Learning rate -> mean bpb on validation text. May raise TrainingError or RoundError."""
Once = Callable[[str, Callable[[], Any]], Any]
"""Name and work -> its result, from where it is kept if it was done before."""


def tune(arms: Mapping[str, Score], grid: Sequence[float], once: Once) -> dict[str, Any]:
    """Every arm at every learning rate: arm -> {"tried": [[lr, bpb or None]], "best": lr}.

    None stands for a run that diverged. Raises TrainingError if all of an arm's did.
    """
    table: dict[str, Any] = {}
    for arm, score in arms.items():
        tried = [
            [lr, once(f"tune-{arm}-{lr:g}", lambda s=score, x=lr: _score(s, x))]  # type: ignore[misc]
            for lr in sorted(set(grid))
        ]
        best = best_of(tried)
        if best is None:
            raise TrainingError(f"{arm} diverges at every lr of compare.grid: give lower ones")
        table[arm] = {"tried": tried, "best": best}
        say(f"compare: {arm}: lr {best:g} of {', '.join(f'{lr:g}' for lr, _ in tried)}")
    return table


def best_of(tried: Sequence[Sequence[Any]]) -> float | None:
    """The learning rate with the lowest bpb; None if all diverged."""
    valid = [(bpb, lr) for lr, bpb in tried if bpb is not None]
    return float(min(valid)[1]) if valid else None


def scores(trial: Trial, reruns: Reruns, iid: Mapping[str, list[Document]]) -> dict[str, Score]:
    """How each arm of `trial` is tried; `iid` is the re-dealt text, {} without that arm."""
    share = trial.section.tune_share
    arms: dict[str, Score] = {
        "federated": lambda lr: federated_score(trial, reruns, "federated", lr),
        "local_only": lambda lr: _alone(trial, lr, share),
    }
    arms |= {arm: partial(_pooled, trial, pool, share) for arm, pool in trial.pools.items()}
    if iid:
        arms["federated_iid"] = lambda lr: federated_score(trial, reruns, "iid", lr, train=iid)
    if trial.rounds.personal.method != "ditto":  # that is tuned as a whole run or not at all
        arms["personalised"] = lambda lr: _personal(trial, lr)
    return arms


def federated_score(
    trial: Trial,
    reruns: Reruns,
    what: str,
    lr: float,
    train: Mapping[str, list[Document]] | None = None,
    start: Workbench | None = None,
    config: FederateConfig | None = None,
) -> float:
    """Rounds with another learning rate, for a share of the rounds.

    `start`: a workbench with another model than the base; `config`: other rounds than the trial's.
    """
    config, bench = config or trial.rounds, start or trial.bench
    share = trial.section.tune_share
    weights = trial.federated.weights
    if not (what == "federated" and share == 1 and lr == config.local.lr):
        name = f"tune-{what}-{lr:g}"
        local = config.local.model_copy(update={"lr": lr})
        rounds = max(1, round(share * config.rounds))
        changed = short_end(config, local=local, rounds=rounds)
        weights = reruns.again(name, changed, bench, train).weights
        reruns.forget(name)
    put(trial.bench, weights)
    return trial.texts.mean(trial.texts.judge, trial.players)


def _score(score: Score, lr: float) -> float | None:
    try:
        return score(lr)
    except (TrainingError, RoundError) as error:
        say(f"compare: lr {lr:g} is left out: {error}")
        return None


def _alone(trial: Trial, lr: float, share: float) -> float:
    found = []
    for name in trial.players:
        train_alone(trial, name, lr, own_steps(trial, name, share))
        found.append(trial.bench.bits_per_byte(trial.texts.judge[name]))
    return float(np.mean(found))


def _pooled(trial: Trial, pool: Pool, share: float, lr: float) -> float:
    train_pooled(trial, pool, lr, share)
    return trial.texts.mean(trial.texts.judge, trial.players)


def _personal(trial: Trial, lr: float) -> float:
    """As the silos do it after the last round, all steps."""
    how = trial.rounds.personal.model_copy(update={"lr": lr})
    found = []
    for name in trial.players:
        put(trial.bench, trial.federated.weights)
        first = int(trial.federated.clients[name].get("trained_batches", 0))
        seed = seed_of(trial.rounds.seed + 1, name)
        judge = trial.texts.judge[name]
        choose(trial.bench, trial.texts.silos[name].blocks, judge, how, seed, first, {})
        found.append(trial.bench.bits_per_byte(judge))
    return float(np.mean(found))
