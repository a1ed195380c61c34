"""The round loop: sample, send, validate, aggregate as replies arrive, checkpoint, resume, stop.

It talks to any engine through Flower's public Grid, and holds O(model) memory.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from commonroot.artifact import write_atomic
from commonroot.errors import ConfigError, RoundError
from commonroot.progress import Bar, MetricsLog, bar, say
from federate.agreement import Agreement
from federate.convergence import Progress
from federate.courier import RoundCourier
from federate.exchange import Exchange, Node
from federate.local import Workbench
from federate.pacing.cohort import held_out, least_asked_first
from federate.pacing.devices import devices_of
from federate.pacing.modes import discount
from federate.pacing.pacer import Pacer
from federate.plan import Plan
from federate.replies import Update
from federate.requests import EvaluateAsk
from federate.roundstate import (
    BEST,
    FINAL,
    RoundState,
    newest_round,
    read_round,
    save_named,
    save_round,
)
from federate.strategies.load import load_strategy
from federate.wire import shapes_of

if TYPE_CHECKING:
    from flwr.serverapp import Grid

__all__ = ["run_from_plan", "run_rounds"]


def run_from_plan(grid: "Grid", path: Path) -> None:
    """What the Flower ServerApp calls: the operator's plan, the operator's code."""
    run_rounds(grid, Plan.load(path))


def run_rounds(grid: "Grid", plan: Plan) -> None:
    """Run the rounds of `plan`, then evaluate and personalise every client.

    Leaves in plan.work: rounds/ (the last two checkpoints and the best), metrics.jsonl (a line a
    round), clients.json (a row a client). Raises RoundError when rounds keep missing their quorum.
    """
    _Run(grid, plan).all()


class _Run:
    def __init__(self, grid: "Grid", plan: Plan) -> None:
        self.plan, self.config = plan, plan.config
        config = plan.config
        self.exchange = Exchange(grid, config.pacing.timeout_s, config.largest_weight)
        self.log = MetricsLog(plan.work / "metrics.jsonl")
        self.folder = plan.work / "rounds"
        self.progress = Progress()
        bench = Workbench(plan.base, config.compute)
        wanted = max(plan.expect, config.min_clients)
        self.nodes = self.exchange.roster(bench.fingerprint, wanted, config.wait_s)
        away = held_out(list(self.nodes), config.hold_out, config.seed)
        self.players = [name for name in self.nodes if name not in away]
        bench.wear(config.lora)
        self.strategy = load_strategy(
            config.strategy,
            dict(bench.start()),
            config.server_lr,
            config.strategy_options,
            len(self.players),
            config.lora.scale,
        )
        if config.pacing.takes_stale and self.strategy.needs_fresh:
            raise ConfigError(
                f"strategy {config.strategy} cannot use stale replies: set "
                "federate.pacing.mode = 'synchronous', or late = 'drop'"
            )
        self.agreement = Agreement(shapes_of(self.strategy.weights), config.seed)
        devices = devices_of(self.players, config.devices)
        self.pacer: Pacer[Update | str] = Pacer(
            config.pacing, self.players, config.cohort, config.seed, devices
        )
        self.courier = RoundCourier(
            self.exchange, config, plan.run, self.nodes, devices, self.strategy, bench
        )

    def all(self) -> None:
        self._rounds(self._resume())
        if self.config.keep_best and (self.folder / BEST).exists():
            self._take(read_round(self.folder / BEST))
        last = RoundState(self.config.rounds, self.strategy.send(), {}, {})
        save_named(self.folder, FINAL, last)
        self._finish()

    def _resume(self) -> int:
        kept = newest_round(self.folder)
        if kept is None:
            self.log.keep(0, "round")
            return 0
        self._take(kept)
        self.progress = Progress.of(kept.figures["progress"])
        self.pacer.restore(kept.figures["pacer"])
        self.log.keep(kept.done, "round")
        return kept.done

    def _rounds(self, first: int) -> None:
        with bar(self.config.rounds, "federate", "rounds", done=first) as shown:
            for number in range(first, self.config.rounds):
                if self.progress.ended:
                    break
                record = self._round(number)
                self.progress.void = self.progress.void + 1 if record["void"] else 0
                if self.progress.void >= self.config.most_void_rounds:
                    raise RoundError(_no_quorum(self.progress.void, record))
                self._validate(number + 1, record)
                self.log.write(**record)
                save_round(self.folder, self._state(number + 1))
                _show(shown, record)

    def _round(self, number: int) -> dict[str, Any]:
        """One server update."""
        taken: list[Update] = []
        excluded: dict[str, str] = {}
        late = 0
        self.strategy.heat = self.config.lr(number) / self.config.local.lr
        self.strategy.begin()
        self.agreement.begin()
        self.courier.begin(number)
        for arrival in self.pacer.arrivals(self.courier):
            if isinstance(arrival.reply, Update):
                taken.append(self._add(arrival.reply, arrival.staleness))
            elif arrival.reply is None:
                late += 1
            else:
                excluded[arrival.client] = arrival.reply
                say(f"round {number}: {arrival.client} excluded: {arrival.reply}")
        goal = self.config.pacing.goal(min(self.config.cohort, len(self.players)))
        void = len(taken) < max(1, self.config.quorum * goal)
        applied = 0.0 if void else self.strategy.finish()
        self.pacer.close(not void)
        record = {
            "round": number,
            "void": void,
            "cohort": list(self.pacer.asked),
            "excluded": excluded,
            "late": late,
            "lr": self.config.lr(number),
            "tokens": 0 if void else sum(update.tokens for update in taken),
            "loss": float(np.mean([update.loss for update in taken])) if taken else 0.0,
            "delta_norm": applied,
            "cosine": self.agreement.mean(),
            "clients": self.agreement.figures(),
            "notes": {} if void else self.strategy.notes(),
            "bytes_up": sum(update.bytes for update in taken),
            "bytes_down": self.courier.bytes_down,
        }
        if self.pacer.devices:
            record["virtual_s"] = round(self.pacer.now, 6)
        return record

    def _add(self, update: Update, staleness: int) -> Update:
        """Hand a reply to the strategy; returns its figures without its tensors."""
        factor = discount(staleness, self.config.pacing.staleness_exponent)
        update = replace(update, staleness=staleness, discount=factor)
        self.strategy.add(update)
        self.agreement.add(update.client, update.delta, update.weight)
        self.pacer.accept()
        return replace(update, delta={}, extra={})

    def _validate(self, done: int, record: dict[str, Any]) -> None:
        """Measure now and then; keep the best, go back to it on divergence, or say why to stop."""
        if done % self.config.evaluate_every and done != self.config.rounds:
            return
        self.courier.begin(done)
        parcel = self.courier.parcel()
        ask = EvaluateAsk(
            run=self.plan.run,
            round=done,
            most_blocks=self.config.evaluate_blocks,
            lora=self.config.lora,
        )
        nodes = self._some(self.players, self.config.evaluate_clients)
        bpb = [row["bpb"] for _, row in self.exchange.evaluate(nodes, ask, parcel)]
        record["bytes_down"] += len(nodes) * parcel.bytes
        if not bpb:
            record["validation_bpb"] = None
            return
        record["validation_bpb"] = float(np.mean(bpb))
        verdict = self.progress.judge(self.config.stop, record["validation_bpb"], done)
        if verdict == "better":
            save_named(self.folder, BEST, self._state(done))
        elif verdict == "rollback":
            best = self.progress.best_round
            say(f"round {done}: validation diverged; back to the weights after round {best}")
            self._take(read_round(self.folder / BEST))
        if self.progress.ended:
            say(f"after round {done}: {self.progress.ended}")

    def _finish(self) -> None:
        """Test every client and let it personalise; rows are kept, so a resume asks the rest."""
        path = self.plan.work / "clients.json"
        rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        ask = EvaluateAsk(
            run=self.plan.run,
            round=self.config.rounds,
            seed=self.config.seed + 1,
            split="test",
            most_blocks=self.config.test_blocks,
            most_records=self.config.test_records,
            lora=self.config.lora,
            personal=self.config.personal,
        )
        tested = self._some(self.nodes, self.config.test_clients)
        left = {name: node for name, node in tested.items() if name not in rows}
        self.courier.begin(self.config.rounds)
        parcel = self.courier.parcel()
        write_atomic(
            self.plan.work / "delivery.json", json.dumps({"bytes": len(tested) * parcel.bytes})
        )
        with bar(len(tested), "personalise", "clients", done=len(rows)) as shown:
            for name, row in self.exchange.evaluate(left, ask, parcel):
                rows[name] = row | {"in_rounds": name in self.players}
                write_atomic(path, json.dumps(dict(sorted(rows.items())), indent=1))
                shown.advance()

    def _some(self, names: Iterable[str], count: int) -> dict[str, Node]:
        """`count` of the clients, the same each time; all for 0."""
        names = list(names)
        order = least_asked_first(names, dict.fromkeys(names, 0), self.config.seed)
        return {name: self.nodes[name] for name in sorted(order[: count or None])}

    def _state(self, done: int) -> RoundState:
        figures = {"progress": self.progress.plain(), "pacer": self.pacer.state()}
        return RoundState(done, self.strategy.weights, self.strategy.state(), figures)

    def _take(self, state: RoundState) -> None:
        self.strategy.weights = state.weights
        self.strategy.restore(state.strategy)


def _no_quorum(void: int, record: dict[str, Any]) -> str:
    reasons = "; ".join(f"{name}: {why}" for name, why in record["excluded"].items())
    return f"{void} rounds in a row missed their quorum ({reasons[:300]})"


def _show(shown: Bar, record: dict[str, Any]) -> None:
    shown.show(loss=record["loss"])
    if record.get("validation_bpb") is not None:
        shown.show(bpb=record["validation_bpb"])
    shown.advance()
