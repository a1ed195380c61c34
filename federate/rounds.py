"""The round loop: sample, send, validate, aggregate as replies arrive, checkpoint, resume.

It talks to any engine through Flower's public Grid, and holds O(model) memory.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from commonroot.artifact import write_atomic
from commonroot.errors import RoundError
from commonroot.plugins import load_plugin
from commonroot.progress import Bar, MetricsLog, bar, say
from federate.local import LocalSteps, Weights, Workbench
from federate.plan import Plan
from federate.replies import Update, check_metrics, check_update
from federate.roundstate import restore_round, save_round
from federate.wire import Shapes, encode, fingerprint, l2_norm, shapes_of
from pretrain.train import schedule

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

__all__ = ["choose_cohort", "run_from_plan", "run_rounds"]

POLL_S = 0.2
GRACE_S = 60.0
"""A message outlives the round's deadline by this much."""


def run_from_plan(grid: "Grid", path: Path) -> None:
    """What the Flower ServerApp calls: the operator's plan, the operator's code."""
    run_rounds(grid, Plan.load(path))


def run_rounds(grid: "Grid", plan: Plan) -> None:
    """Run all rounds of `plan`, then evaluate and personalise every client.

    Leaves in plan.work: rounds/ (the last two checkpoints), metrics.jsonl (a line a round),
    clients.json (a row a client). Raises RoundError when rounds keep missing their quorum.
    """
    _Run(grid, plan).all()


def choose_cohort(names: list[str], size: int, seed: int, number: int) -> list[str]:
    """The clients of round `number`: everyone takes part before anyone does so twice."""
    size = min(size, len(names))
    chosen: list[str] = []
    pick = number * size
    while len(chosen) < size:
        cycle, place = divmod(pick, len(names))
        name = names[int(np.random.default_rng([seed, cycle]).permutation(len(names))[place])]
        if name not in chosen:
            chosen.append(name)
        pick += 1
    return chosen


@dataclass(frozen=True)
class _Node:
    id: int
    shapes: Shapes


class _Run:
    def __init__(self, grid: "Grid", plan: Plan) -> None:
        self.grid, self.plan, self.config = grid, plan, plan.config
        self.log = MetricsLog(plan.work / "metrics.jsonl")
        self.folder = plan.work / "rounds"
        bench = Workbench(plan.base, self.config.compute)
        self.context = bench.context
        self.base = bench.base_weights
        self.strategy = load_plugin("commonroot.strategies", self.config.strategy)(
            dict(self.base), self.config.server_lr
        )
        self.payload = sum(map(len, encode(self.base).values()))
        self.nodes: dict[str, _Node] = {}

    def all(self) -> None:
        first = restore_round(self.folder, self.strategy)
        self.log.keep(first, "round")
        self.nodes = self._roster()
        void = 0
        with bar(self.config.rounds, "federate", "rounds", done=first) as shown:
            for number in range(first, self.config.rounds):
                record = self._round(number)
                void = void + 1 if record["void"] else 0
                if void >= self.config.most_void_rounds:
                    raise RoundError(_no_quorum(void, record))
                if (
                    number + 1
                ) % self.config.evaluate_every == 0 or number + 1 == self.config.rounds:
                    record["validation_bpb"] = self._validate(number)
                    record["bytes_down"] += len(self.nodes) * self.payload
                self.log.write(**record)
                save_round(self.folder, self.strategy, number + 1)
                _show(shown, record)
        self._finish()

    def _roster(self) -> dict[str, _Node]:
        """Ask every node who it is, until enough clients are there. Name -> node."""
        wanted, end = max(self.plan.expect, self.config.min_clients), self._end(self.config.wait_s)
        nodes: dict[str, _Node] = {}
        asked: set[int] = set()
        while True:
            new = sorted(set(self.grid.get_node_ids()) - asked)
            asked.update(new)
            messages = {str(node): self._message(node, "query", 0, {}, None) for node in new}
            for node, reply in self._exchange(messages, end):
                self._admit(nodes, int(node), reply)
            if len(nodes) >= wanted:
                return dict(sorted(nodes.items()))
            if time.monotonic() > end:
                raise RoundError(
                    f"{len(nodes)} of {wanted} clients came within {self.config.wait_s:g} s: "
                    "start more clients, or lower federate.min_clients"
                )
            time.sleep(POLL_S)

    def _admit(self, nodes: dict[str, _Node], node: int, reply: "Message") -> None:
        metrics = check_metrics(reply)
        if isinstance(metrics, str):
            return say(f"node {node} is left out: {metrics}")
        info = reply.content.config_records["info"]
        name, shares = str(info.get("client")), info.get("shares")
        shapes = shapes_of(self.base)
        if info.get("base") != fingerprint(self.base):
            return say(f"client {name} is left out: it holds another base model")
        if not isinstance(shares, list) or not shares or not set(shares) <= shapes.keys():
            return say(f"client {name} is left out: it shares no known tensor")
        if name in nodes:
            return say(f"node {node} is left out: there is a client {name} already")
        nodes[name] = _Node(node, {str(key): shapes[str(key)] for key in shares})
        return None

    def _round(self, number: int) -> dict[str, Any]:
        names = choose_cohort(list(self.nodes), self.config.cohort, self.config.seed, number)
        lr = schedule(self.config.local.lr, self.config.rounds, 0, self.config.cooldown)(number)
        how = self.config.local.model_copy(update={"lr": lr})
        accepted: dict[str, Update] = {}
        excluded: dict[str, str] = {}
        norms, tokens, up = [], 0, 0
        self.strategy.begin()
        for name, result in self._updates(names, number, how):
            if isinstance(result, str):
                excluded[name] = result
                say(f"round {number}: {name} excluded: {result}")
                continue
            self.strategy.add(result.delta, result.tokens)
            norms.append(l2_norm(result.delta))
            tokens, up = tokens + result.tokens, up + result.bytes
            accepted[name] = Update({}, result.tokens, result.loss, result.bytes)
        excluded |= {
            n: "no reply before the deadline" for n in names if n not in {*accepted, *excluded}
        }
        void = len(accepted) < max(1, self.config.quorum * len(names))
        applied = 0.0 if void else self.strategy.finish()
        return {
            "round": number,
            "void": void,
            "cohort": names,
            "excluded": excluded,
            "lr": lr,
            "tokens": 0 if void else tokens,
            "loss": float(np.mean([u.loss for u in accepted.values()])) if accepted else 0.0,
            "delta_norm": applied,
            "client_norm": float(np.mean(norms)) if norms else 0.0,
            "bytes_up": up,
            "bytes_down": len(names) * self.payload,
        }

    def _updates(
        self, names: list[str], number: int, how: LocalSteps
    ) -> Iterator[tuple[str, Update | str]]:
        config = {**how.model_dump(), "seed": self.config.seed}
        weights = self._encoded()
        messages = {
            name: self._message(self.nodes[name].id, "train", number, config, weights)
            for name in names
        }
        most = how.steps * how.batch * self.context
        for name, reply in self._exchange(messages, self._end(self.config.deadline_s)):
            shapes = self.nodes[name].shapes
            yield name, check_update(reply, shapes, most, self.config.largest_weight)

    def _validate(self, number: int) -> float | None:
        ask = {"split": "validation", "most_blocks": self.config.evaluate_blocks}
        bpb = [row["bpb"] for _, row in self._evaluate(number, ask, list(self.nodes))]
        return float(np.mean(bpb)) if bpb else None

    def _evaluate(
        self, number: int, ask: dict[str, Any], names: list[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        weights = self._encoded()
        messages = {
            name: self._message(self.nodes[name].id, "evaluate", number, ask, weights)
            for name in names
        }
        for name, reply in self._exchange(messages, self._end(self.config.deadline_s)):
            metrics = check_metrics(reply)
            bpb = None if isinstance(metrics, str) else metrics.get("bpb")
            if isinstance(metrics, str) or not isinstance(bpb, float) or not np.isfinite(bpb):
                say(f"{name} was not evaluated: {metrics}")
                continue
            yield name, metrics

    def _finish(self) -> None:
        """Test every client and let it personalise; rows are kept, so a resume asks the rest."""
        path = self.plan.work / "clients.json"
        rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        ask = {
            **self.config.personal.model_dump(),
            "seed": self.config.seed + 1,
            "split": "test",
            "most_blocks": self.config.test_blocks,
            "personalise": True,
        }
        left = [name for name in self.nodes if name not in rows]
        with bar(len(self.nodes), "personalise", "clients", done=len(rows)) as shown:
            for name, row in self._evaluate(self.config.rounds, ask, left):
                rows[name] = row
                write_atomic(path, json.dumps(dict(sorted(rows.items())), indent=1))
                shown.advance()

    def _message(
        self, node: int, kind: str, number: int, config: Mapping[str, Any], weights: Any
    ) -> "Message":
        from flwr.app import ConfigRecord, Message, RecordDict

        config = {"run": self.plan.run, "round": number, **config}
        content = RecordDict({"config": ConfigRecord(config)})
        if weights is not None:
            content["arrays"] = weights
        ttl = self.config.deadline_s + GRACE_S
        return Message(content, node, kind, ttl=ttl, group_id=str(number))

    def _exchange(
        self, messages: dict[str, "Message"], end: float
    ) -> Iterator[tuple[str, "Message"]]:
        """Push, and yield (name, reply) as replies arrive, until `end` on the monotonic clock."""
        if not messages:
            return
        ids = list(self.grid.push_messages(messages.values()))
        pending = {i: name for i, name in zip(ids, messages, strict=False) if i is not None}
        while pending:
            replies = list(self.grid.pull_messages(list(pending)))
            for reply in replies:
                name = pending.pop(reply.metadata.reply_to_message_id, None)
                if name is not None:
                    yield name, reply
            if not replies:
                if time.monotonic() > end:
                    return
                time.sleep(POLL_S)

    def _encoded(self) -> Any:
        from flwr.app import Array, ArrayRecord

        weights: Weights = self.strategy.weights
        return ArrayRecord(
            {
                name: Array("float32", weights[name].shape, "numpy.ndarray", data)
                for name, data in encode(weights).items()
            }
        )

    @staticmethod
    def _end(seconds: float) -> float:
        return time.monotonic() + seconds


def _no_quorum(void: int, record: dict[str, Any]) -> str:
    reasons = "; ".join(f"{name}: {why}" for name, why in record["excluded"].items())
    return f"{void} rounds in a row missed their quorum ({reasons[:300]})"


def _show(shown: Bar, record: dict[str, Any]) -> None:
    shown.show(loss=record["loss"])
    if record.get("validation_bpb") is not None:
        shown.show(bpb=record["validation_bpb"])
    shown.advance()
