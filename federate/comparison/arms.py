"""The arms of the comparison: train one, measure it. Simulation only: this reads all shards.

Every arm of a seed sees the same private tokens: federated those of its rounds; local-only, client
by client, the steps that the client spent in rounds plus personalisation; centralised as many as
federated, once with the same batch (matched tokens) and once with the batch of a whole cohort
(matched updates). All of them mix in the same share of public text (federate.local.replay) and take
the same kind of steps (federate.local.svrg), but for centralised arms that are wanted plain too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from commonroot.progress import bar
from federate.comparison.yardstick import Texts
from federate.local import LocalSteps, Weights, Workbench
from federate.lora.adapter import LoraConfig
from federate.pacing.cohort import least_asked_first
from federate.plan import FederateConfig
from federate.silo import Silo, seed_of
from pretrain.evaluate import sample

if TYPE_CHECKING:
    from federate.comparison.stage import CompareConfig

__all__ = [
    "Federated",
    "Pool",
    "Result",
    "Trial",
    "each_client",
    "newcomers",
    "one_client",
    "one_model",
    "own_steps",
    "put",
    "take_personal",
    "train_alone",
    "train_pooled",
]

Result = dict[str, Any]
"""own_bpb, union_bpb, public_bpb, tokens, clients (own bpb), tests (mean of the arm's models on
each client's test text), validation_bpb (one model for all), sample."""


@dataclass(frozen=True)
class Federated:
    """Federated rounds that are over."""

    run: str
    weights: Weights
    """Of the global model, by the plain model's names."""
    clients: dict[str, dict[str, Any]]
    """What the run recorded of each client."""
    curve: list[tuple[int, float]]
    """Rounds done, bpb on the clients' validation text."""
    tokens: int
    silos: Mapping[str, Silo]
    """Their homes hold the personal models."""


@dataclass(frozen=True)
class Pool:
    """How a centralised arm trains."""

    batches: int
    """Batches of clients in one of its own."""
    plain: bool = False
    """Plain steps where the rounds' are variance-reduced."""


@dataclass
class Trial:
    """One seed of the comparison."""

    section: "CompareConfig"
    rounds: FederateConfig
    bench: Workbench
    texts: Texts
    federated: Federated
    lrs: dict[str, float] = field(default_factory=dict)
    """Arm -> peak learning rate."""

    @cached_property
    def players(self) -> list[str]:
        """Clients that took part in rounds, or could have."""
        rows = self.federated.clients.items()
        return [name for name, row in rows if row.get("in_rounds", True)]

    @cached_property
    def unseen(self) -> list[str]:
        """Clients that were kept out of all rounds."""
        return [name for name in self.federated.clients if name not in self.players]

    @cached_property
    def watched(self) -> list[str]:
        """Clients whose validation text the rounds measure."""
        names = sorted(self.players)
        most = self.rounds.evaluate_clients or len(names)
        return least_asked_first(names, dict.fromkeys(names, 0), self.rounds.seed)[:most]

    @cached_property
    def together(self) -> int:
        """Clients whose replies make one server update."""
        return self.rounds.pacing.goal(min(self.rounds.cohort, len(self.players)))

    def fresh(self) -> None:
        """Put the base on the bench, ready to train."""
        put(self.bench, self.bench.base_weights)
        self.bench.wear(LoraConfig() if self.section.full_weights else self.rounds.lora)
        self.bench.load(self.bench.start())

    def say_something(self) -> str:
        """What the model on the bench makes of the prompt."""
        return sample(self.bench.model, self.bench.tokenizer, self.section.prompt)

    @cached_property
    def pools(self) -> dict[str, Pool]:
        """The centralised arms."""
        found = {"centralised": Pool(1)}
        if self.section.matched_updates:
            found["centralised_matched_updates"] = Pool(self.together)
        if self.section.plain_central and self.rounds.local.svrg:
            plain = {f"{arm}_plain": replace(pool, plain=True) for arm, pool in found.items()}
            return found | plain
        return found

    def how(self, steps: int, batch: int, lr: float) -> LocalSteps:
        """Training of an arm that is not federated.

        AdamW's memory is as long as usual: a longer one made an unbroken run worse
        (docs/decisions.md).
        """
        usual = {field: LocalSteps.model_fields[field].default for field in ("beta_1", "beta_2")}
        here = {"steps": steps, "batch": batch, "lr": lr, "decay": self.section.decay}
        return self.rounds.local.model_copy(update=usual | here)


def put(bench: Workbench, weights: Weights) -> None:
    """All weights of a plain model on the bench, and nothing else that a model before left."""
    bench.wear(LoraConfig())
    bench.load(weights)
    bench.model.zero_grad(set_to_none=True)  # a run that diverged ends with gradients


def one_model(trial: Trial, tokens: int) -> Result:
    """Measure the model on the bench, shared by all: own and union are one."""
    texts, bench = trial.texts, trial.bench
    clients = {name: bench.bits_per_byte(texts.own[name]) for name in trial.players}
    mean = float(np.mean(list(clients.values())))
    return {
        "own_bpb": mean,
        "union_bpb": mean,
        "public_bpb": bench.bits_per_byte(texts.public),
        "tokens": tokens,
        "clients": clients,
        "tests": clients,
        "validation_bpb": texts.mean(texts.watched, trial.watched),
        "sample": trial.say_something(),
    }


def one_client(trial: Trial, name: str, make: Callable[[str], int]) -> Result:
    """Measure the model of one client that `make` leaves on the bench."""
    texts, bench = trial.texts, trial.bench
    tokens = make(name)
    own = bench.bits_per_byte(texts.own[name])
    tests = {
        other: own if other == name else bench.bits_per_byte(texts.cross[other])
        for other in trial.players
    }
    return {
        "own_bpb": own,
        "tests": tests,
        "public_bpb": bench.bits_per_byte(texts.public),
        "tokens": tokens,
        "sample": trial.say_something() if name == trial.players[0] else "",
    }


def each_client(rows: Mapping[str, Result]) -> Result:
    """What `one_client` found of every client's own model, as one arm."""
    columns = [row["tests"] for row in rows.values()]
    tests = {name: sum(column[name] for column in columns) / len(rows) for name in rows}
    own = {name: row["own_bpb"] for name, row in rows.items()}
    return {
        "own_bpb": float(np.mean(list(own.values()))),
        "union_bpb": float(np.mean(list(tests.values()))),
        "public_bpb": float(np.mean([row["public_bpb"] for row in rows.values()])),
        "tokens": sum(row["tokens"] for row in rows.values()),
        "clients": own,
        "tests": tests,
        "sample": "".join(row["sample"] for row in rows.values()),
    }


def train_alone(trial: Trial, name: str, lr: float, steps: int) -> int:
    """Train the base on one client's text; returns the tokens."""
    trial.fresh()
    how = trial.how(steps, trial.rounds.local.batch, lr)
    seed = seed_of(trial.rounds.seed, name)
    return sum(s.tokens for s in trial.bench.train(trial.texts.silos[name].blocks, how, seed))


def own_steps(trial: Trial, name: str, share: float = 1.0) -> int:
    """Steps of one client in rounds and personalisation, in batches of the rounds' size."""
    local, personal = trial.rounds.local, trial.rounds.personal
    trained = int(trial.federated.clients[name].get("trained_batches", 0))
    steps = trained + personal_shares(trial, name) * personal.steps * personal.batch / local.batch
    return max(1, round(share * steps))


def personal_shares(trial: Trial, name: str) -> int:
    """How often one client trained its personal model: Ditto does so in every round as well."""
    if trial.rounds.personal.method != "ditto":
        return 1
    trained = int(trial.federated.clients[name].get("trained_batches", 0))
    return 1 + trained // trial.rounds.local.steps


def take_personal(trial: Trial, name: str) -> int:
    """Put a client's personal model on the bench; returns the tokens it took."""
    put(trial.bench, trial.federated.silos[name].personal_weights(trial.federated.run))
    tokens = int(trial.federated.clients[name]["personal_tokens"])
    return tokens * personal_shares(trial, name)


def train_pooled(trial: Trial, pool: Pool, lr: float, share: float = 1.0) -> int:
    """Train the base on everybody's text; returns the tokens."""
    silos = [trial.texts.silos[name] for name in trial.players]
    data = trial.bench.pack([record for silo in silos for record in silo.split.train])
    size = trial.rounds.local.batch * pool.batches
    per_step = size * data.targets / len(data)
    steps = max(1, int(share * trial.federated.tokens / per_step))
    how = trial.how(steps, size, lr)
    if pool.plain:
        how = how.model_copy(update={"svrg": 0})
    trial.fresh()
    tokens = 0
    with bar(steps, f"centralised, batch x {pool.batches}", "steps") as shown:
        for step in trial.bench.steps(data, how, trial.rounds.seed):
            tokens += step.tokens
            shown.show(loss=step.loss)
            shown.advance()
    return tokens


def newcomers(trial: Trial) -> dict[str, dict[str, float]]:
    """Own bpb of the clients that no round has seen, by client and model.

    Local-only is given as many steps as personalisation takes (local_only), and as many as clients
    in rounds had on the mean (local_only_long).
    """
    typical = round(float(np.mean([own_steps(trial, name) for name in trial.players])))
    steps = {"local_only": 0, "local_only_long": typical}
    found: dict[str, dict[str, float]] = {}
    for name in trial.unseen:
        row = found[name] = {}
        for arm, weights in (
            ("base", trial.bench.base_weights),
            ("federated", trial.federated.weights),
        ):
            put(trial.bench, weights)
            row[arm] = trial.bench.bits_per_byte(trial.texts.own[name])
        for arm, number in steps.items():
            train_alone(trial, name, trial.lrs["local_only"], number or own_steps(trial, name))
            row[arm] = trial.bench.bits_per_byte(trial.texts.own[name])
        take_personal(trial, name)
        row["personalised"] = trial.bench.bits_per_byte(trial.texts.own[name])
    return found
