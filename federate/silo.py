"""The silo: THE PRIVACY BOUNDARY. It owns one shard and decides what may leave.

A request is checked, served and recorded in this order, and any failure on the way means that
nothing leaves: schema of what arrived -> local training -> delta -> withheld tensors taken out ->
clip -> ledger -> reply. What the owner's bounds do not allow is refused, whatever the server asks.
"""

import fnmatch
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from commonroot.artifact import write_atomic
from commonroot.config import Section
from commonroot.errors import DataError
from federate.ledger import Ledger
from federate.local import LocalSteps, Weights, Workbench
from federate.private_text import Split, read_folder, split_pieces
from federate.wire import Shapes, decode, encode, fingerprint, l2_norm, shapes_of
from flowerapp.frame import FrameError, pack, unpack
from pretrain.evaluate import EvalSet
from pretrain.packing import Blocks

__all__ = ["Silo", "SiloBounds", "seed_of"]

Answer = tuple[dict[str, Any], dict[str, bytes]]


class SiloBounds(Section):
    """What the owner of a shard allows, whatever the server asks."""

    most_steps: int = Field(1000, ge=1)
    """Local optimizer steps in one request."""
    most_lr: float = Field(0.1, gt=0)
    """Learning rate of one request."""
    most_rounds: int = Field(10_000, ge=1)
    """Training requests in one run."""
    largest_weight: float = Field(1000.0, gt=0)
    """A tensor that arrives with a larger absolute value is refused."""
    share: tuple[str, ...] = ("*",)
    """Patterns of tensor names that may leave; every other tensor stays personal, in the silo."""
    clip_norm: float = Field(0.0, ge=0)
    """L2 norm to which the delta is scaled down before it leaves; 0: not clipped."""
    piece_chars: int = Field(3000, ge=200)
    """Characters of the pieces that are split into training, validation and test."""


class Refusal(Exception):
    """The request is not served; `str()` is for the server and holds nothing private."""


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
        self.ledger = Ledger(self.home / "ledger.jsonl")

    @cached_property
    def split(self) -> Split:
        """The shard's pieces, read once. Raises DataError if there is too little text."""
        texts, skipped = read_folder(self.shard)
        split = split_pieces(texts, self.bounds.piece_chars)
        split.skipped.update(skipped)
        return split

    @cached_property
    def blocks(self) -> Blocks:
        """The training pieces as blocks."""
        return self.bench.pack(self.split.train)

    @cached_property
    def shared(self) -> Shapes:
        """Names and shapes of the tensors that may leave."""
        shapes = shapes_of(self.bench.base_weights)
        kept = {n: s for n, s in shapes.items() if any(map(_matches(n), self.bounds.share))}
        if not kept:
            raise DataError(f"silo.share {self.bounds.share} matches no tensor of the model")
        return kept

    def answer(self, header: dict[str, Any], buffers: dict[str, bytes]) -> Answer:
        """Serve one request; a refusal is {"refused": one line} and no buffers."""
        try:
            kind, config = header.get("kind"), header.get("config")
            if kind == "query":
                return self._release({"kind": "query"}, {"info": self._describe()}, {})
            if kind not in ("train", "evaluate") or not isinstance(config, dict):
                raise Refusal("a request is query, train or evaluate, with a config")
            run, number = config.pop("run", None), config.pop("round", None)
            if not (isinstance(run, str) and run.isalnum() and isinstance(number, int)):
                raise Refusal("a request names its run and round")
            serve = self._train if kind == "train" else self._evaluate
            return serve(run, number, config, buffers)
        except Refusal as refusal:
            return {"refused": str(refusal)}, {}
        except DataError:
            return {"refused": "the client's data is not usable"}, {}

    def _describe(self) -> dict[str, Any]:
        return {
            "client": self.name,
            "train_tokens": len(self.blocks.stream_N),
            "base": fingerprint(self.bench.base_weights),
            "shares": sorted(self.shared),
        }

    def _train(
        self, run: str, number: int, config: dict[str, Any], buffers: dict[str, bytes]
    ) -> Answer:
        kept, kept_buffers = self._state(run)
        if kept.get("round") == number:
            return kept["reply"], _part(kept_buffers, "delta/")
        served = kept.get("served", 0)
        if number < kept.get("round", number) or served >= self.bounds.most_rounds:
            raise Refusal(f"round {number} is over, or the owner's limit of rounds is reached")
        seed, how = self._allowed(config)
        start = self._arrived(buffers)
        start |= self._own_part(kept_buffers)
        first = kept.get("next_batch", 0)
        self.bench.load(start)
        steps = self.bench.train(self.blocks, how, seed, first)
        trained = self.bench.read()
        out, norm = self._leaving(start, trained)
        metrics = {
            "tokens": sum(step.tokens for step in steps),
            "loss": float(np.mean([step.loss for step in steps])),
            "delta_norm": norm,
        }
        reply: dict[str, Any] = {"metrics": metrics, "info": {"client": self.name}}
        state = {"round": number, "served": served + 1, "next_batch": first + how.steps}
        what = {"kind": "train", "run": run, "round": number, "tensors": len(out), "norm": norm}
        # Ledger first, then the state: killed in between, the same round is trained and recorded
        # again with the same bytes; the other way round something could leave unrecorded.
        answer = self._release(what, reply, out)
        self._keep(run, {**state, "reply": reply}, out, trained)
        return answer

    def _leaving(self, start: Weights, trained: Weights) -> tuple[dict[str, bytes], float]:
        """The shared tensors' delta, clipped and encoded, and its L2 norm."""
        delta = {name: trained[name] - start[name] for name in self.shared}
        norm = _clip(delta, self.bounds.clip_norm)
        return encode(delta), norm

    def _own_part(self, kept: dict[str, bytes]) -> Weights:
        """The withheld tensors as this client's last round left them."""
        shapes = shapes_of(self.bench.base_weights)
        found = _part(kept, "personal/")
        weights = decode(found, {name: shapes[name] for name in found}, np.inf)
        if isinstance(weights, str):
            raise Refusal("the silo's own state does not fit the model")
        return weights

    def _evaluate(
        self, run: str, number: int, config: dict[str, Any], buffers: dict[str, bytes]
    ) -> Answer:
        split = config.pop("split", "validation")
        most_blocks = config.pop("most_blocks", 0)
        personal = config.pop("personalise", False)
        if split not in ("validation", "test") or type(most_blocks) is not int or most_blocks < 0:
            raise Refusal("evaluate takes split = validation or test, and most_blocks")
        texts = self.split.validation if split == "validation" else self.split.test
        self.bench.load(self._arrived(buffers))
        data = self.bench.eval_set(texts, most_blocks)
        metrics: dict[str, Any] = {"bytes": data.bytes, "bpb": self.bench.bits_per_byte(data)}
        if personal:
            seed, how = self._allowed(config)
            judge = self.bench.eval_set(self.split.validation, most_blocks)
            metrics |= self._personalise(run, how, seed, judge, data)
        what = {"kind": "evaluate", "run": run, "round": number, "split": split}
        return self._release(what, {"metrics": metrics, "info": {"client": self.name}}, {})

    def _personalise(
        self, run: str, how: LocalSteps, seed: int, judge: EvalSet, test: EvalSet
    ) -> dict[str, Any]:
        """Fine-tune the loaded weights for this client; what `judge` (its validation text) likes
        better is kept in the silo. Only figures leave."""
        as_is, before = self.bench.bits_per_byte(judge), self.bench.read()
        kept, _ = self._state(run)
        steps = self.bench.train(self.blocks, how, seed, kept.get("next_batch", 0))
        tuned = self.bench.bits_per_byte(judge)
        if tuned > as_is:
            self.bench.load(before)
        weights = self.bench.read()
        write_atomic(self.home / "personal.frame", pack({"run": run}, encode(weights)))
        return {
            "personal_bpb": self.bench.bits_per_byte(test),
            "personal_chosen": int(tuned <= as_is),
            "personal_tokens": sum(step.tokens for step in steps),
            "trained_batches": kept.get("next_batch", 0),
        }

    def personal_weights(self, run: str) -> Weights:
        """The personal model of federated run `run` (for its owner, and for a simulation)."""
        try:
            header, buffers = unpack((self.home / "personal.frame").read_bytes())
        except (OSError, FrameError):
            header, buffers = {}, {}
        if header.get("run") != run:
            raise DataError(
                f"{self.home} holds no personal model of this run: delete the run's 5-federated "
                "and run `federate` again"
            )
        weights = decode(buffers, shapes_of(self.bench.base_weights), np.inf)
        if isinstance(weights, str):
            raise DataError(f"{self.name}: the personal model does not fit the base ({weights})")
        return weights

    def _allowed(self, config: dict[str, Any]) -> tuple[int, LocalSteps]:
        seed = config.pop("seed", 0)
        try:
            how = LocalSteps.model_validate(config)
        except ValidationError as error:
            raise Refusal(f"local steps: {error.errors()[0]['msg']}") from None
        if how.steps > self.bounds.most_steps or how.lr > self.bounds.most_lr:
            raise Refusal("more steps or a higher learning rate than the owner allows")
        return seed_of(int(seed), self.name), how

    def _arrived(self, buffers: dict[str, bytes]) -> Weights:
        expected = shapes_of(self.bench.base_weights)
        weights = decode(buffers, expected, self.bounds.largest_weight)
        if isinstance(weights, str):
            raise Refusal(weights)
        return weights

    def _release(
        self, what: dict[str, Any], reply: dict[str, Any], out: dict[str, bytes]
    ) -> Answer:
        """Record, then let go."""
        try:
            self.ledger.append(what, out, json.dumps(reply, sort_keys=True))
        except OSError:
            raise Refusal("the ledger cannot be written, so nothing leaves") from None
        return reply, out

    def _state(self, run: str) -> Answer:
        try:
            header, buffers = unpack((self.home / "state.frame").read_bytes())
        except (OSError, FrameError):
            return {}, {}
        return (header, buffers) if header.get("run") == run else ({}, {})

    def _keep(
        self, run: str, state: dict[str, Any], out: dict[str, bytes], trained: Weights
    ) -> None:
        personal = {name: value for name, value in trained.items() if name not in self.shared}
        buffers = {f"delta/{name}": data for name, data in out.items()}
        buffers |= {f"personal/{name}": data for name, data in encode(personal).items()}
        write_atomic(self.home / "state.frame", pack({"run": run, **state}, buffers))


def _part(buffers: dict[str, bytes], prefix: str) -> dict[str, bytes]:
    return {key[len(prefix) :]: data for key, data in buffers.items() if key.startswith(prefix)}


def _matches(name: str) -> Any:
    return lambda pattern: fnmatch.fnmatchcase(name, pattern)


def _clip(delta: Weights, most: float) -> float:
    """Scale `delta` in place to an L2 norm of at most `most` (0: any); returns the norm sent."""
    norm = l2_norm(delta)
    if most and norm > most:
        for value in delta.values():
            value *= most / norm
        return most
    return norm


def seed_of(seed: int, client: str) -> int:
    """The seed of one client's data order."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{client}".encode()).digest()[:4], "big")
