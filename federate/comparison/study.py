"""One comparison: its seeds, arm by arm, each finished piece kept until the artifact is sealed."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonroot.artifact import write_atomic
from federate.comparison.arms import (
    Federated,
    Result,
    Trial,
    each_client,
    newcomers,
    one_model,
    own_steps,
    put,
    take_personal,
    train_alone,
    train_pooled,
)
from federate.comparison.from_scratch import compare_starts, curve_config, scratch_bench
from federate.comparison.reruns import Reruns, deal, short_end
from federate.comparison.tuning import federated_score, scores, tune
from federate.comparison.yardstick import Texts
from federate.local import Weights, Workbench
from federate.plan import FederateConfig

if TYPE_CHECKING:
    from federate.comparison.stage import CompareConfig

__all__ = ["Study"]

AS_CONFIGURED = ("federated", "personalised")
"""Arms that exist before the comparison: tuning says only what the grid has to offer."""


@dataclass
class Study:
    """What all seeds share."""

    section: "CompareConfig"
    rounds: FederateConfig
    bench: Workbench
    texts: Texts
    federated: Federated
    """Of the first seed."""
    reruns: Reruns
    folder: Path
    """Of finished pieces."""
    tuning: dict[str, Any] = field(default_factory=dict)

    def tune(self) -> None:
        """Try every arm at every learning rate of the grid."""
        trial = self.trial(0)
        iid = deal(self.texts.silos, trial.players, trial.rounds.seed) if self.section.iid else {}
        self.tuning |= tune(scores(trial, self.reruns, iid), self.section.grid, self._once)

    def lrs(self) -> dict[str, float]:
        """Arm -> learning rate: configured, or tuned."""
        section, rounds = self.section, self.rounds
        configured = {
            "federated": rounds.local.lr,
            "personalised": rounds.personal.lr,
            "local_only": section.local_lr,
            "centralised": section.central_lr,
        }
        if section.matched_updates:
            configured["centralised_matched_updates"] = section.central_updates_lr
        if section.iid:
            configured["federated_iid"] = rounds.local.lr
        free = (configured.keys() - set(AS_CONFIGURED)) & self.tuning.keys()
        return configured | {arm: self.tuning[arm]["best"] for arm in sorted(free)}

    def trial(self, number: int) -> Trial:
        """Seed `number`; the federated rounds are made again for all but the first."""
        rounds, federated = self.rounds, self.federated
        if number:
            rounds = rounds.model_copy(update={"seed": rounds.seed + number})
            federated = self.reruns.again(f"federated-{number}", rounds, self.bench)
        return Trial(self.section, rounds, self.bench, self.texts, federated, self.lrs())

    def one_seed(self, number: int) -> dict[str, Any]:
        """Results of all arms, validation curves and unseen clients."""
        trial, suffix = self.trial(number), f"-{number}" if number else ""
        arms = {
            arm: self._once(arm + suffix, measure)
            for arm, measure in self._arms(trial, number).items()
        }
        arms["personalised"]["tokens"] += trial.federated.tokens  # they were in the rounds too
        curves = {"federated": trial.federated.curve}
        if "federated_iid" in arms:
            curves["federated_iid"] = arms["federated_iid"].pop("curve")
        unseen = self._once(f"unseen{suffix}", lambda: newcomers(trial)) if trial.unseen else {}
        self.reruns.forget(f"federated-{number}")
        return {"arms": arms, "curves": curves, "unseen": unseen}

    def from_scratch(self) -> dict[str, Any]:
        """Federated training from the base beside the same from random weights."""
        section, rounds, stops = self.section, self.rounds, self.section.scratch_rounds
        start = scratch_bench(self.bench, self.reruns.folder / "scratch-base", rounds.seed)
        if section.scratch_lr is None:
            trial, config = self.trial(0), curve_config(rounds, stops, rounds.local.lr)
            self.tuning |= tune(
                {
                    "from_scratch": lambda lr: federated_score(
                        trial, self.reruns, "scratch", lr, start=start, config=config
                    )
                },
                section.grid,
                self._once,
            )
        lr = section.scratch_lr or self.tuning["from_scratch"]["best"]
        found: dict[str, Any] = self._once(
            "from_scratch",
            lambda: compare_starts(
                self.reruns, rounds, self.bench, start, stops, (rounds.local.lr, lr)
            ),
        )
        return found

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, or what it gave before this comparison was killed."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            write_atomic(path, json.dumps(make()))
        return json.loads(path.read_text("utf-8"))

    def _arms(self, trial: Trial, number: int) -> dict[str, Callable[[], Result]]:
        lrs, bench, federated = trial.lrs, trial.bench, trial.federated

        def shared(weights: Weights, tokens: int) -> Result:
            put(bench, weights)
            return one_model(trial, tokens)

        def pooled(batches: int, lr: float) -> Result:
            return one_model(trial, train_pooled(trial, batches, lr))

        def alone(name: str) -> int:
            return train_alone(trial, name, lrs["local_only"], own_steps(trial, name))

        arms: dict[str, Callable[[], Result]] = {
            "base": partial(shared, bench.base_weights, 0),
            "local_only": partial(each_client, trial, "local-only", alone),
            "centralised": partial(pooled, 1, lrs["centralised"]),
            "federated": partial(shared, federated.weights, federated.tokens),
            "personalised": partial(
                each_client, trial, "personalised", partial(take_personal, trial)
            ),
        }
        if trial.section.matched_updates:
            lr = lrs["centralised_matched_updates"]
            arms["centralised_matched_updates"] = partial(pooled, trial.together, lr)
        if trial.section.iid:
            arms["federated_iid"] = partial(self._iid, trial, number)
        return arms

    def _iid(self, trial: Trial, number: int) -> Result:
        """The control: the clients' own tests, but everybody trains on everybody's text."""
        dealt = deal(self.texts.silos, trial.players, trial.rounds.seed)
        local = trial.rounds.local.model_copy(update={"lr": trial.lrs["federated_iid"]})
        config = short_end(trial.rounds, local=local)
        done = self.reruns.again(f"iid-{number}", config, self.bench, dealt)
        put(self.bench, done.weights)
        result = one_model(trial, done.tokens) | {"curve": done.curve}
        self.reruns.forget(f"iid-{number}")
        return result
