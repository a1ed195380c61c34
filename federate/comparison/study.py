"""One comparison: its seeds, piece by piece, each kept until the artifact is sealed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from commonroot.artifact import write_atomic
from commonroot.progress import bar
from federate.comparison.arms import (
    Federated,
    Pool,
    Result,
    Trial,
    each_client,
    newcomers,
    one_client,
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

__all__ = ["Piece", "Study"]

AS_CONFIGURED = ("federated", "personalised")
"""Arms that exist before the comparison: tuning says only what the grid has to offer."""


class Piece(NamedTuple):
    """A part of the comparison that needs no other part."""

    make: Callable[[], Result]
    passes: int
    """Tokens that go forwards through the model in it, about, and three times those that also go
    backwards: for the estimate of time."""


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
        """Any arm -> learning rate: configured, or tuned."""
        section, rounds = self.section, self.rounds
        configured = {
            "federated": rounds.local.lr,
            "personalised": rounds.personal.lr,
            "local_only": section.local_lr,
            "centralised": section.central_lr,
            "centralised_plain": section.central_lr,
            "centralised_matched_updates": section.central_updates_lr,
            "centralised_matched_updates_plain": section.central_updates_lr,
            "federated_iid": rounds.local.lr,
        }
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
        trial, suffix = self.trial(number), _suffix(number)
        done = self._made(self.pieces(trial, number))
        arms = {arm: done[arm + suffix] for arm in self._shared(trial)}
        for arm in self._own(trial):
            rows = {name: done[f"{arm}{suffix}/{name}"] for name in trial.players}
            arms[arm] = each_client(rows)
        arms["personalised"]["tokens"] += trial.federated.tokens  # they were in the rounds too
        curves = {"federated": trial.federated.curve}
        if self.section.iid:
            iid = self._once(f"federated_iid{suffix}", partial(self._iid, trial, number))
            curves["federated_iid"] = iid.pop("curve")
            arms["federated_iid"] = iid
        unseen = self._once(f"unseen{suffix}", lambda: newcomers(trial)) if trial.unseen else {}
        self.reruns.forget(f"federated-{number}")
        return {"arms": arms, "curves": curves, "unseen": unseen}

    def pieces(self, trial: Trial, number: int) -> dict[str, Piece]:
        """What the arms of seed `number` are put together from: none needs another.

        An arm with one model is a piece; an arm with a model for each client, a piece a client.
        """
        suffix, clients = _suffix(number), trial.players
        blocks = {"test": self.rounds.test_blocks, "public": self.section.public_blocks}
        wide = (len(clients) * blocks["test"] + blocks["public"]) * self.bench.context
        narrow = (len(clients) + blocks["test"] + blocks["public"]) * self.bench.context
        backwards = 3 * self.rounds.local.passes
        found: dict[str, Piece] = {}
        for arm, (measure, tokens) in self._shared(trial).items():
            found[arm + suffix] = Piece(measure, round(wide + backwards * tokens))
        for arm, (make, tokens) in self._own(trial).items():
            cost = round(narrow + backwards * tokens)
            for name in clients:
                found[f"{arm}{suffix}/{name}"] = Piece(partial(one_client, trial, name, make), cost)
        return found

    def has(self, name: str) -> bool:
        """Whether a piece is done."""
        return self._path(name).exists()

    def keep(self, name: str, piece: Piece) -> None:
        """Make a piece, unless it is done."""
        self._once(name, piece.make)

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

    def _made(self, pieces: Mapping[str, Piece]) -> dict[str, Any]:
        """All of them, by name."""
        done: dict[str, Any] = {}
        with bar(sum(piece.passes for piece in pieces.values()), "compare", "passes") as shown:
            for name, piece in pieces.items():
                done[name] = self._once(name, piece.make)
                shown.advance(piece.passes)
        return done

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, or what it gave before this comparison was killed."""
        path = self._path(name)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, json.dumps(make()))
        return json.loads(path.read_text("utf-8"))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _shared(self, trial: Trial) -> Mapping[str, tuple[Callable[[], Result], int]]:
        """Arms with one model for all: what measures it, and tokens that are trained on for it."""
        lrs, tokens = trial.lrs, trial.federated.tokens

        def as_it_is(weights: Weights, tokens: int) -> Result:
            put(trial.bench, weights)
            return one_model(trial, tokens)

        def pooled(pool: Pool, arm: str) -> Result:
            return one_model(trial, train_pooled(trial, pool, lrs[arm]))

        trained = {arm: (partial(pooled, pool, arm), tokens) for arm, pool in trial.pools.items()}
        return trained | {
            "base": (partial(as_it_is, trial.bench.base_weights, 0), 0),
            "federated": (partial(as_it_is, trial.federated.weights, tokens), 0),
        }

    def _own(self, trial: Trial) -> dict[str, tuple[Callable[[str], int], int]]:
        """Arms with a model for each client: what leaves it on the bench, and tokens for it."""

        def alone(name: str) -> int:
            return train_alone(trial, name, trial.lrs["local_only"], own_steps(trial, name))

        each = trial.federated.tokens // len(trial.players)
        return {"local_only": (alone, each), "personalised": (partial(take_personal, trial), 0)}

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


def _suffix(number: int) -> str:
    return f"-{number}" if number else ""
