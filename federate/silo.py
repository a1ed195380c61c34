"""The silo: THE PRIVACY BOUNDARY. It owns one shard and decides what may leave.

A request is checked, served and recorded in this order, and any failure on the way means that
nothing leaves: schema of what arrived -> local training -> delta -> withheld tensors taken out ->
clip -> codec -> ledger -> reply. What the owner's bounds do not allow is refused, whatever the
server asks.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from commonroot.artifact import write_atomic
from commonroot.errors import DataError
from federate.bounds import Refusal, SiloBounds
from federate.compression.codec import compress, decode
from federate.compression.downlink import decode_down
from federate.ledger import Ledger
from federate.local import Weights, Workbench
from federate.personalize import advance_ditto, choose
from federate.private_text import Split, read_folder, split_pieces
from federate.requests import EvaluateAsk, TrainAsk
from federate.rules import Rule, make_rule
from federate.silo_state import SiloState, read_state, write_state
from federate.wire import Shapes, decode_any, shapes_of
from federate.wire import encode as to_npy
from flowerapp.frame import FrameError, pack, unpack
from pretrain.evaluate import EvalSet
from pretrain.packing import Blocks
from pretrain.records import Document

__all__ = ["Silo", "SiloBounds", "seed_of"]

A = TypeVar("A", TrainAsk, EvaluateAsk)
Answer = tuple[dict[str, Any], dict[str, bytes]]
RULE = "rule/"
"""Leads the names of tensors that belong to a strategy's rule."""


@dataclass
class Silo:
    """One private shard and the rules of its owner.

    `home` is the silo's own folder (created 0700): ledger, kept replies, personal weights.
    """

    name: str
    shard: Path
    home: Path
    bench: Workbench
    bounds: SiloBounds

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)

    @cached_property
    def ledger(self) -> Ledger:
        """Of everything that left."""
        return Ledger(self.home / "ledger.jsonl")

    @cached_property
    def split(self) -> Split:
        """The shard's records, read once. Raises DataError if there is too little text."""
        records, skipped = read_folder(self.shard)
        split = split_pieces(records, self.bounds.piece_chars)
        split.skipped.update(skipped)
        return split

    @cached_property
    def blocks(self) -> Blocks:
        """The training records as blocks."""
        return self.bench.pack(self.split.train)

    @cached_property
    def eval_sets(self) -> dict[tuple[str, int], EvalSet]:
        """What was measured before, by split and most blocks."""
        return {}

    def answer(self, header: dict[str, Any], buffers: dict[str, bytes]) -> Answer:
        """Serve one request; a refusal is {"refused": one line} and no buffers."""
        try:
            kind = header.get("kind")
            if kind == "query":
                return self._release({"kind": "query"}, {"info": self._describe()}, {})
            if kind == "train":
                return self._train(_checked(TrainAsk, header), buffers)
            if kind == "evaluate":
                return self._evaluate(_checked(EvaluateAsk, header), buffers)
            raise Refusal("a request is query, train or evaluate")
        except Refusal as refusal:
            return {"refused": str(refusal)}, {}
        except DataError:
            return {"refused": "the client's data is not usable"}, {}

    def _describe(self) -> dict[str, Any]:
        return {"client": self.name, "base": self.bench.fingerprint, "shares": self.bounds.share}

    def _train(self, ask: TrainAsk, buffers: dict[str, bytes]) -> Answer:
        state = read_state(self.home / "state.frame", ask.run)
        if state.round == ask.round:
            return state.reply, state.sent
        if ask.round < state.round or state.served >= self.bounds.most_rounds:
            raise Refusal(f"round {ask.round} is over, or the owner's limit of rounds is reached")
        self.bounds.allow_steps(ask.local)
        self.bounds.allow_rule(ask.rule)
        self.bench.wear(ask.lora)
        start, down = self._arrived(buffers)
        start |= {name: state.withheld[name] for name in start.keys() & state.withheld.keys()}
        self.bench.load(start)
        rule = _rule(ask, self.bench, down, state.rule)
        seed, first = seed_of(ask.seed, self.name), state.next_batch
        moving = [name for name, value in self.bench.trained().items() if value.requires_grad]
        try:
            steps = self.bench.train(self.blocks, ask.local, seed, first, rule)
        finally:
            extra, state.rule = rule.finish()
        after = self.bench.read()
        trained = {name: after[name] for name in moving}
        reply, state.sent = self._leaving(ask, state, start, trained, extra)
        reply["metrics"] |= {
            "tokens": sum(step.tokens for step in steps),
            "loss": float(np.mean([step.loss for step in steps])),
        }
        if ask.personal and ask.personal.method == "ditto":
            self.bench.load(start)
            state.personal = advance_ditto(
                self.bench, self.blocks, ask.personal, seed, first, state.personal
            )
        state.round, state.served = ask.round, state.served + 1
        state.next_batch, state.reply = first + ask.local.steps, reply
        what = {
            "kind": "train",
            "run": ask.run,
            "round": ask.round,
            "tensors": sorted(state.sent),
            "norm": reply["metrics"]["delta_norm"],
        }
        # Ledger first, then the state: killed in between, the same round is trained and recorded
        # again with the same bytes; the other way round something could leave unrecorded.
        answer = self._release(what, reply, state.sent)
        write_state(self.home / "state.frame", state)
        return answer

    def _leaving(
        self, ask: TrainAsk, state: SiloState, start: Weights, trained: Weights, extra: Weights
    ) -> Answer:
        """What may leave of delta and rule, clipped as one vector and encoded; the rest is kept."""
        delta = self.bounds.shared({name: trained[name] - start[name] for name in trained})
        if not delta:
            raise Refusal("the owner shares none of these tensors")
        state.withheld = {name: trained[name] for name in trained.keys() - delta.keys()}
        for name in delta.keys() & state.residual.keys():
            delta[name] = delta[name] + ask.up.feedback * state.residual[name]
        rule = {f"{RULE}{name}": value for name, value in self.bounds.shared(extra).items()}
        clipped, norm = self.bounds.clip(delta | rule)
        number = [ask.seed, ask.round, seed_of(ask.seed, self.name)]
        sent = compress({name: clipped[name] for name in delta}, {}, ask.up, number)
        state.residual = sent.residual if ask.up.bits < 32 else {}
        out = sent.buffers | to_npy({name: clipped[name] for name in rule})
        return {"metrics": {"delta_norm": norm}, "info": {"client": self.name}}, out

    def _evaluate(self, ask: EvaluateAsk, buffers: dict[str, bytes]) -> Answer:
        if ask.personal:
            self.bounds.allow_steps(ask.personal)
        self.bench.wear(ask.lora)
        weights, _ = self._arrived(buffers)
        self.bench.load(weights)
        records = self._records(ask.split)
        data = self._eval_set(ask.split, ask.most_blocks)
        metrics: dict[str, Any] = {"bytes": data.bytes, "bpb": self.bench.bits_per_byte(data)}
        metrics |= self._task_metrics(ask, records)
        if ask.personal:
            state = read_state(self.home / "state.frame", ask.run)
            judge = self._eval_set("validation", ask.most_blocks)
            seed, first = seed_of(ask.seed, self.name), state.next_batch
            personal, figures = choose(
                self.bench, self.blocks, judge, ask.personal, seed, first, state.personal
            )
            write_atomic(self.home / "personal.frame", pack({"run": ask.run}, to_npy(personal)))
            metrics |= figures | {"personal_bpb": self.bench.bits_per_byte(data)}
            metrics |= {
                f"personal_{name}": value
                for name, value in self._task_metrics(ask, records).items()
            }
            metrics["trained_batches"] = first
        what = {"kind": "evaluate", "run": ask.run, "round": ask.round, "split": ask.split}
        return self._release(what, {"metrics": metrics, "info": {"client": self.name}}, {})

    def _records(self, split: str) -> list[Document]:
        return self.split.validation if split == "validation" else self.split.test

    def _eval_set(self, split: str, most_blocks: int) -> EvalSet:
        """Tokenised once: the same text is measured again and again."""
        key = split, most_blocks
        if key not in self.eval_sets:
            self.eval_sets[key] = self.bench.eval_set(self._records(split), most_blocks)
        return self.eval_sets[key]

    def _task_metrics(self, ask: EvaluateAsk, records: list[Document]) -> dict[str, float]:
        if not ask.most_records:
            return {}
        from federate.tasks import task_metrics

        bench, train = self.bench, self.split.train
        return task_metrics(
            bench.model, bench.tokenizer, train, records, bench.compute, ask.most_records
        )

    def personal_weights(self, run: str) -> Weights:
        """The personal model of federated run `run` (for its owner, and for a simulation)."""
        try:
            header, buffers = unpack((self.home / "personal.frame").read_bytes())
            weights = decode_any(buffers)
        except (OSError, FrameError, ValueError):
            header, weights = {}, {}
        if header.get("run") != run or shapes_of(weights) != shapes_of(self.bench.base_weights):
            raise DataError(
                f"{self.home} holds no personal model of this run: delete the run's 5-federated "
                "and run `federate` again"
            )
        return weights

    def _arrived(self, buffers: dict[str, bytes]) -> tuple[Weights, Weights]:
        """The global tensors, and those of the strategy's rule."""
        start, base = self.bench.start(), self.bench.base_weights
        groups: dict[str, dict[str, bytes]] = {"": {}, "rule": {}, "base": {}}
        for name, data in buffers.items():
            kind, slash, rest = name.partition("/")
            groups[kind if slash and kind in groups else ""][rest if slash else name] = data
        largest = self.bounds.largest_weight
        weights = decode_down(groups[""], start, largest)
        offsets = decode(groups["base"], _shapes_of_names(groups["base"], base), largest)
        rule = decode(groups["rule"], _shapes_of_names(groups["rule"], start), largest)
        if isinstance(weights, str) or isinstance(offsets, str) or isinstance(rule, str):
            raise Refusal(next(o for o in (weights, offsets, rule) if isinstance(o, str)))
        return weights | {f"base/{name}": value for name, value in offsets.items()}, rule

    def _release(
        self, what: dict[str, Any], reply: dict[str, Any], out: dict[str, bytes]
    ) -> Answer:
        """Record, then let go."""
        try:
            self.ledger.append(what, out, json.dumps(reply, sort_keys=True))
        except OSError:
            raise Refusal("the ledger cannot be written, so nothing leaves") from None
        return reply, out


def _checked(kind: type[A], header: dict[str, Any]) -> A:
    """The request of a message, or a refusal that says what is wrong with it."""
    config = header.get("config")
    text = config.get("ask") if isinstance(config, dict) else None
    try:
        return kind.model_validate_json(text if isinstance(text, str) else "")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Refusal(f"unusable request: {place} {first['msg']}"[:200]) from None


def _rule(ask: TrainAsk, bench: Workbench, down: Weights, kept: Weights) -> Rule:
    try:
        return make_rule(ask.rule, bench.trained(), down, kept, ask.local.steps)
    except ValueError as error:
        raise Refusal(f"rule: {error}") from None


def _shapes_of_names(buffers: dict[str, bytes], like: Weights) -> Shapes:
    """Shapes of the named tensors (and `kind/<tensor>`) that exist; `decode` refuses the others."""
    tensors = {name: name.rpartition("/")[2] for name in buffers}
    return {name: like[tensor].shape for name, tensor in tensors.items() if tensor in like}


def seed_of(seed: int, client: str) -> int:
    """The seed of one client's data order."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{client}".encode()).digest()[:4], "big")
